"""Names in certificates: e-mail addresses as they are written, and subjects as people read them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509

from tokensign.errors import UsageError
from tokensign.mailboxes import DOMAIN_MAXIMUM

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.certificates import Certificate

__all__ = ["display_name", "mailboxes", "short_name"]

_SHORT: Final = 128  # letters; names of strangers shall not fill the screen

LOCAL_PART_MAXIMUM: Final = 64  # octets, RFC 5321 section 4.5.3.1.1

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"  # RFC 5322 section 3.2.3
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # RFC 5321 section 4.1.2, sub-domain
_LOCAL_PART: Final = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def mailboxes(addresses: Iterable[str]) -> tuple[x509.RFC822Name, ...]:
    """E-mail addresses as rfc822Name (RFC 5280 section 4.2.1.6), doublets dropped.

    Args:
        addresses: Addresses such as "alice@example.org", ASCII only.

    Raises:
        UsageError: Not an address, or one with letters beyond ASCII.
    """
    return tuple(x509.RFC822Name(address) for address in dict.fromkeys(map(_mailbox, addresses)))


def _mailbox(address: str) -> str:
    local, _, domain = address.rpartition("@")
    if not domain.isascii():
        raise UsageError(
            f"the domain of {address!r} is not ASCII",
            hint="write it in its ASCII form, which begins with xn--",
        )
    if not local.isascii():
        raise UsageError(
            f"{address!r} has letters beyond ASCII before the @, which certificates made here cannot hold",
            hint="use an ASCII address of the same mailbox",
        )
    if (
        not _LOCAL_PART.fullmatch(local)
        or not _DOMAIN.fullmatch(domain)
        or len(local) > LOCAL_PART_MAXIMUM
        or len(domain) > DOMAIN_MAXIMUM
    ):
        raise UsageError(f"{address!r} is not an e-mail address", hint="write it like alice@example.org")
    return address


def display_name(certificate: Certificate) -> str:
    """What people call the subject of a certificate: its common name, all of its name, or an address."""
    return short_name(certificate.asn1.subject) or next(iter(certificate.emails), "a nameless subject")


def short_name(name: Any) -> str:  # noqa: ANN401 - asn1crypto has no types
    """What people call an asn1crypto Name: its last common name, else all of it; fit for a terminal."""
    found = [
        attribute["value"].native
        for part in name.chosen
        for attribute in part
        if attribute["type"].native == "common_name"
    ]
    text: str = found[-1] if found else name.human_friendly
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:_SHORT]
    )
