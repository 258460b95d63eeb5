"""Header Protection (RFC 9788): the header fields of a mail inside its signature and encryption, and back.

The Cryptographic Payload, which is what is signed and encrypted, carries a copy of the header fields. Its
Content-Type says so with the parameter `hp`: "clear" where all of them may be seen outside as well,
"cipher" where the mail is encrypted. Then a Header Confidentiality Policy (HCP) decides what of them stays
outside, and HP-Outer fields inside tell what did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from tokensign.errors import MalformedError
from tokensign.mailboxes import same_mailbox
from tokensign.smime.header_fields import HeaderField, HeaderFields
from tokensign.smime.header_policy import outside_of
from tokensign.smime.mime_fields import is_structural, tidied

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.smime.header_policy import HeaderPolicy
    from tokensign.smime.mime import Entity

__all__ = [
    "HP_PARAMETER",
    "FieldStatus",
    "OpenedField",
    "OpenedHeader",
    "ProtectedHeader",
    "is_outer_record",
    "protect",
    "read_protected",
]

FieldStatus = Literal["unprotected", "signed-only", "signed-and-encrypted", "encrypted-only"]
"""How a header field is protected (RFC 9788 section 4.3)."""

HP_PARAMETER: Final = "hp"
_HP_OUTER: Final = "HP-Outer"
_NEVER_COPIED: Final = frozenset({"bcc", "resent-bcc", "hp-outer"})
_USER_FACING: Final = (  # RFC 9787 section 1.1.2, in the order in which people read them
    "subject", "from", "to", "cc", "date", "reply-to", "followup-to", "sender",
    "resent-from", "resent-to", "resent-cc", "resent-date", "resent-sender",
)  # fmt: skip


# --- composing


@dataclass(frozen=True, slots=True)
class ProtectedHeader:
    """The header of a mail, in two.

    Attributes:
        outside: The fields that everybody on the way sees.
        inside: The fields of the Cryptographic Payload, those of MIME aside.
        hp: The value of the parameter of its Content-Type.
        hidden: The fields for people that are not outside as they are inside: what a program that does not
            know header protection would not show.
    """

    outside: HeaderFields
    inside: HeaderFields
    hp: Literal["clear", "cipher"]
    hidden: tuple[HeaderField, ...] = ()


def protect(fields: HeaderFields, policy: HeaderPolicy | None) -> ProtectedHeader:
    """Copy the header fields of a mail into what is signed or encrypted (RFC 9788 sections 5.1 and 5.2).

    Bcc is never copied: every reader would see it.

    Args:
        fields: Those of the mail without those of MIME, each as it was received.
        policy: What stays outside of an encrypted mail; None for a mail that is only signed, where all does.
    """
    copied = [tidied(field) for field in fields if not _is_kept_out(field)]
    if policy is None:
        return ProtectedHeader(fields, HeaderFields(tuple(copied)), "clear")
    outside = [(field, outside_of(field, policy)) for field in fields if not is_structural(field)]
    recorded = [
        HeaderField(_HP_OUTER, _HP_OUTER.encode("ascii") + b": " + tidied(shown).raw)
        for field, shown in outside
        if shown is not None and not _is_kept_out(field)
    ]
    hidden = [
        field
        for name in _USER_FACING
        for field, shown in outside
        if field.name.lower() == name and (shown is None or not _same(field, shown))
    ]
    return ProtectedHeader(
        HeaderFields(tuple(shown for _, shown in outside if shown is not None)),
        HeaderFields((*copied, *recorded)),
        "cipher",
        tuple(hidden),
    )


def is_outer_record(field: HeaderField) -> bool:
    """Whether a field is HP-Outer, which means something inside of a Cryptographic Payload only."""
    return field.name.lower() == _HP_OUTER.lower()


def _is_kept_out(field: HeaderField) -> bool:
    return is_structural(field) or field.name.lower() in _NEVER_COPIED


# --- opening


@dataclass(frozen=True, slots=True)
class OpenedField:
    """A header field of a mail that was opened.

    Attributes:
        field: The field; of a protected header, that of the Cryptographic Payload.
        status: How it is protected.
        outside: Whether the same stands outside ("same"), the sender hid or shortened it there ("hidden"), or
            somebody on the way changed, removed or repeated it ("changed").
    """

    field: HeaderField
    status: FieldStatus
    outside: Literal["same", "hidden", "changed"] = "same"


@dataclass(frozen=True, slots=True)
class OpenedHeader:
    """The header of a mail that was opened.

    Attributes:
        hp: The value of the parameter in the Cryptographic Payload; None where the header is not protected.
        fields: The fields that are the mail's: the protected ones, or else those outside.
        only_outside: Fields outside that a protected header does not have, such as Received: nobody answers
            for them, and they are not to be shown as the mail's.
        from_mismatch: Whether the addresses of the protected From are not those of From outside (RFC 9788
            section 4.4.1), which what delivers mail may have checked, or cannot be read.
        outer_from: From outside.
    """

    hp: Literal["clear", "cipher"] | None
    fields: tuple[OpenedField, ...]
    only_outside: tuple[HeaderField, ...] = ()
    from_mismatch: bool = False
    outer_from: tuple[HeaderField, ...] = ()

    def shown(self, *, signer_is_sender: bool) -> HeaderFields:
        """The fields to show to people (RFC 9788 section 4.4.2).

        Args:
            signer_is_sender: Whether a valid signature is by whom the protected From names. Where it is
                not, and From outside names another, that one is shown: anybody can write a From into a
                mail.
        """
        fields = [entry.field for entry in self.fields]
        if self.from_mismatch and not signer_is_sender:
            fields = [field for field in fields if field.name.lower() != "from"]
            fields = [*self.outer_from, *fields]
        return HeaderFields(tuple(fields))


def read_protected(outer: HeaderFields, payload: Entity, *, signed: bool, encrypted: bool) -> OpenedHeader:
    """Tell which header fields of a mail are protected, and how (RFC 9788 sections 4.2 to 4.4).

    Args:
        outer: The header fields outside.
        payload: The Cryptographic Payload: the entity inside of all layers.
        signed: Whether a signature over it was verified.
        encrypted: Whether it was encrypted. A payload that says "cipher" and was not has no secrets.
    """
    said = payload.parameters.get(HP_PARAMETER, "").lower()
    visible = [field for field in outer if not is_structural(field)]
    if said not in ("clear", "cipher"):
        return OpenedHeader(None, tuple(OpenedField(field, "unprotected") for field in visible))
    inner = [field for field in payload.fields if not _is_kept_out(field)]
    hp: Literal["clear", "cipher"] = "cipher" if said == "cipher" else "clear"
    recorded = [_recorded(field) for field in payload.fields.get_all(_HP_OUTER)] if hp == "cipher" else inner
    meant, found = _said_by_name(recorded), _said_by_name(visible)
    seen = {(name, said) for name, values in meant.items() for said in values}
    names = {field.name.lower() for field in inner}
    untouched = {name for name in names if meant.get(name) == found.get(name)}
    fields = []
    for field in inner:
        was_outside = (field.name.lower(), _said(field)) in seen
        intact = field.name.lower() in untouched
        fields.append(
            OpenedField(
                field,
                _status(signed=signed, secret=encrypted and not was_outside),
                ("same" if was_outside else "hidden") if intact else "changed",
            )
        )
    return OpenedHeader(
        hp,
        tuple(fields),
        tuple(field for field in visible if field.name.lower() not in names),
        not _same_senders(outer, HeaderFields(tuple(inner))),
        outer.get_all("From"),
    )


def _status(*, signed: bool, secret: bool) -> FieldStatus:
    if secret:
        return "signed-and-encrypted" if signed else "encrypted-only"
    return "signed-only" if signed else "unprotected"


def _recorded(field: HeaderField) -> HeaderField:
    """The field that an HP-Outer field records."""
    raw = field.body
    return HeaderField(raw.partition(b":")[0].strip().decode("ascii", "replace"), raw + b"\r\n")


def _same_senders(outer: HeaderFields, inner: HeaderFields) -> bool:
    """Whether From has the same addresses outside and inside (RFC 9788 section 4.4.5)."""
    try:
        shown = [mailbox.address for mailbox in outer.addresses("From")]
        protected = [mailbox.address for mailbox in inner.addresses("From")]
    except MalformedError:
        return False
    return len(shown) == len(protected) and all(map(same_mailbox, shown, protected))


def _same(first: HeaderField, second: HeaderField) -> bool:
    """Whether two fields say the same, however they are folded."""
    return first.name.lower() == second.name.lower() and _said(first) == _said(second)


def _said(field: HeaderField) -> bytes:
    """What a field says, however it is folded."""
    return b" ".join(field.body.split())


def _said_by_name(fields: Iterable[HeaderField]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for field in fields:
        found.setdefault(field.name.lower(), []).append(_said(field))
    return found
