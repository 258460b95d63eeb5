"""Signed receipts: made for a message, and held against the message that was sent (RFC 2634 section 2).

A receipt shows that its signer had the very message and found its signature good. What the sender needs to
see that is small, and is kept as a `SentSignature`: the message itself may be encrypted to others by then.
"""

from __future__ import annotations

import hmac
import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from tokensign import der
from tokensign.cms.attributes import CONTENT_TYPE, MSG_SIG_DIGEST, attribute, parse_attributes
from tokensign.cms.content_info import DATA
from tokensign.cms.signed import sign_attached
from tokensign.cms.signer_info import DEFAULT_OPTIONS
from tokensign.errors import BadSignatureError, MalformedError, UsageError
from tokensign.ess.attributes import ess_of
from tokensign.ess.fields import SEQUENCE, fields, integer, octets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.cms.signed_data import SignerInfo
    from tokensign.cms.signer_info import SigningOptions
    from tokensign.keys import Signer

__all__ = [
    "MAX_RECEIPT_SIZE",
    "RECEIPT",
    "Receipt",
    "SentSignature",
    "check_receipt",
    "sign_receipt",
]

RECEIPT: Final = "1.2.840.113549.1.9.16.1.1"  # id-ct-receipt, RFC 2634 section 2.8
MAX_RECEIPT_SIZE: Final = 1 << 18  # octets of the content; it holds one signature, and SLH-DSA's has 50 KB
_VERSION: Final = 1
_NAME: Final = "Receipt"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The content of a receipt: which signature of which message it is for.

    Attributes:
        content_type: The contentType of the message, dotted.
        content_identifier: The signedContentIdentifier of its request.
        signature: originatorSignatureValue, the octets of the signature that was verified.
    """

    content_type: str
    content_identifier: bytes
    signature: bytes

    @classmethod
    def load(cls, encoded: bytes) -> Receipt:
        """Read a Receipt.

        Raises:
            MalformedError: It is none, of another version, or larger than `MAX_RECEIPT_SIZE`.
        """
        if not 0 < len(encoded) <= MAX_RECEIPT_SIZE:
            raise MalformedError(f"the receipt is empty, or larger than {MAX_RECEIPT_SIZE} bytes")
        version, content_type, identifier, signature = fields(encoded, SEQUENCE, _NAME, 4, 4)
        if integer(version, _NAME, 255) != _VERSION:
            raise MalformedError("the receipt is of an unknown version")
        return cls(der.dotted(content_type), octets(identifier, _NAME), octets(signature, _NAME))

    def encode(self) -> bytes:
        """The Receipt, DER."""
        return der.sequence(
            der.integer(_VERSION),
            der.object_identifier(self.content_type),
            der.octet_string(self.content_identifier),
            der.octet_string(self.signature),
        )


@dataclass(frozen=True, slots=True)
class SentSignature:
    """What a sender keeps of a signature that asks for receipts (RFC 2634 section 2.2.2).

    Attributes:
        receipt: What the content of every receipt for it must be.
        msg_sig_digest: The digest of its signed attributes, by its own digest algorithm.
    """

    receipt: Receipt
    msg_sig_digest: bytes

    @classmethod
    def of(cls, signer_info: SignerInfo) -> SentSignature:
        """What is kept of a signature, which is taken as it is and not verified.

        Raises:
            UsageError: It does not ask for a receipt.
            MalformedError: Its signed attributes are broken.
            UnsupportedError: Its digest algorithm is not known.
        """
        request = ess_of(signer_info).receipt_request
        if request is None or signer_info.signed_attributes is None:
            raise UsageError(
                "the signature does not ask for a receipt",
                hint="ask with `tokensign mail sign --request-receipt ADDRESS`",
            )
        types = dict(parse_attributes(signer_info.signed_attributes)).get(CONTENT_TYPE, ())
        content_type = der.dotted(types[0]) if types else DATA
        signed = der.set_of(*der.elements(signer_info.signed_attributes))  # in DER, as it is signed
        return cls(
            Receipt(content_type, request.content_identifier, signer_info.signature),
            signer_info.digest.new(signed).digest(),
        )

    def to_json(self) -> dict[str, str]:
        """The record as a JSON object."""
        return {
            "content_type": self.receipt.content_type,
            "content_identifier": self.receipt.content_identifier.hex(),
            "signature": self.receipt.signature.hex(),
            "msg_sig_digest": self.msg_sig_digest.hex(),
        }

    @classmethod
    def from_json(cls, document: Any) -> SentSignature:  # noqa: ANN401 - a JSON value
        """Read a record.

        Raises:
            MalformedError: It is none.
        """
        try:
            return cls(
                Receipt(
                    str(document["content_type"]),
                    bytes.fromhex(document["content_identifier"]),
                    bytes.fromhex(document["signature"]),
                ),
                bytes.fromhex(document["msg_sig_digest"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedError("this is not a record of a mail that asks for receipts") from error


def sign_receipt(
    verified: SignerInfo, signer: Signer, output: BinaryIO, options: SigningOptions = DEFAULT_OPTIONS
) -> None:
    """Write a signed receipt. Whether one is owed says `tokensign.ess.receipt_rules`.

    Args:
        verified: The signature that asks for it; the caller has verified it.
        signer: The key of the reader, with its certificate.
        output: Receives a ContentInfo with SignedData, DER.
        options: How to sign; the content type is that of receipts.

    Raises:
        UsageError: The signature asks for no receipt, or is itself one of a receipt.
        MalformedError, UnsupportedError: As for `SentSignature.of`.
        SigningError, TokenError: As for `tokensign.cms.signed.sign_attached`.
    """
    sent = SentSignature.of(verified)
    if sent.receipt.content_type == RECEIPT:
        raise UsageError("no receipt is given for a receipt")
    digest = attribute(MSG_SIG_DIGEST, der.octet_string(sent.msg_sig_digest))
    receipt_options = replace(options, content_type=RECEIPT, mime_type=None, signed_attributes=(digest,))
    sign_attached(io.BytesIO(sent.receipt.encode()), [signer], output, receipt_options)


def check_receipt(receipt: Receipt, signer_infos: Iterable[SignerInfo], sent: SentSignature) -> None:
    """Check that a signed receipt is for what was sent.

    Args:
        receipt: Its content.
        signer_infos: Its signatures, which the caller has verified.
        sent: What was kept of the message.

    Raises:
        BadSignatureError: It is for another message, or its signer had another one than what was sent.
        MalformedError: It holds what a receipt must not hold.
    """
    expected = sent.receipt
    if receipt.content_type != expected.content_type or not (
        hmac.compare_digest(receipt.content_identifier, expected.content_identifier)
        and hmac.compare_digest(receipt.signature, expected.signature)
    ):
        raise BadSignatureError(
            "the receipt is for another message",
            hint="give the mail that the receipt is for, as it was sent",
        )
    for signer_info in signer_infos:
        found = ess_of(signer_info)
        if found.receipt_request or found.mailing_lists:  # RFC 2634 sections 2.2 and 2.4.1
            raise MalformedError("the receipt asks for a receipt, or came through a mailing list")
        if not hmac.compare_digest(found.msg_sig_digest or b"", sent.msg_sig_digest):
            raise BadSignatureError("the signer of the receipt had another message than what was sent")
