"""What was found when a mail was opened: a report a layer, and what of the mail they cover.

The JSON that is made of it is described in `docs/mail.md`, and by a JSON Schema in
`docs/mail-report.schema.json`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tokensign.report import Status, Verdict

if TYPE_CHECKING:
    from tokensign.algorithms import ContentCipher
    from tokensign.certificates import Certificate
    from tokensign.report import VerificationReport
    from tokensign.smime.header_protection import FieldStatus

__all__ = [
    "FieldReport",
    "LayerKind",
    "LayerReport",
    "MailReport",
    "MailVerdict",
    "ProtectedHeaders",
]

MailVerdict = Literal["good", "bad", "intact", "partial", "unsigned"]


class LayerKind(enum.Enum):
    """What a layer does."""

    SIGNED = "signed"
    ENCRYPTED = "encrypted"
    COMPRESSED = "compressed"
    CERTS_ONLY = "certs-only"


@dataclass(frozen=True, slots=True)
class FieldReport:
    """A header field as the reader shall see it.

    Attributes:
        name: Its name.
        text: What it says, decoded.
        protection: What protects it.
        outside: Whether the header outside, which nothing protects, says the "same", the sender "hidden" it
            there, somebody "changed" it on the way, or it is "only" there.
        outside_text: What the header outside says, where that is something else; else None. Of a long text it
            is the beginning.
    """

    name: str
    text: str
    protection: FieldStatus
    outside: Literal["same", "hidden", "changed", "only"]
    outside_text: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the JSON report has it."""
        return {
            "name": self.name,
            "text": self.text,
            "protection": self.protection,
            "outside": self.outside,
            "outside_text": self.outside_text,
        }


@dataclass(frozen=True, slots=True)
class ProtectedHeaders:
    """The header fields of a mail, and what protects each.

    Attributes:
        scheme: "header-protection" (RFC 9788), "wrapped" (message/rfc822, RFC 8551 section 3.1), or None
            where no field is protected.
        fields: A report a field, without the fields of MIME.
    """

    scheme: Literal["header-protection", "wrapped"] | None = None
    fields: tuple[FieldReport, ...] = ()

    def protection_of(self, name: str) -> FieldStatus:
        """What protects a field; "unprotected" where it stands several times with different protection."""
        found = {entry.protection for entry in self.fields if entry.name.lower() == name.lower()}
        return found.pop() if len(found) == 1 else "unprotected"

    def to_json(self) -> dict[str, Any]:
        """As the JSON report has it."""
        return {"scheme": self.scheme, "fields": [entry.to_json() for entry in self.fields]}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """One layer: a signature, an encryption, or a compression around what is inside.

    Attributes:
        kind: What it does.
        path: Which part of the mail it is: "" is the whole mail, "1" is what its outermost layer holds.
        media_type: In what it came: "multipart/signed", "application/pkcs7-mime"; "application/cms" for a CMS
            message that is another one's content without MIME between them.
        verification: Of a signed layer, the report on its signatures; None where they cannot be read.
        failure: Why a signed layer cannot be verified at all, else None.
        cipher: Of an encrypted layer, how it was encrypted.
        authenticated: Of an encrypted layer, whether a tag shows that it arrived as it was encrypted. Where
            none does, as with CBC, anybody on the way may have changed it.
        recipient: Of an encrypted layer, the newest certificate of the key that opened it; None where several
            may have, or it has none.
        certificates: Those that a certs-only layer carries; nothing says that they are good.
    """

    kind: LayerKind
    path: str
    media_type: str
    verification: VerificationReport | None = None
    failure: Verdict | None = None
    cipher: ContentCipher | None = None
    authenticated: bool = False
    recipient: Certificate | None = None
    certificates: tuple[Certificate, ...] = ()

    @property
    def covers(self) -> str:
        """The path of what is inside, of which this report speaks."""
        return f"{self.path}.1" if self.path else "1"

    @property
    def holds(self) -> bool:
        """Whether nothing about it failed."""
        return self.failure is None and (self.verification is None or self.verification.holds)

    def summary(self) -> str:
        """Of a signed layer, the verdict and its reason in one sentence, without full stop."""
        name = f"part {self.path}" if self.path else "the mail"
        if self.verification is not None:
            return self.verification.summary(name)
        reason = self.failure.reason if self.failure else "there is none"
        return f"the signature on {name} cannot be verified: {reason}"

    def to_json(self) -> dict[str, Any]:
        """As the JSON report has it."""
        return {
            "kind": self.kind.value,
            "path": self.path,
            "covers": self.covers,
            "media_type": self.media_type,
            "holds": self.holds,
            "verification": self.verification.to_json() if self.verification else None,
            "failure": self.failure.to_json() if self.failure else None,
            "cipher": self.cipher.name if self.cipher else None,
            "authenticated": self.authenticated if self.kind is LayerKind.ENCRYPTED else None,
            "key": self.recipient.subject if self.recipient else None,
            "certificates": [entry.subject for entry in self.certificates],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MailReport:
    """All that was found about a mail.

    Attributes:
        layers: The layers of the whole mail, from the outside; after one that does not hold, none is opened.
        signed_parts: Signed parts of a mail that is not signed as a whole; each speaks for that part only.
        headers: The header fields, and what protects them.
        sender: Whether the mail is from whom it says: the address in From is that of all who signed.
        sender_address: The address in From, where there is exactly one, and no other one outside that may be
            the true one.
        date_offset: Seconds from Date to the time that the innermost signer names; None where one is missing.
        outside: What no verdict covers: parts beside a signed part, preambles, epilogues; in words.
        remarks: What else the reader should know; in words.
        part: The part that was opened instead of the whole mail, or "".
    """

    layers: tuple[LayerReport, ...]
    signed_parts: tuple[LayerReport, ...] = ()
    headers: ProtectedHeaders = field(default_factory=ProtectedHeaders)
    sender: Verdict
    sender_address: str | None = None
    date_offset: int | None = None
    outside: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    part: str = ""

    @property
    def signed(self) -> tuple[LayerReport, ...]:
        """The signed layers of the whole mail, from the outside."""
        return tuple(layer for layer in self.layers if layer.kind is LayerKind.SIGNED)

    @property
    def author(self) -> VerificationReport | None:
        """The report on the innermost signature: who signed what the reader reads."""
        return self.signed[-1].verification if self.signed else None

    @property
    def encrypted(self) -> bool:
        """Whether a layer of the whole mail was encrypted."""
        return any(layer.kind is LayerKind.ENCRYPTED for layer in self.layers)

    @property
    def authenticated(self) -> bool:
        """Whether a signature or the tag of each encryption shows that nobody changed the mail on its way.

        A signature around an encryption does not: whoever changed what somebody else encrypted can sign that.
        """
        kinds = (LayerKind.SIGNED, LayerKind.ENCRYPTED)
        layers = [layer for layer in self.layers if layer.kind in kinds]
        if not layers or not all(layer.holds for layer in layers):
            return False
        tagged = all(layer.authenticated for layer in layers if layer.kind is LayerKind.ENCRYPTED)
        return tagged or layers[-1].kind is LayerKind.SIGNED

    @property
    def verdict(self) -> MailVerdict:
        """In one word.

        Returns:
            "good": the whole mail is signed, all signatures hold, and From is who signed it. "bad": something
            failed. "intact": the signatures hold, but nobody vouches for it that From signed what is read.
            "partial": a part is signed, and the verdict is about that part. "unsigned": nobody signed it.
        """
        if not self.holds:
            return "bad"
        if not self.signed:
            return "partial" if self.signed_parts else "unsigned"
        if self.part:
            return "partial"
        trusted = all(layer.verification and layer.verification.verdict == "good" for layer in self.signed)
        return "good" if trusted and self.sender.status is Status.PASSED else "intact"

    @property
    def holds(self) -> bool:
        """Whether nothing failed; a mail that nobody signed holds, and proves nothing."""
        holding = all(layer.holds for layer in (*self.layers, *self.signed_parts))
        return holding and self.sender.status is not Status.FAILED

    def summary(self) -> str:
        """The verdict and its reason in one sentence, without full stop."""
        failed = next((layer for layer in (*self.layers, *self.signed_parts) if not layer.holds), None)
        if failed is not None:
            return failed.summary()
        if not self.holds:
            return self.sender.reason
        if self.verdict == "partial":
            covered = self.signed or self.signed_parts
            return f"only a part is signed: {'; '.join(layer.summary() for layer in covered)}"
        if self.author is not None:
            doubt = "" if self.verdict == "good" else f"; {self.sender.reason}"
            return f"{self.author.summary('the mail')}{doubt}"
        if not self.encrypted:
            return "nobody signed this mail"
        changed = "" if self.authenticated else " or changed"
        return f"the mail was encrypted, and nobody signed it: anybody may have sent{changed} it"

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON document; its keys are stable."""
        return {
            "verdict": self.verdict,
            "summary": self.summary(),
            "holds": self.holds,
            "encrypted": self.encrypted,
            "authenticated": self.authenticated,
            "part": self.part,
            "sender": self.sender.to_json(),
            "sender_address": self.sender_address,
            "date_offset": self.date_offset,
            "layers": [layer.to_json() for layer in self.layers],
            "signed_parts": [layer.to_json() for layer in self.signed_parts],
            "headers": self.headers.to_json(),
            "outside": list(self.outside),
            "remarks": list(self.remarks),
        }
