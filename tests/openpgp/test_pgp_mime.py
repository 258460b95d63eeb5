"""PGP/MIME, read and written by GnuPG."""

from __future__ import annotations

import email
import email.policy
import io
from typing import TYPE_CHECKING

import pytest

from tokensign.errors import MalformedError
from tokensign.smime.pgp_mime import open_pgp_mime_encrypted, write_pgp_mime_signed

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import EmailMessage

    from conftest import Gpg, Owner

MAIL = (
    b"From: Alice <alice@acme.example>\n"
    b"To: Bob <bob@acme.example>\n"
    b"Subject: caf\xc3\xa9\n"
    b"MIME-Version: 1.0\n"
    b'Content-Type: multipart/mixed; boundary="x"\n'
    b"\n"
    b"--x\n"
    b"Content-Type: text/plain; charset=utf-8\n"
    b"Content-Transfer-Encoding: 8bit\n"
    b"\n"
    b"From Bob I heard of the caf\xc3\xa9.  \n"
    b"--x\n"
    b"Content-Type: application/octet-stream\n"
    b"Content-Transfer-Encoding: base64\n"
    b"\n"
    b"AAECAw==\n"
    b"--x--\n"
)


def parsed(mail: bytes) -> EmailMessage:
    return email.message_from_bytes(mail, policy=email.policy.default)


def encrypted_mail(message: bytes, kind: bytes = b"application/pgp-encrypted") -> bytes:
    return (
        b"From: Bob <bob@acme.example>\r\nTo: Alice <alice@acme.example>\r\nSubject: ...\r\n"
        b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="y"\r\n\r\n'
        b"--y\r\nContent-Type: " + kind + b"\r\n\r\nVersion: 1\r\n\r\n"
        b"--y\r\nContent-Type: application/octet-stream\r\n\r\n" + message + b"\r\n--y--\r\n"
    )


@pytest.mark.parametrize("kind", ["rsa", "25519"])
def test_gnupg_verifies_the_signed_mail(owner: Callable[..., Owner], gpg: Gpg, kind: str) -> None:
    person = owner(kind)
    output = io.BytesIO()
    write_pgp_mime_signed(io.BytesIO(MAIL), person.signing, output)
    mail = output.getvalue()
    boundary = parsed(mail).get_boundary("").encode()
    _, signed, signature, _ = mail.split(b"\r\n--" + boundary)
    content = signed.removeprefix(b"\r\n")
    assert gpg.verifies(signature.partition(b"\r\n\r\n")[2], content) == person.fingerprint
    assert gpg.verifies(signature.partition(b"\r\n\r\n")[2], content.replace(b"heard", b"hear")) is None


def test_signed_mail_is_what_rfc_3156_says(owner: Callable[..., Owner]) -> None:
    output = io.BytesIO()
    write_pgp_mime_signed(io.BytesIO(MAIL), owner("p384").signing, output)
    mail = parsed(output.getvalue())
    content, signature = mail.iter_parts()
    assert mail.get_content_type() == "multipart/signed"
    assert mail.get_param("protocol") == "application/pgp-signature"
    assert mail.get_param("micalg") == "pgp-sha384"
    assert signature.get_content_type() == "application/pgp-signature"
    assert [mail["From"], mail["To"]] == ["Alice <alice@acme.example>", "Bob <bob@acme.example>"]
    text, attachment = content.iter_parts()
    assert text.get_content() == "From Bob I heard of the café.  "
    assert attachment.get_content() == b"\0\1\2\3"


def test_what_is_signed_has_only_seven_bits_and_no_white_space_at_line_ends(
    owner: Callable[..., Owner],
) -> None:
    output = io.BytesIO()
    write_pgp_mime_signed(io.BytesIO(MAIL), owner("p256").signing, output)
    body = output.getvalue().partition(b"\r\n\r\n")[2]
    assert body.isascii()
    assert not any(line.endswith((b" ", b"\t")) for line in body.split(b"\r\n"))
    assert b"\nFrom " not in body


def test_encrypted_mail_is_opened(owner: Callable[..., Owner], gpg: Gpg) -> None:
    person = owner("p256")
    inside = b"Content-Type: text/plain; charset=utf-8\r\nSubject: the plan\r\n\r\nat noon\r\n"
    message = gpg.encrypt(inside, "--armor", to=person)
    output = io.BytesIO()
    found = open_pgp_mime_encrypted(io.BytesIO(encrypted_mail(message)), [person.recipient], output)
    mail = parsed(output.getvalue())
    assert not found.signed
    assert mail["From"] == "Bob <bob@acme.example>"
    assert mail.get_all("Subject") == ["the plan"]
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content() == "at noon\r\n"


@pytest.mark.parametrize(
    "mail",
    [MAIL, encrypted_mail(b"", b"text/plain"), MAIL.replace(b"multipart/mixed", b"multipart/encrypted")],
)
def test_other_mail_is_refused(owner: Callable[..., Owner], mail: bytes) -> None:
    with pytest.raises(MalformedError, match="not a mail that is encrypted"):
        open_pgp_mime_encrypted(io.BytesIO(mail), [owner("p256").recipient], io.BytesIO())
