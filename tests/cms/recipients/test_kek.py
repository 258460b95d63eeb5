"""KEKRecipientInfo: with keys in memory, with keys on a token, and against OpenSSL."""

from __future__ import annotations

import io
import secrets
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import keywrap

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt
from tokensign.cms.recipients.kek import KekRecipient, load_kek
from tokensign.cms.recipients.kek_bytes import KeyEncryptionKeyBytes, TripleDesKeyEncryptionKey
from tokensign.errors import (
    DecryptionError,
    LegacyAlgorithmError,
    MalformedError,
    MechanismError,
    NoRecipientError,
    UnsupportedError,
    UsageError,
)
from tokensign.keys import KeyEncryptionKey, Password
from tokensign.token import Pin, open_token
from tokensign.token.secret_key import TokenSecretKey, generate_secret_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokensign.token import Module

IDENTIFIER = b"the key of May"
CONTENT_KEY = bytes(range(32))
AES_256_WRAP = der.sequence(der.object_identifier("2.16.840.1.101.3.4.1.45"))


def key_of(size: int = 32, identifier: bytes = IDENTIFIER) -> KeyEncryptionKeyBytes:
    return KeyEncryptionKeyBytes(identifier, bytes(range(100, 100 + size)))


def recipient_info(oid: str, wrapped: bytes, identifier: bytes = IDENTIFIER) -> bytes:
    return der.constructed(
        0xA2,
        der.integer(4),
        der.sequence(der.octet_string(identifier), b"\x18\x0f20260504030201Z"),
        der.sequence(der.object_identifier(oid), der.NULL),
        der.octet_string(wrapped),
    )


def encrypted_to(key: KeyEncryptionKey, cipher: str = "aes-256-gcm") -> io.BytesIO:
    output = io.BytesIO()
    encrypt(io.BytesIO(b"hello"), [KekRecipient(key)], output, cipher=CONTENT_CIPHERS[cipher])
    output.seek(0)
    return output


@pytest.fixture(scope="module")
def token_kek(
    module: Module, new_token: Callable[[str], str], user_pin: str
) -> Iterator[Callable[[int], TokenSecretKey]]:
    """An AES key on a SoftHSM token: `token_kek(256)`."""
    with open_token(module, new_token(), Pin(user_pin), read_write=True) as token:
        made = {bits: generate_secret_key(token, f"kek-{bits}", bits) for bits in (128, 192, 256)}
        yield lambda bits: made[bits]


@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize("cipher", ["aes-256-gcm", "aes-128-cbc"])
def test_a_shared_key_opens_what_was_encrypted_to_it(size: int, cipher: str) -> None:
    key, output = key_of(size), io.BytesIO()
    decrypt(encrypted_to(key, cipher), [key], output)
    assert output.getvalue() == b"hello"


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_a_key_on_a_token_opens_what_was_encrypted_to_it(
    token_kek: Callable[[int], TokenSecretKey], bits: int
) -> None:
    key, output = token_kek(bits), io.BytesIO()
    assert isinstance(key, KeyEncryptionKey)
    decrypt(encrypted_to(key), [key], output)
    assert output.getvalue() == b"hello"


def test_a_wrong_key_of_the_same_name_fails_as_damaged_content_does() -> None:
    other = KeyEncryptionKeyBytes(IDENTIFIER, bytes(32))
    message = encrypted_to(key_of())
    with pytest.raises(DecryptionError) as wrong_key:
        decrypt(message, [other], io.BytesIO())
    damaged = bytearray(message.getvalue())
    damaged[-1] ^= 1
    with pytest.raises(DecryptionError) as wrong_content:
        decrypt(io.BytesIO(bytes(damaged)), [key_of()], io.BytesIO())
    assert str(wrong_key.value) == str(wrong_content.value)


def test_a_key_of_another_size_under_the_same_name_fails_likewise() -> None:
    with pytest.raises(DecryptionError, match="the message cannot be decrypted"):
        decrypt(encrypted_to(key_of(32)), [key_of(16)], io.BytesIO())


def test_a_key_of_another_name_is_no_recipient() -> None:
    with pytest.raises(NoRecipientError) as error:
        decrypt(encrypted_to(key_of()), [key_of(identifier=b"June"), Password("x")], io.BytesIO())
    assert f"shared key {IDENTIFIER.hex()}" in str(error.value.hint)


@pytest.mark.parametrize("size", [16, 24, 32])
def test_openssl_reads_what_is_written(openssl: Callable[..., bytes], tmp_path: Path, size: int) -> None:
    message = tmp_path / "message.der"
    message.write_bytes(encrypted_to(key_of(size), "aes-256-cbc").getvalue())
    secret = bytes(range(100, 100 + size)).hex()
    arguments = ("-inform", "DER", "-in", message, "-secretkey", secret, "-secretkeyid", IDENTIFIER.hex())
    assert openssl("cms", "-decrypt", *arguments) == b"hello"


@pytest.mark.parametrize("size", [16, 24, 32])
def test_what_openssl_writes_is_read(openssl: Callable[..., bytes], size: int) -> None:
    secret = bytes(range(100, 100 + size)).hex()
    arguments = ("-outform", "DER", "-secretkey", secret, "-secretkeyid", IDENTIFIER.hex(), "-aes128")
    message = openssl("cms", "-encrypt", "-binary", *arguments, feed=b"hello")
    output = io.BytesIO()
    decrypt(io.BytesIO(message), [key_of(size)], output)
    assert output.getvalue() == b"hello"


@pytest.mark.parametrize(("size", "oid"), [(16, 8), (24, 28), (32, 48)])
def test_keys_wrapped_with_padding_are_read(
    token_kek: Callable[[int], TokenSecretKey], size: int, oid: int
) -> None:
    key = bytes(range(100, 100 + size))
    wrapped = keywrap.aes_key_wrap_with_padding(key, b"20 octets for a HMAC")
    info = load_kek(recipient_info(f"2.16.840.1.101.3.4.1.{oid}", wrapped))
    info.require_strength(legacy=False)
    assert info.content_key(key_of(size)) == b"20 octets for a HMAC"
    with pytest.raises(DecryptionError):
        info.content_key(KeyEncryptionKeyBytes(IDENTIFIER, bytes(size)))
    with pytest.raises(DecryptionError):
        info.content_key(token_kek(8 * size))


def test_padding_asks_for_a_key_that_knows_it() -> None:
    class Plain:
        key_identifier = IDENTIFIER
        key_size = 32

        def wrap_key(self, key: bytes) -> bytes:
            raise NotImplementedError

        def unwrap_key(self, wrapped: bytes) -> bytes:
            raise NotImplementedError

    info = load_kek(recipient_info("2.16.840.1.101.3.4.1.48", bytes(40)))
    with pytest.raises(MechanismError, match="aes-256-wrap-pad"):
        info.content_key(Plain())


# RFC 3217 section 4.3 has this example of a key that is wrapped with 3DES.
RFC_3217_KEK = bytes.fromhex("255e0d1c07b646dfb3134cc843ba8aa71f025b7c0838251f")
RFC_3217_KEY = bytes.fromhex("2923bf85e06dd6ae529149f1f1bae9eab3a7da3d860d3e98")
RFC_3217_WRAPPED = bytes.fromhex(
    "690107618ef092b3b48ca1796b234ae9fa33ebb4159604037db5d6a84eb3aac2768c632775a467d4"
)


def test_3des_is_read_with_the_legacy_switch_only() -> None:
    key = TripleDesKeyEncryptionKey(IDENTIFIER, RFC_3217_KEK)
    info = load_kek(recipient_info("1.2.840.113549.1.9.16.3.6", RFC_3217_WRAPPED))
    with pytest.raises(LegacyAlgorithmError):
        info.require_strength(legacy=False)
    info.require_strength(legacy=True)
    assert info.content_key(key) == RFC_3217_KEY
    for wrong in (key_of(24), TripleDesKeyEncryptionKey(IDENTIFIER, bytes(range(24)))):
        with pytest.raises(DecryptionError):
            info.content_key(wrong)


def test_a_3des_key_does_not_open_aes_and_does_not_wrap() -> None:
    key = TripleDesKeyEncryptionKey(IDENTIFIER, RFC_3217_KEK)
    assert key.key_size == 24
    with pytest.raises(DecryptionError):
        decrypt(encrypted_to(key_of(24)), [key], io.BytesIO())
    with pytest.raises(UnsupportedError):
        encrypted_to(key)


def test_an_unknown_wrap_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"1\.2\.3"):
        load_kek(recipient_info("1.2.3", bytes(40))).require_strength(legacy=True)


def test_content_key_wants_a_key_that_is_for_it() -> None:
    with pytest.raises(TypeError):
        load_kek(recipient_info("2.16.840.1.101.3.4.1.45", bytes(40))).content_key(Password("x"))


@pytest.mark.parametrize(
    "encoded",
    [
        der.constructed(0xA2),
        der.constructed(0xA2, der.integer(4), der.sequence(), AES_256_WRAP, der.octet_string(b"")),
        der.constructed(0xA2, der.integer(4), der.sequence(der.NULL), AES_256_WRAP, der.octet_string(b"")),
        der.constructed(
            0xA2, der.integer(4), der.sequence(der.octet_string(b"x")), AES_256_WRAP, der.integer(1)
        ),
    ],
)
def test_broken_structures_are_malformed(encoded: bytes) -> None:
    with pytest.raises(MalformedError, match="KEKRecipientInfo"):
        load_kek(encoded)


def test_the_octets_of_keys_are_hidden() -> None:
    secret = secrets.token_bytes(24)
    for key in (KeyEncryptionKeyBytes(b"\1", secret), TripleDesKeyEncryptionKey(b"\1", secret)):
        shown = repr(key) + repr(KekRecipient(key))
        assert "01>" in shown
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown


@pytest.mark.parametrize("kind", [KeyEncryptionKeyBytes, TripleDesKeyEncryptionKey])
def test_keys_of_impossible_sizes_and_without_a_name_are_refused(kind: type) -> None:
    with pytest.raises(UsageError, match="bytes, not 5"):
        kind(b"x", b"short")
    with pytest.raises(UsageError, match="identifier"):
        kind(b"", bytes(24))


def test_wrapping_a_key_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="20 bytes"):
        key_of().wrap_key(bytes(20))
    with pytest.raises(DecryptionError):
        key_of().unwrap_key(bytes(23))


def test_the_structure_is_that_of_the_rfc(parse: Callable[[bytes], object]) -> None:
    message = encrypted_to(key_of()).getvalue()
    info = parse(message)["recipient_infos"][0].chosen  # type: ignore[index]
    assert info["version"].native == "v4"
    assert info["kekid"]["key_identifier"].native == IDENTIFIER
    assert info["key_encryption_algorithm"]["algorithm"].native == "aes256_wrap"
    assert keywrap.aes_key_unwrap(bytes(range(100, 132)), info["encrypted_key"].native)
