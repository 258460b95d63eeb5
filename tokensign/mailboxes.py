"""E-mail addresses: when two are the same (RFC 9598).

The local part is exact, to the octet: who gave out the address knows whether "Zoë" in one or in two code
points is the same person, and nobody else does. The domain is a domain name: case does not matter, and
labels beyond ASCII (U-labels) are compared in their ASCII form (A-labels) of IDNA 2008.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

import idna

__all__ = ["DOMAIN_MAXIMUM", "a_labels", "same_mailbox"]

DOMAIN_MAXIMUM: Final = 255  # octets, RFC 5321 section 4.5.3.1.2


def same_mailbox(expected: str, certified: str) -> bool:
    """Whether a certificate's address is the one that was expected (RFC 9598 section 5).

    Args:
        expected: As a person writes it: the domain may be in U-labels, composed or not, in any case.
        certified: As a certificate has it.
    """
    local, at, domain = expected.rpartition("@")
    certified_local, certified_at, certified_domain = certified.rpartition("@")
    if not (at and local and certified_at) or local != certified_local:
        return False
    # What people write is mapped first (RFC 5895); what certificates have must be right as it is.
    wanted = a_labels(unicodedata.normalize("NFC", domain.lower()))
    return wanted is not None and wanted == a_labels(certified_domain)


@lru_cache(maxsize=256)  # the same correspondents write again and again
def a_labels(domain: str) -> str | None:
    """A domain in A-labels and lower case, or None where it is none (RFC 5891 section 4)."""
    if not domain or len(domain) > DOMAIN_MAXIMUM:
        return None
    try:
        return ".".join(
            label.lower() if label.isascii() else idna.alabel(label).decode("ascii")
            for label in domain.split(".")
        )
    except idna.IDNAError:
        return None
