"""Header Confidentiality Policies (RFC 9788 section 3.2): what is seen outside of an encrypted mail."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Literal

from tokensign.errors import MalformedError
from tokensign.smime.addresses import parse_addresses
from tokensign.smime.header_fields import HeaderField

if TYPE_CHECKING:
    from tokensign.smime.addresses import Mailbox

__all__ = ["HeaderPolicy", "outside_of"]

HeaderPolicy = Literal["baseline", "no-confidentiality", "shy"]
"""The registered policies: "baseline" hides Subject, Comments, Keywords; "shy" names and time zones, too."""

_OBSCURED_SUBJECT: Final = b"Subject: [...]\r\n"  # RFC 9788 section 3.2.1
_REMOVED: Final = frozenset({"comments", "keywords"})
_DOT_ATOM: Final = re.compile(r"[^\s()<>\[\]:;@\\,.\"]+(?:\.[^\s()<>\[\]:;@\\,.\"]+)*")


def outside_of(field: HeaderField, policy: HeaderPolicy) -> HeaderField | None:
    """What a policy leaves of a field outside of the encryption; None where it goes (RFC 9788 section 3.2).

    What "shy" does not understand it leaves as it is, because an address that is lost loses the mail.
    """
    name = field.name.lower()
    if policy == "no-confidentiality":
        return field
    if name in _REMOVED:
        return None
    if name == "subject":
        return HeaderField(field.name, _OBSCURED_SUBJECT)
    if policy == "shy" and name in ("from", "to", "cc"):
        return _without_display_names(field)
    if policy == "shy" and name == "date":
        return _in_utc(field)
    return field


def _without_display_names(field: HeaderField) -> HeaderField:
    try:
        mailboxes = parse_addresses(field.value)
    except MalformedError:
        return field
    if not mailboxes or any(mailbox.group is not None for mailbox in mailboxes):
        return field
    if field.name.lower() == "from" and len(mailboxes) > 1:
        return field
    addresses = ",\r\n ".join(map(_addr_spec, mailboxes))
    return HeaderField(field.name, f"{field.name}: {addresses}\r\n".encode())


def _addr_spec(mailbox: Mailbox) -> str:
    local, _, domain = mailbox.address.rpartition("@")
    if not _DOT_ATOM.fullmatch(local):
        local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
    return f"{local}@{domain}"


def _in_utc(field: HeaderField) -> HeaderField:
    try:
        moment = parsedate_to_datetime(field.value)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return field
    return HeaderField(field.name, f"{field.name}: {format_datetime(moment)}\r\n".encode("ascii"))
