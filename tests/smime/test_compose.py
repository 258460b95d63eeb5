from __future__ import annotations

import email
import email.policy
import io
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import pytest

from tokensign.algorithms import DIGESTS
from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt
from tokensign.cms.signed import sign_attached, sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.verify import verify_signatures
from tokensign.smime.compose import as_entity, split_message, write_multipart_signed, write_pkcs7_mime
from tokensign.smime.unwrap import open_message

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.token import TokenKey

MAIL = (
    b"From: Alice <alice@acme.example>\n"
    b"Subject: a rather long\n subject, folded\n"
    b"MIME-Version: 1.0\n"
    b"Content-Type: text/plain;\n\tcharset=utf-8\n"
    b"To: bob@acme.example\n"
    b"Content-Transfer-Encoding: 8bit\n"
    b"\n"
    b"Pay 100 to Bob.\n\nContent-Type: not a field\n"
)


@dataclass
class Person:
    """A key on the token with a self-signed certificate."""

    key: TokenKey
    certificate: Certificate


@pytest.fixture(scope="module")
def bob(token_key: Callable[..., TokenKey]) -> Person:
    from tokensign.algorithms import KeyUsage
    from tokensign.pki.ca import self_signed
    from tokensign.token import open_key

    key = token_key("rsa:2048", KeyUsage.BOTH, name="smime")
    certificate = self_signed(key, "CN=bob", ["bob@acme.example"], usage=KeyUsage.BOTH)
    return Person(open_key(key.token, key.info, certificate=certificate), certificate)


@pytest.fixture
def openssl(tmp_path: Path) -> Callable[..., bytes]:
    def run(*arguments: object, feed: bytes = b"") -> bytes:
        done = subprocess.run(
            ["openssl", *map(str, arguments)],
            input=feed,
            capture_output=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    return run


def read(stream: BinaryIO) -> bytes:
    with stream:
        return stream.read()


# --- content as an entity


@pytest.mark.parametrize("start", [b"Content-Type: text/plain", b"content-type:x", b"MIME-Version: 1.0"])
def test_an_entity_is_only_made_canonical(start: bytes) -> None:
    assert read(as_entity(io.BytesIO(start + b"\n\nbody\r\n"))) == start + b"\r\n\r\nbody\r\n"


def test_other_content_is_put_into_an_entity_that_no_relay_changes() -> None:
    content = bytes(range(256)) * 10
    entity = read(as_entity(io.BytesIO(content), "data.bin"))
    assert entity.count(b"\n") == entity.count(b"\r\n")
    assert max(map(len, entity.splitlines())) <= 76
    parsed = email.message_from_bytes(entity, policy=email.policy.default)
    assert parsed.get_content_type() == "application/octet-stream"
    assert parsed.get_filename() == "data.bin"
    assert parsed.get_content() == content


def test_a_name_in_any_script_and_no_name() -> None:
    named = read(as_entity(io.BytesIO(b"x"), "Verträge\r\nBcc: mallory.pdf"))
    assert email.message_from_bytes(named, policy=email.policy.default)["bcc"] is None
    assert named.isascii()
    assert b"Disposition" not in read(as_entity(io.BytesIO(b"x")))


# --- mails in two


def test_a_mail_is_split_into_its_fields_and_the_entity() -> None:
    outer, entity = split_message(MAIL)
    assert outer == (
        b"From: Alice <alice@acme.example>\r\n"
        b"Subject: a rather long\r\n subject, folded\r\n"
        b"To: bob@acme.example\r\n"
    )
    assert entity == (
        b"Content-Type: text/plain;\r\n\tcharset=utf-8\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n"
        b"\r\n"
        b"Pay 100 to Bob.\r\n\r\nContent-Type: not a field\r\n"
    )


@pytest.mark.parametrize("mail", [b"Subject: x\n", b"Subject: x", b"Subject: x\r\n\r\n"])
def test_a_mail_without_body_is_split(mail: bytes) -> None:
    outer, entity = split_message(mail)
    assert outer == b"Subject: x\r\n"
    assert entity.strip() == b""


def test_a_mail_without_header_is_split() -> None:
    assert split_message(b"\nonly a body\n") == (b"", b"\r\nonly a body\r\n")


# --- there and back


def clear_signed(bob: Person) -> tuple[bytes, bytes]:
    outer, entity = split_message(MAIL)
    signature = sign_detached(io.BytesIO(entity), [bob.key])
    output = io.BytesIO()
    write_multipart_signed(io.BytesIO(entity), signature, [DIGESTS["sha256"]], output, outer)
    return output.getvalue(), entity


def test_a_clear_signed_mail_is_what_the_rfc_says(bob: Person) -> None:
    """RFC 8551 section 3.5.3."""
    mail, entity = clear_signed(bob)
    parsed = email.message_from_bytes(mail, policy=email.policy.default)
    assert parsed["subject"] == "a rather long subject, folded"
    assert parsed.get_content_type() == "multipart/signed"
    assert parsed["content-type"].params["protocol"] == "application/pkcs7-signature"
    assert parsed["content-type"].params["micalg"] == "sha-256"
    text, signature = parsed.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert signature.get_content_type() == "application/pkcs7-signature"
    assert signature.get_filename() == "smime.p7s"
    assert mail.count(b"\n") == mail.count(b"\r\n")
    with open_message(io.BytesIO(mail)) as opened:
        assert opened.content is not None
        assert opened.content.read() == entity


@pytest.mark.parametrize(
    ("names", "micalg"),
    [(["sha1"], "sha-1"), (["sha512", "sha256"], "sha-256,sha-512"), (["sha3_256"], "sha3-256")],
)
def test_micalg_names_the_digests(names: list[str], micalg: str) -> None:
    output = io.BytesIO()
    write_multipart_signed(io.BytesIO(b"\r\n"), b"x", [DIGESTS[name] for name in names], output)
    assert f'micalg="{micalg}"'.encode() in output.getvalue()


def test_openssl_verifies_a_clear_signed_mail(bob: Person, openssl: Callable[..., bytes]) -> None:
    mail, entity = clear_signed(bob)
    assert openssl("cms", "-verify", "-noverify", feed=mail) == entity


def test_openssl_verifies_an_opaque_mail(bob: Person, openssl: Callable[..., bytes]) -> None:
    outer, entity = split_message(MAIL)
    signed, output = io.BytesIO(), io.BytesIO()
    sign_attached(io.BytesIO(entity), [bob.key], signed)
    signed.seek(0)
    write_pkcs7_mime(signed, "signed-data", output, outer)
    assert output.getvalue().startswith(outer)
    assert openssl("cms", "-verify", "-noverify", feed=output.getvalue()) == entity


def test_openssl_knows_the_encrypted_mail(bob: Person, openssl: Callable[..., bytes]) -> None:
    encrypted, output = io.BytesIO(), io.BytesIO()
    encrypt(io.BytesIO(MAIL), [bob.certificate], encrypted)
    encrypted.seek(0)
    write_pkcs7_mime(encrypted, "authEnveloped-data", output)
    parsed = email.message_from_bytes(output.getvalue(), policy=email.policy.default)
    assert parsed["content-type"].params["smime-type"] == "authEnveloped-data"
    assert parsed.get_filename() == "smime.p7m"
    printed = openssl("cms", "-cmsout", "-print", feed=output.getvalue())
    assert b"id-smime-ct-authEnvelopedData" in printed
    assert b"aes-256-gcm" in printed


def test_a_content_type_without_a_name_in_smime_is_written_without_one() -> None:
    output = io.BytesIO()
    write_pkcs7_mime(io.BytesIO(b"x"), None, output)
    parsed = email.message_from_bytes(output.getvalue(), policy=email.policy.default)
    assert dict(parsed["content-type"].params) == {"name": "smime.p7m"}
    assert parsed.get_content() == b"x"


@pytest.mark.parametrize("tool", ["cms", "smime"])
@pytest.mark.parametrize("opaque", [False, True])
def test_mails_signed_by_openssl_are_verified(
    tool: str,
    opaque: bool,  # noqa: FBT001 - a parameter of the test
    openssl: Callable[..., bytes],
) -> None:
    subject = ("-subj", "/CN=alice", "-addext", "keyUsage=digitalSignature")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *subject,
            "-keyout", "key.pem", "-out", "cert.pem")  # fmt: skip
    extra = ["-nodetach"] if opaque else []
    mail = openssl(
        *(tool, "-sign", "-signer", "cert.pem", "-inkey", "key.pem", *extra, "-text"), feed=b"Pay 100.\n"
    )
    with open_message(io.BytesIO(mail)) as opened:
        assert opened.form == "smime"
        message = read_signed_data(opened.cms)
        assert (opened.content is None) is opaque
        pieces = message.content.chunks() if message.content else [opened.content.read()]  # type: ignore[union-attr]
        seen: list[bytes] = []
        (result,) = verify_signatures(message, pieces, copy=seen.append)
    assert result.error is None
    assert b"".join(seen) == b"Content-Type: text/plain\r\n\r\nPay 100.\r\n"


@pytest.mark.parametrize("tool", ["cms", "smime"])
def test_a_mail_encrypted_by_openssl_is_decrypted_on_the_token(
    tool: str, bob: Person, openssl: Callable[..., bytes], tmp_path: Path
) -> None:
    (tmp_path / "bob.pem").write_text(bob.certificate.pem())
    mail = openssl(tool, "-encrypt", "-aes-256-cbc", "bob.pem", feed=b"Pay 100.\n")
    output = io.BytesIO()
    with open_message(io.BytesIO(mail)) as opened:
        result = decrypt(opened.cms, [bob.key], output)
    assert output.getvalue() == b"Pay 100.\r\n"
    assert not result.authenticated
