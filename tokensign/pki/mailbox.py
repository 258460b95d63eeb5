"""Which e-mail addresses a CA may certify (RFC 5280 section 4.2.1.10, RFC 9598 section 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tokensign.errors import UntrustedError
from tokensign.mailboxes import a_labels
from tokensign.pki.names import display_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokensign.certificates import Certificate

__all__ = ["check_mailbox_constraints"]

_SUBTREES: Final = ("permitted_subtrees", "excluded_subtrees")


def check_mailbox_constraints(members: Sequence[Certificate]) -> None:
    """Hold the addresses of a path against the rfc822Name constraints above them (RFC 9598 section 6).

    pyhanko-certvalidator does so for rfc822Name, and for emailAddress of the subject where there is no
    subjectAltName at all. Here it is done for all addresses that count: SmtpUTF8Mailbox too, and emailAddress
    beside a subjectAltName without addresses.

    Args:
        members: A path, the signer's certificate first and the anchor last.

    Raises:
        UntrustedError: An address is outside of what a CA on the path may certify.
    """
    for position, member in enumerate(members[:-1]):
        if position and member.is_self_issued:  # RFC 5280 section 6.1.3, b and c
            continue
        for ca in members[position + 1 :]:
            for address in member.emails:
                if not _allowed(address, *(list(_constraints(ca, field)) for field in _SUBTREES)):
                    raise UntrustedError(
                        f"the certificate of {display_name(member)} is for {address!r}, which"
                        f" {display_name(ca)} may not certify",
                        hint="the name constraints of that CA exclude it; ask for another certificate",
                    )


def _constraints(ca: Certificate, field: str) -> Iterator[str]:
    """The rfc822Names in the permitted or excluded subtrees of a CA; "" for one that cannot be meant."""
    constraints = ca.asn1.name_constraints_value
    for subtree in (constraints[field] if constraints is not None else None) or ():
        if subtree["base"].name == "rfc822_name":
            contents: bytes = subtree["base"].chosen.contents
            yield contents.decode("ascii") if contents.isascii() else ""


def _allowed(address: str, permitted: list[str], excluded: list[str]) -> bool:
    if not permitted and not excluded:
        return True
    local, _, domain = address.rpartition("@")
    compared = a_labels(domain)
    if compared is None or "" in excluded:  # it cannot be told what is meant, so nothing is allowed
        return False
    is_permitted = not permitted or any(_within(constraint, local, compared) for constraint in permitted)
    return is_permitted and not any(_within(constraint, local, compared) for constraint in excluded)


def _within(constraint: str, local: str, domain: str) -> bool:
    """Whether an address is the constraint, of its host, or below its domain (RFC 5280 section 4.2.1.10)."""
    mailbox, at, host = constraint.rpartition("@")
    if at and mailbox:
        return mailbox == local and host.lower() == domain
    if host.startswith("."):
        return domain.endswith(host.lower()) and domain != host.lower()
    return domain == host.lower()
