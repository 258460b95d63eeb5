"""To whom each copy of a mail is encrypted: those in Bcc are never revealed to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensign.certificates import Certificate
from tokensign.errors import UsageError
from tokensign.mailboxes import same_mailbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokensign.cms.encrypt import Recipient
    from tokensign.smime.header_fields import HeaderFields

__all__ = ["bcc_addresses", "blind_copies", "recipients_of_bcc", "recipients_of_main"]

_VISIBLE = ("To", "Cc", "Resent-To", "Resent-Cc")
_SENDERS = ("From", "Sender", "Reply-To")
_BLIND = ("Bcc", "Resent-Bcc")


def bcc_addresses(fields: HeaderFields) -> tuple[str, ...]:
    """The addresses that only Bcc names, each once.

    Raises:
        MalformedError: An address list cannot be read.
    """
    seen = _addresses(fields, _VISIBLE)
    found: list[str] = []
    for address in _addresses(fields, _BLIND):
        if not _names(address, [*seen, *found]):
            found.append(address)
    return tuple(found)


def blind_copies(fields: HeaderFields) -> tuple[str | None, ...]:
    """The copies that a mail needs: None for the one to all who are named, then the addresses in Bcc.

    Who is named in To or Cc, too, gets no other copy; where Bcc alone names recipients, there is none to all.

    Raises:
        MalformedError: An address list cannot be read.
    """
    blind = bcc_addresses(fields)
    return blind if blind and not _addresses(fields, _VISIBLE) else (None, *blind)


def recipients_of_main(
    fields: HeaderFields, recipients: Sequence[Recipient], *, every: bool
) -> list[Recipient]:
    """The recipients of the copy that everybody named in To and Cc gets.

    Args:
        fields: The header fields of the mail.
        recipients: The certificates and other recipients at hand. Those that only Bcc names are left out;
            those that no field names, such as an archive's, stay.
        every: Whether each address of To and Cc must have a certificate.

    Returns:
        None of them where the mail names recipients in Bcc only.

    Raises:
        UsageError: An address has no certificate.
        MalformedError: An address list cannot be read.
    """
    known = _addresses(fields, _VISIBLE)
    blind = bcc_addresses(fields)
    open_to_all = [*known, *_addresses(fields, _SENDERS)]
    found = [
        recipient
        for recipient in recipients
        if not _belongs(recipient, blind) or _belongs(recipient, open_to_all)
    ]
    if every and all(isinstance(recipient, Certificate) for recipient in found):
        for address in known:
            _require(address, found)
    return found if known or not blind else []


def recipients_of_bcc(address: str, recipients: Sequence[Recipient]) -> list[Recipient]:
    """The recipients of the copy for an address in Bcc: its certificates and nobody else's.

    Raises:
        UsageError: The address has no certificate.
    """
    _require(address, recipients)
    return [recipient for recipient in recipients if _belongs(recipient, [address])]


def _require(address: str, recipients: Iterable[Recipient]) -> None:
    if not any(_belongs(recipient, [address]) for recipient in recipients):
        raise UsageError(
            f"there is no certificate for {address}",
            hint="give one that was issued for this address, or take the address out of the mail",
        )


def _belongs(recipient: Recipient, addresses: Iterable[str]) -> bool:
    return isinstance(recipient, Certificate) and any(map(recipient.belongs_to, addresses))


def _names(address: str, addresses: Iterable[str]) -> bool:
    return any(same_mailbox(address, known) for known in addresses)


def _addresses(fields: HeaderFields, names: Iterable[str]) -> list[str]:
    return [mailbox.address for name in names for mailbox in fields.addresses(name)]
