"""Signed receipts as mail: owed for a mail that was opened, written, and verified (RFC 2634 section 2)."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.cms.content_info import CONTENT_TYPE_NAMES
from tokensign.cms.signer_info import DEFAULT_OPTIONS
from tokensign.errors import MalformedError, NoRecipientError, PolicyError, UsageError
from tokensign.ess.attributes import ess_of
from tokensign.ess.receipt_rules import agreed_history, agreed_request, receivers_of_receipt
from tokensign.ess.receipts import (
    MAX_RECEIPT_SIZE,
    RECEIPT,
    Receipt,
    SentSignature,
    check_receipt,
    sign_receipt,
)
from tokensign.files import spool
from tokensign.smime.addresses import parse_addresses
from tokensign.smime.compose import write_pkcs7_mime
from tokensign.smime.header_fields import HeaderField, HeaderFields, format_field
from tokensign.smime.mime import read_entity
from tokensign.smime.open_mail import open_mail
from tokensign.verification import Expectations

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokensign.certificates import Certificate
    from tokensign.cms.signed_data import SignerInfo
    from tokensign.cms.signer_info import SigningOptions
    from tokensign.ess.attributes import EssAttributes
    from tokensign.keys import DecryptionKey, Signer
    from tokensign.report import VerificationReport
    from tokensign.smime.mail_report import MailReport

__all__ = [
    "OwedReceipt",
    "owed_receipt",
    "read_sent",
    "verify_receipt",
    "write_receipt_mail",
    "write_sent",
]

_MESSAGE_ID: Final = re.compile(r"<[!-;=?-~]{1,500}>")  # RFC 5322 section 3.6.4; a stranger wrote it
_RECORD_START: Final = b"{"  # of a JSON record; no mail and no CMS message begins so
_MAX_RECORD_SIZE: Final = 1 << 20  # octets; one signature of the largest scheme takes 100 KB in hexadecimal


@dataclass(frozen=True, slots=True)
class OwedReceipt:
    """A receipt that somebody asked for, and may have.

    Attributes:
        signer_info: The signature that was verified.
        receivers: The e-mail addresses to which the receipt goes.
    """

    signer_info: SignerInfo
    receivers: tuple[str, ...]


def owed_receipt(report: MailReport, certificate: Certificate) -> OwedReceipt:
    """The receipt that the holder of a certificate owes for a mail (RFC 2634 sections 2.3 and 2.5).

    The innermost signature asks for it; mailing lists write into the outermost one.

    Args:
        report: That of the mail, from `tokensign.smime.open_mail`.
        certificate: That of the reader.

    Raises:
        PolicyError: None is owed; the message says why.
        MalformedError: The request is broken.
    """
    signed = [layer.verification for layer in report.signed if layer.verification]
    if not signed or not report.holds or report.part or report.verdict == "unsigned":
        raise PolicyError(
            "a receipt is given only for a mail that is signed as a whole, when its signatures hold",
            hint="see `tokensign mail open`",
        )
    request = agreed_request(_verified(signed[-1]))
    if request is None:
        raise PolicyError("the mail does not ask for a receipt")
    history = agreed_history(_verified(signed[0]))
    receivers = receivers_of_receipt(request, history, certificate)
    mailboxes = tuple(mailbox for names in receivers for mailbox in names.mailboxes)
    if not mailboxes:
        raise PolicyError("the receipt is to go to somebody who has no e-mail address")
    asking = next(
        signer.signer_info
        for signer in signed[-1].signers
        if signer.holds and signer.signer_info and ess_of(signer.signer_info).receipt_request == request
    )
    return OwedReceipt(asking, mailboxes)


def _verified(report: VerificationReport) -> list[EssAttributes]:
    return [ess_of(signer.signer_info) for signer in report.signers if signer.holds and signer.signer_info]


def write_receipt_mail(
    owed: OwedReceipt,
    signer: Signer,
    output: BinaryIO,
    options: SigningOptions = DEFAULT_OPTIONS,
    *,
    in_reply_to: str | None = None,
) -> None:
    """Write a signed receipt as a mail to those who shall have it (RFC 2634 section 2.4).

    Args:
        owed: What is owed.
        signer: The key of the reader, with its certificate.
        output: Receives the mail.
        options: How to sign.
        in_reply_to: The Message-ID of the mail, or None; what has not the form of one is left out.

    Raises:
        UsageError: The mail is itself a receipt, or the signer's certificate has no e-mail address.
        MalformedError: The request names a receiver to whom no mail can be written.
        SigningError, TokenError: As for `tokensign.cms.signed.sign_attached`.
    """
    sender = signer.certificate.emails[0] if signer.certificate and signer.certificate.emails else None
    if sender is None:
        raise UsageError("the certificate of the key has no e-mail address, and a receipt is a mail")
    fields = [
        _address_field("From", [sender]),
        _address_field("To", owed.receivers),
        format_field("Subject", "Signed receipt"),
        format_field("Date", format_datetime(options.signing_time or datetime.now(UTC))),
        format_field("Message-ID", f"<{secrets.token_hex(16)}@{sender.rpartition('@')[2]}>"),
    ]
    if in_reply_to is not None and _MESSAGE_ID.fullmatch(in_reply_to):
        fields.append(format_field("In-Reply-To", in_reply_to))
    with spool() as message:
        sign_receipt(owed.signer_info, signer, message, options)
        message.seek(0)
        write_pkcs7_mime(message, "signed-receipt", output, HeaderFields(tuple(fields)).raw())


def _address_field(name: str, addresses: Sequence[str]) -> HeaderField:
    """A field with addresses that a stranger wrote: only what is one address to everybody goes into it."""
    for address in addresses:
        if [mailbox.address for mailbox in parse_addresses(address)] != [address]:
            raise MalformedError(f"{address!r} is not an address to which a receipt can go")
    return HeaderField(name, f"{name}: {f',{_FOLD}'.join(addresses)}\r\n".encode())


_FOLD: Final = "\r\n "


def read_sent(stream: BinaryIO) -> tuple[SentSignature, ...]:
    """What a sender kept: the signed mail as it was sent, or the record of `write_sent`.

    Args:
        stream: From its current position; it must be able to seek.

    Raises:
        UsageError: No signature of the mail asks for a receipt.
        MalformedError: It is neither of both.
        NoRecipientError: It is encrypted.
    """
    start = stream.tell()
    first = stream.read(1)
    stream.seek(start)
    if first == _RECORD_START:
        try:
            records = json.loads(stream.read(_MAX_RECORD_SIZE))["signatures"]
            if kept := tuple(map(SentSignature.from_json, records)):
                return kept
        except (ValueError, TypeError, KeyError) as error:
            raise MalformedError("this is not a record of a mail that asks for receipts") from error
        raise MalformedError("this is not a record of a mail that asks for receipts: it is empty")
    try:
        signed = open_mail(stream, Expectations(trust=None, legacy=True)).signed
    except NoRecipientError as error:
        raise NoRecipientError(
            "the mail that was sent is encrypted, and what verifies its receipts is inside",
            hint="name the mail as it was signed, before it was encrypted, or its record",
        ) from error
    innermost = signed[-1].verification if signed else None
    found = [signer.signer_info for signer in innermost.signers] if innermost else []
    asking = [entry for entry in found if entry is not None and ess_of(entry).receipt_request]
    if not asking:
        raise UsageError(
            "the mail does not ask for a receipt", hint="ask with `tokensign mail sign --request-receipt`"
        )
    return tuple(map(SentSignature.of, asking))


def write_sent(sent: Iterable[SentSignature], output: BinaryIO) -> None:
    """Write what a sender keeps of a mail that asks for receipts, as JSON (RFC 2634 section 2.2.2)."""
    document = {"signatures": [entry.to_json() for entry in sent]}
    output.write(json.dumps(document, indent=2).encode() + b"\n")


def verify_receipt(
    receipt: BinaryIO,
    sent: Sequence[SentSignature],
    expectations: Expectations,
    keys: Sequence[DecryptionKey] = (),
) -> MailReport:
    """Verify a signed receipt: its signature, and that it is for what was sent (RFC 2634 section 2.6).

    Args:
        receipt: The mail; it must be able to seek.
        sent: What was kept of the mail; the receipt is for one of its signatures.
        expectations: Whom to trust, and who must have signed.
        keys: What may decrypt the receipt.

    Returns:
        The report on the receipt. Where it holds, the receipt is for what was sent.

    Raises:
        BadSignatureError: The receipt is for another mail, or its signer had another content.
        MalformedError: It is no signed receipt.
        NoRecipientError, DecryptionError, UnsupportedError, TokenError: As for `tokensign.smime.open_mail`.
    """
    with spool() as opened:
        report = open_mail(receipt, expectations, keys, opened)
        author = report.author
        if author is None or author.content_type != CONTENT_TYPE_NAMES[RECEIPT]:
            raise MalformedError("this is not a signed receipt", hint="see `tokensign mail open`")
        if not report.holds:
            return report
        opened.seek(0)
        with read_entity(opened).decoded(opened) as content:
            found = Receipt.load(content.read(MAX_RECEIPT_SIZE + 1))
    same = [entry for entry in sent if entry.receipt == found]
    signer_infos = [signer.signer_info for signer in author.signers if signer.signer_info]
    check_receipt(found, signer_infos, (same or list(sent))[0])
    return report
