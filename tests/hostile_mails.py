"""Mail that somebody built to deceive its reader, and reading it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from mail_reports import check_mail_document

from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.cms.encrypt import encrypt
from tokensign.cms.signed import sign_attached
from tokensign.keys import DecryptionKey
from tokensign.smime.compose_mail import MailOptions, sign_mail
from tokensign.smime.open_mail import open_mail

if TYPE_CHECKING:
    from tokensign.smime.mail_report import MailReport
    from tokensign.token import TokenKey
    from tokensign.verification import Expectations

__all__ = [
    "CBC",
    "FROM_ALICE",
    "FROM_MALLORY",
    "PLAIN",
    "REST",
    "TEXT",
    "Forbidden",
    "attached",
    "clear_signed",
    "enveloped",
    "html",
    "multipart",
    "opened",
    "pkcs7_mime",
    "signed",
]

TEXT = b"Content-Type: text/plain\r\n\r\nPay 100 to Bob.\r\n"
FROM_ALICE = b"From: Alice <alice@acme.example>\r\n"
FROM_MALLORY = b"From: mallory@evil.example\r\n"
REST = b"To: bob@acme.example\r\nSubject: Money\r\n"
PLAIN = FROM_ALICE + REST + TEXT
CBC = CONTENT_CIPHERS["aes-256-cbc"]


class Forbidden(Sequence[DecryptionKey]):
    """Keys that must not be touched."""

    def __len__(self) -> NoReturn:
        raise AssertionError("a key was used")

    def __getitem__(self, index: object) -> NoReturn:  # type: ignore[override]
        raise AssertionError("a key was used")


def opened(
    message: bytes, expectations: Expectations, keys: Sequence[DecryptionKey] = (), part: str = ""
) -> tuple[MailReport, bytes]:
    output = io.BytesIO()
    report = open_mail(io.BytesIO(message), expectations, keys, output, part=part)
    check_mail_document(report.to_json())
    return report, output.getvalue()


def signed(message: bytes, *signers: TokenKey, **options: bool) -> bytes:
    output = io.BytesIO()
    sign_mail(io.BytesIO(message), signers, output, MailOptions(**options))  # type: ignore[arg-type]
    return output.getvalue()


def clear_signed(entity: bytes, signature: bytes, header: bytes = FROM_ALICE + REST) -> bytes:
    """A multipart/signed without header protection, as most programs send it."""
    return (
        header
        + b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary="=s"\r\n\r\n'
        b"--=s\r\n" + entity + b"\r\n--=s\r\n"
        b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(signature) + b"--=s--\r\n"
    )


def pkcs7_mime(cms: bytes, header: bytes = b"", smime_type: bytes = b"enveloped-data") -> bytes:
    return (
        header + b"Content-Type: application/pkcs7-mime; name=smime.p7m; smime-type=" + smime_type + b"\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(cms)
    )


def multipart(*parts: bytes, header: bytes = FROM_ALICE + REST, kind: bytes = b"mixed") -> bytes:
    inside = b"".join(b"--=m\r\n" + part + b"\r\n" for part in parts)
    return header + b"Content-Type: multipart/" + kind + b"; boundary==m\r\n\r\n" + inside + b"--=m--\r\n"


def html(text: bytes) -> bytes:
    return b"Content-Type: text/html\r\n\r\n" + text


def enveloped(entity: bytes, bob: TokenKey, cipher: str = "aes-256-cbc") -> bytes:
    assert bob.certificate is not None
    output = io.BytesIO()
    encrypt(io.BytesIO(entity), [bob.certificate], output, cipher=CONTENT_CIPHERS[cipher])
    return output.getvalue()


def attached(entity: bytes, *signers: TokenKey) -> bytes:
    output = io.BytesIO()
    sign_attached(io.BytesIO(entity), signers, output)
    return output.getvalue()
