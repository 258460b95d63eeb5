"""What a signature carries of the enhanced security services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tokensign import der
from tokensign.cms.attributes import (
    CONTENT_HINTS,
    EQUIVALENT_LABELS,
    ML_EXPANSION_HISTORY,
    MSG_SIG_DIGEST,
    RECEIPT_REQUEST,
    SECURITY_LABEL,
    attribute,
    parse_attributes,
)
from tokensign.cms.content_info import CONTENT_TYPE_NAMES
from tokensign.errors import MalformedError
from tokensign.ess.fields import SEQUENCE, fields, octets, single
from tokensign.ess.labels import SecurityLabel, load_equivalent_labels
from tokensign.ess.mailing_list import MailingListHistory
from tokensign.ess.receipt_request import ReceiptRequest, Receivers

if TYPE_CHECKING:
    from tokensign.cms.signed_data import SignerInfo

__all__ = ["ContentHints", "EssAttributes", "ess_of"]

_UTF8_STRING: Final = 0x0C


@dataclass(frozen=True, slots=True)
class ContentHints:
    """What the innermost content is, told at the outside (RFC 2634 section 2.9).

    Attributes:
        content_type: Dotted.
        description: A text for people, or None.
    """

    content_type: str
    description: str | None = None

    @classmethod
    def load(cls, encoded: bytes) -> ContentHints:
        """Read ContentHints.

        Raises:
            MalformedError: They are none.
        """
        found = fields(encoded, SEQUENCE, "ContentHints", 1, 2)
        content_type = der.dotted(found.pop())
        if not found:
            return cls(content_type)
        try:
            return cls(content_type, octets(found[0], "ContentHints", _UTF8_STRING).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise MalformedError("the description in ContentHints is not text") from error

    def as_attribute(self) -> bytes:
        """The signed attribute contentHints, DER, for `SigningOptions.signed_attributes`."""
        description = b"" if self.description is None else der.utf8_string(self.description)
        return attribute(CONTENT_HINTS, der.sequence(description + der.object_identifier(self.content_type)))


@dataclass(frozen=True, slots=True)
class EssAttributes:
    """The signed attributes of RFC 2634 in one signature; what is not there is None or empty.

    Attributes:
        receipt_request: Who is asked for a signed receipt.
        security_label: How sensitive the content is.
        equivalent_labels: The same in the words of other policies.
        mailing_lists: The lists that the message went through.
        content_hints: What the innermost content is.
        msg_sig_digest: In a receipt, the digest of what was signed in the message that it is for.
    """

    receipt_request: ReceiptRequest | None = None
    security_label: SecurityLabel | None = None
    equivalent_labels: tuple[SecurityLabel, ...] = ()
    mailing_lists: MailingListHistory | None = None
    content_hints: ContentHints | None = None
    msg_sig_digest: bytes | None = None

    def __bool__(self) -> bool:
        """Whether any of them is there."""
        return self != _NONE

    def to_json(self) -> dict[str, Any]:
        """What is there, as a JSON object for reports."""
        document: dict[str, Any] = {}
        if request := self.receipt_request:
            asked = request.receipts_from
            document["receipt_request"] = {
                "content_identifier": request.content_identifier.hex(),
                "from": asked.name.lower().replace("_", "-")
                if isinstance(asked, Receivers)
                else list(map(str, asked)),
                "to": list(map(str, request.receipts_to)),
            }
        if self.security_label:
            document["security_label"] = _label(self.security_label)
        if self.equivalent_labels:
            document["equivalent_labels"] = list(map(_label, self.equivalent_labels))
        if self.mailing_lists:
            document["mailing_lists"] = [
                {
                    "list": str(entry.identifier),
                    "time": entry.expansion_time.isoformat(),
                    "receipts": entry.policy.kind.name.lower().replace("_", "-") if entry.policy else None,
                }
                for entry in self.mailing_lists.expansions
            ]
        if hints := self.content_hints:
            kind = CONTENT_TYPE_NAMES.get(hints.content_type, hints.content_type)
            document["content_hints"] = {"content_type": kind, "description": hints.description}
        if self.msg_sig_digest is not None:
            document["msg_sig_digest"] = self.msg_sig_digest.hex()
        return document


_NONE: Final = EssAttributes()


def ess_of(signer_info: SignerInfo) -> EssAttributes:
    """Read what a signature carries of RFC 2634.

    Nothing of it may be acted upon before the signature was verified.

    Raises:
        MalformedError: One is broken, or has not exactly one value (RFC 2634 section 1.3.4).
    """
    if signer_info.signed_attributes is None:
        return _NONE
    found = {
        kind: single(values, _NAMES[kind])
        for kind, values in parse_attributes(signer_info.signed_attributes)
        if kind in _NAMES
    }
    if not found:
        return _NONE
    request, label = found.get(RECEIPT_REQUEST), found.get(SECURITY_LABEL)
    history, hints = found.get(ML_EXPANSION_HISTORY), found.get(CONTENT_HINTS)
    equivalent, digest = found.get(EQUIVALENT_LABELS), found.get(MSG_SIG_DIGEST)
    return EssAttributes(
        ReceiptRequest.load(request) if request else None,
        SecurityLabel.load(label) if label else None,
        load_equivalent_labels(equivalent) if equivalent else (),
        MailingListHistory.load(history) if history else None,
        ContentHints.load(hints) if hints else None,
        octets(digest, "msgSigDigest") if digest else None,
    )


_NAMES: Final = {
    RECEIPT_REQUEST: "receiptRequest",
    SECURITY_LABEL: "ESSSecurityLabel",
    EQUIVALENT_LABELS: "equivalentLabels",
    ML_EXPANSION_HISTORY: "mlExpansionHistory",
    CONTENT_HINTS: "contentHints",
    MSG_SIG_DIGEST: "msgSigDigest",
}


def _label(label: SecurityLabel) -> dict[str, Any]:
    return {
        "policy": label.policy,
        "classification": label.classification,
        "privacy_mark": label.privacy_mark,
        "categories": sorted(category.kind for category in label.categories),
    }
