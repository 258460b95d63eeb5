"""Which header fields the reader of a mail sees, and what protects each of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tokensign.errors import MalformedError
from tokensign.mailboxes import same_mailbox
from tokensign.smime.header_fields import HeaderFields
from tokensign.smime.header_protection import HP_PARAMETER, read_protected
from tokensign.smime.mail_report import FieldReport, ProtectedHeaders

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from tokensign.smime.header_protection import OpenedField, OpenedHeader
    from tokensign.smime.mime import Entity

__all__ = ["MailHeader", "is_wrapped_mail", "read_mail_header"]

_MAX_OUTSIDE: Final = 1 << 10  # characters of what stands outside; they are told beside each field of a name


@dataclass(frozen=True, slots=True)
class MailHeader:
    """The header of a mail that was opened.

    Attributes:
        report: What protects each field.
        own: The fields that are the mail's: the protected ones, or else those outside.
        opened: What header protection makes of it.
    """

    report: ProtectedHeaders
    own: HeaderFields
    opened: OpenedHeader

    def shown(self, *, signer_is_sender: bool) -> HeaderFields:
        """The fields to show to people (RFC 9788 section 4.4.2); where none is protected, all of them.

        Damaged ones are left out: some programs would see further fields in them.
        """
        fields = self.opened.shown(signer_is_sender=signer_is_sender)
        return fields.without(lambda field: field.damaged)

    @property
    def damaged(self) -> tuple[str, ...]:
        """The names of the fields that are left out."""
        return tuple(field.name for field in self.own if field.damaged)


def is_wrapped_mail(entity: Entity, outer: HeaderFields) -> bool:
    """Whether a message/rfc822 inside of all layers is there for its header (RFC 8551 section 3.1).

    Without the parameter that says so it is one where its sender is that of the mail around it; anything else
    is somebody's mail that was forwarded.
    """
    if entity.content_type != "message/rfc822" or not entity.children or entity.children[0].ambiguous:
        return False
    if entity.parameters.get("forwarded", "").lower() == "no":
        return True
    try:
        inside = [mailbox.address for mailbox in entity.children[0].fields.addresses("From")]
        outside = [mailbox.address for mailbox in outer.addresses("From")]
    except MalformedError:
        return False
    return len(inside) == len(outside) == 1 and same_mailbox(inside[0], outside[0])


def read_mail_header(
    outer: HeaderFields, payload: Entity, wrapped: Entity | None, *, signed: bool, encrypted: bool
) -> MailHeader:
    """Tell which header fields are protected.

    Args:
        outer: The header fields outside.
        payload: The entity inside of all layers.
        wrapped: The mail in message/rfc822 whose header is the protected one, or None.
        signed: Whether a signature over it was verified.
        encrypted: Whether it was encrypted.
    """
    scheme: Literal["header-protection", "wrapped"] = "header-protection"
    if HP_PARAMETER not in payload.parameters and wrapped is not None:
        scheme, payload = "wrapped", replace(wrapped, parameters={HP_PARAMETER: "clear"})
    if not (signed or encrypted):
        payload = replace(payload, parameters={})
    opened = read_protected(outer, payload, signed=signed, encrypted=encrypted)
    outside = _texts(outer)
    reports = [_field_report(entry, outside) for entry in opened.fields]
    reports += [FieldReport(field.name, field.text, "unprotected", "only") for field in opened.only_outside]
    report = ProtectedHeaders(scheme if opened.hp else None, tuple(reports))
    return MailHeader(report, HeaderFields(tuple(entry.field for entry in opened.fields)), opened)


def _texts(fields: HeaderFields) -> dict[str, str]:
    """What the fields of each name say together, shortened where it is long."""
    texts: dict[str, list[str]] = {}
    for field in fields:
        texts.setdefault(field.name.lower(), []).append(field.text)
    return {name: _shortened("; ".join(found)) for name, found in texts.items()}


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_OUTSIDE else f"{text[:_MAX_OUTSIDE]}..."


def _field_report(entry: OpenedField, outside: Mapping[str, str]) -> FieldReport:
    field = entry.field
    text = None if entry.outside == "same" else outside.get(field.name.lower()) or None
    return FieldReport(field.name, field.text, entry.status, entry.outside, text)
