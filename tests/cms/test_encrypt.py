from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from tokensign.algorithms import CONTENT_CIPHERS, DIGESTS, ContentCipher, Strength
from tokensign.cms import encrypt as module
from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt
from tokensign.cms.envelope import read_envelope
from tokensign.errors import FileError, UnsupportedError, UsageError
from tokensign.keys import OaepTransport, Pkcs1Transport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.keys import KeyTransport
    from tokensign.token import TokenKey

CONTENT = b"The key is under the mat.\n" * 4000
STRONG = [cipher for cipher in CONTENT_CIPHERS.values() if cipher.strength is Strength.STRONG]
WEAK = [cipher for cipher in CONTENT_CIPHERS.values() if cipher not in STRONG]
TRANSPORTS = [
    Pkcs1Transport(),
    OaepTransport(),
    OaepTransport(DIGESTS["sha1"], DIGESTS["sha1"]),
    OaepTransport(DIGESTS["sha384"], DIGESTS["sha1"]),
    OaepTransport(DIGESTS["sha512"], DIGESTS["sha512"], b"label"),
]


def encrypted(certificate: Certificate, content: bytes = CONTENT, **options: Any) -> bytes:  # noqa: ANN401
    output = io.BytesIO()
    encrypt(io.BytesIO(content), [certificate], output, **options)
    return output.getvalue()


@pytest.mark.parametrize("cipher", STRONG, ids=lambda cipher: cipher.name)
@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
def test_each_cipher_with_each_transport_comes_back_through_the_token(
    cipher: ContentCipher, transport: KeyTransport, token_person: Callable[[str], TokenKey]
) -> None:
    key = token_person("rsa:2048")
    assert key.certificate is not None
    message = encrypted(key.certificate, cipher=cipher, transport=transport)
    (recipient,) = read_envelope(io.BytesIO(message)).recipients
    assert recipient.transport == transport  # type: ignore[union-attr]
    output = io.BytesIO()
    result = decrypt(io.BytesIO(message), [key], output)
    assert output.getvalue() == CONTENT
    assert result.cipher == cipher
    assert result.authenticated is cipher.authenticated
    assert result.content_type == "1.2.840.113549.1.7.1"


@pytest.mark.parametrize("cipher", STRONG, ids=lambda cipher: cipher.name)
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1 << 18, (1 << 18) + 1])
def test_every_size_has_the_right_lengths_in_front(
    cipher: ContentCipher, size: int, software: Callable[..., Any], parse: Callable[[bytes], Any]
) -> None:
    message = encrypted(software("rsa:2048").certificate, bytes(size), cipher=cipher)
    if not cipher.authenticated:  # asn1crypto does not know AuthEnvelopedData
        assert parse(message)["version"].native == "v0"
    output = io.BytesIO()
    decrypt(io.BytesIO(message), [software("rsa:2048")], output)
    assert output.getvalue() == bytes(size)


@pytest.mark.parametrize(
    "cipher", ["aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "aes-128-gcm", "aes-256-gcm"]
)
def test_openssl_decrypts_it(
    cipher: str, software: Callable[..., Any], openssl: Callable[..., bytes], tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = software("rsa:2048")
    pem = key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    message = encrypted(key.certificate, cipher=CONTENT_CIPHERS[cipher])
    arguments = ["-decrypt", "-binary", "-inform", "DER", "-inkey", tmp_path / "key.pem"]
    assert openssl("cms", *arguments, feed=message) == CONTENT


def test_default_is_aes_256_gcm_and_oaep_with_sha256(software: Callable[..., Any]) -> None:
    envelope = read_envelope(io.BytesIO(encrypted(software("rsa:2048").certificate)))
    assert envelope.authenticated
    assert envelope.encryption.cipher.name == "aes-256-gcm"
    assert envelope.encryption.tag_size == len(envelope.mac) == 16
    assert envelope.recipients[0].transport == OaepTransport()  # type: ignore[union-attr]


def test_no_two_messages_share_key_or_nonce(software: Callable[..., Any]) -> None:
    envelopes = [read_envelope(io.BytesIO(encrypted(software("rsa:2048").certificate))) for _ in range(2)]
    assert envelopes[0].encryption.iv != envelopes[1].encryption.iv
    contents = [b"".join(envelope.encrypted_content.chunks()) for envelope in envelopes]
    assert contents[0] != contents[1]


def test_each_of_several_recipients_decrypts(software: Callable[..., Any]) -> None:
    people = [software("rsa:2048", number) for number in range(3)]
    certificates = [person.certificate for person in people]
    output = io.BytesIO()
    encrypt(io.BytesIO(CONTENT), [*certificates, certificates[0]], output)
    assert len(read_envelope(io.BytesIO(output.getvalue())).recipients) == 3
    for person in people:
        opened = io.BytesIO()
        decrypt(io.BytesIO(output.getvalue()), [person], opened)
        assert opened.getvalue() == CONTENT


def test_another_content_type_is_told(software: Callable[..., Any]) -> None:
    signed_data = "1.2.840.113549.1.7.2"
    message = encrypted(software("rsa:2048").certificate, content_type=signed_data)
    assert decrypt(io.BytesIO(message), [software("rsa:2048")], io.BytesIO()).content_type == signed_data


def test_encrypting_begins_at_the_position_of_the_content(software: Callable[..., Any]) -> None:
    content, output, opened = io.BytesIO(b"skipped" + CONTENT), io.BytesIO(), io.BytesIO()
    content.seek(7)
    encrypt(content, [software("rsa:2048").certificate], output)
    decrypt(io.BytesIO(output.getvalue()), [software("rsa:2048")], opened)
    assert opened.getvalue() == CONTENT


# --- refusals


def test_nobody_is_no_recipient() -> None:
    with pytest.raises(UsageError, match="at least one recipient"):
        encrypt(io.BytesIO(CONTENT), [], io.BytesIO())


def test_a_certificate_whose_key_only_signs_is_refused_before_anything_is_written(
    software: Callable[..., Any],
) -> None:
    output = io.BytesIO()
    people = [software("rsa:2048").certificate, software("ed25519").certificate]
    with pytest.raises(UnsupportedError, match="CN=ed25519 0,O=Acme"):
        encrypt(io.BytesIO(CONTENT), people, output)
    assert output.getvalue() == b""


def test_a_short_rsa_key_is_not_encrypted_to(
    nameless: Callable[..., Any], issue: Callable[..., Certificate]
) -> None:
    certificate = issue(nameless("rsa:1024").public_key, "weak")
    with pytest.raises(UnsupportedError, match="RSA key of 1024 bits"):
        encrypted(certificate)


def test_oaep_with_a_broken_hash_is_never_written(software: Callable[..., Any]) -> None:
    transport = OaepTransport(DIGESTS["md5"], DIGESTS["sha256"])
    with pytest.raises(UnsupportedError, match="too weak to encrypt with"):
        encrypted(software("rsa:2048").certificate, transport=transport)


def test_oaep_that_the_library_does_not_have_is_refused(software: Callable[..., Any]) -> None:
    transport = OaepTransport(DIGESTS["sha3_256"], DIGESTS["sha3_256"])
    with pytest.raises(UnsupportedError, match="does not do RSA-OAEP with sha3_256"):
        encrypted(software("rsa:2048").certificate, transport=transport)


@pytest.mark.parametrize("cipher", WEAK, ids=lambda cipher: cipher.name)
def test_a_legacy_cipher_is_never_written(cipher: ContentCipher, software: Callable[..., Any]) -> None:
    output = io.BytesIO()
    with pytest.raises(UnsupportedError, match=f"{cipher.name} is too weak to encrypt"):
        encrypt(io.BytesIO(CONTENT), [software("rsa:2048").certificate], output, cipher=cipher)
    assert output.getvalue() == b""


def test_more_than_gcm_may_encrypt_is_refused(
    software: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GCM_LIMIT", len(CONTENT) - 1)
    with pytest.raises(UnsupportedError, match=f"at most {len(CONTENT) - 1} bytes") as failure:
        encrypted(software("rsa:2048").certificate)
    assert failure.value.hint == "use aes-256-cbc"
    encrypted(software("rsa:2048").certificate, cipher=CONTENT_CIPHERS["aes-256-cbc"])


class Shrinking(io.BytesIO):
    """A file that somebody truncates while it is being encrypted."""

    def read(self, size: int | None = -1, /) -> bytes:
        self.truncate(len(CONTENT) // 2)
        return super().read(size)


class Growing(io.BytesIO):
    """A file that somebody appends to while it is being encrypted."""

    def read(self, size: int | None = -1, /) -> bytes:
        if len(self.getvalue()) == len(CONTENT):
            position = self.tell()
            self.seek(0, io.SEEK_END)
            self.write(b"more of it")
            self.seek(position)
        return super().read(size)


@pytest.mark.parametrize("cipher", ["aes-256-gcm", "aes-256-cbc", "aes-256-ccm", "chacha20-poly1305"])
@pytest.mark.parametrize("changing", [Shrinking, Growing])
def test_content_that_changes_meanwhile_is_noticed(
    changing: type[io.BytesIO], cipher: str, software: Callable[..., Any]
) -> None:
    recipients = [software("rsa:2048").certificate]
    with pytest.raises(FileError, match="changed while it was being encrypted"):
        encrypt(changing(CONTENT), recipients, io.BytesIO(), cipher=CONTENT_CIPHERS[cipher])
