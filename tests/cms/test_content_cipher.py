"""Content ciphers against the library's own, which take all at once, and parameters that are refused."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import RC2
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.cms.content_cipher import (
    ContentEncryption,
    decrypting,
    encode_content_encryption,
    encrypting,
    fresh_encryption,
    read_content_encryption,
)
from tokensign.errors import DecryptionError, MalformedError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.cms.content_cipher import Stream

AEAD = [name for name, cipher in CONTENT_CIPHERS.items() if cipher.authenticated]
SIZES = [0, 1, 15, 16, 17, 1000]
CCM, GCM, RC2_CBC = CONTENT_CIPHERS["aes-128-ccm"], CONTENT_CIPHERS["aes-128-gcm"], CONTENT_CIPHERS["rc2-cbc"]


def library(encryption: ContentEncryption, key: bytes) -> Any:  # noqa: ANN401 - of three types
    match encryption.cipher.mode:
        case "gcm":
            return AESGCM(key)
        case "ccm":
            return AESCCM(key, encryption.tag_size)
        case _:
            return ChaCha20Poly1305(key)


def pieces(data: bytes, size: int = 7) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def through(stream: Stream, data: bytes) -> bytes:
    return b"".join(map(stream.update, pieces(data))) + stream.finalize()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("associated", [0, 1, 14, 0xFEFF, 0xFF00, 70_000])  # CCM writes a length before it
@pytest.mark.parametrize("name", AEAD)
def test_a_stream_gives_what_the_library_gives_at_once(name: str, associated: int, size: int) -> None:
    encryption = fresh_encryption(CONTENT_CIPHERS[name], size)
    key, content, extra = (secrets.token_bytes(count) for count in (encryption.key_size, size, associated))
    expected = library(encryption, key).encrypt(encryption.iv, content, extra)
    stream = encrypting(encryption, key, size=size, associated=extra)
    assert through(stream, content) + stream.tag == expected
    encrypted, tag = expected[:size], expected[size:]
    opened = decrypting(encryption, key, size=size, tag=tag, associated=extra)
    assert through(opened, encrypted) == content
    for wrong_tag, wrong_extra in ((bytes(len(tag)), extra), (tag, extra + b"!")):
        opened = decrypting(encryption, key, size=size, tag=wrong_tag, associated=wrong_extra)
        with pytest.raises(DecryptionError, match="the message cannot be decrypted"):
            through(opened, encrypted)


@pytest.mark.parametrize("tag_size", range(4, 17, 2))
@pytest.mark.parametrize("nonce_size", range(7, 14))
def test_ccm_has_nonces_and_tags_of_every_size(nonce_size: int, tag_size: int) -> None:
    key, nonce = bytes(range(16)), bytes(range(nonce_size))
    encryption = ContentEncryption(CCM, nonce, tag_size, 16)
    assert read_content_encryption(encode_content_encryption(encryption)) == encryption
    sealed = AESCCM(key, tag_size).encrypt(nonce, b"content", None)
    opened = decrypting(encryption, key, size=7, tag=sealed[7:])
    assert through(opened, sealed[:7]) == b"content"


def test_the_nonce_of_ccm_leaves_room_for_the_length() -> None:
    assert len(fresh_encryption(CCM, (1 << 24) - 1).iv) == 12
    assert len(fresh_encryption(CCM, 1 << 24).iv) == 7
    encryption = ContentEncryption(CCM, bytes(13), 16, 16)
    encrypting(encryption, bytes(16), size=(1 << 16) - 1)
    with pytest.raises(UnsupportedError, match="nonce of 13 bytes encrypts less than 65536 bytes"):
        encrypting(encryption, bytes(16), size=1 << 16)


# --- RC2


def rc2(*parameters: bytes) -> bytes:
    return der.sequence(der.object_identifier(RC2_CBC.oid), der.sequence(*parameters))


@pytest.mark.parametrize(("version", "bits"), [(160, 40), (120, 64), (58, 128)])
def test_rc2_names_its_key_size_by_a_version(version: int, bits: int) -> None:
    """RFC 2268 section 6."""
    found = read_content_encryption(rc2(der.integer(version), der.octet_string(bytes(8))))
    assert (found.cipher, found.iv, found.key_size) == (RC2_CBC, bytes(8), bits // 8)


def test_rc2_with_a_long_key_is_decrypted() -> None:
    key, iv = bytes(range(16)), bytes(range(8))
    padder = padding.PKCS7(64).padder()
    padded = padder.update(b"an old content") + padder.finalize()
    encrypted = Cipher(RC2(key), modes.CBC(iv)).encryptor().update(padded)
    encryption = ContentEncryption(RC2_CBC, iv, 0, 16)
    assert through(decrypting(encryption, key, size=16), encrypted) == b"an old content"


@pytest.mark.parametrize("version", [0, -1, 41, 255, 256, 1024])
def test_rc2_with_keys_of_other_sizes_is_not_read(version: int) -> None:
    with pytest.raises(UnsupportedError, match="RC2 is read with 40, 64 and 128 bits"):
        read_content_encryption(rc2(der.integer(version), der.octet_string(bytes(8))))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ((), "parameters of rc2-cbc are broken"),
        ((der.octet_string(bytes(8)),), "parameters of rc2-cbc are broken"),
        ((der.integer(58), der.NULL), "parameters of rc2-cbc are broken"),
        ((der.integer(58), der.octet_string(bytes(7))), "vector has 7 bytes instead of 8"),
    ],
)
def test_broken_parameters_of_rc2_are_refused(parameters: tuple[bytes, ...], words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        read_content_encryption(rc2(*parameters))


# --- parameters that do not belong together


@pytest.mark.parametrize(
    ("name", "nonce", "tag_size", "error"),
    [
        ("aes-128-ccm", 6, 16, UnsupportedError),
        ("aes-128-ccm", 14, 16, UnsupportedError),
        ("aes-128-ccm", 12, 2, MalformedError),
        ("aes-128-ccm", 12, 5, MalformedError),
        ("aes-128-ccm", 12, 18, MalformedError),
        ("chacha20-poly1305", 8, 16, UnsupportedError),
    ],
)
def test_other_sizes_of_nonces_and_tags_are_refused(
    name: str, nonce: int, tag_size: int, error: type[Exception]
) -> None:
    encryption = ContentEncryption(CONTENT_CIPHERS[name], bytes(nonce), tag_size, 16)
    with pytest.raises(error):
        read_content_encryption(encode_content_encryption(encryption))


@pytest.mark.parametrize("cipher", [CCM, GCM], ids=lambda cipher: cipher.name)
def test_a_tag_has_12_octets_unless_told(cipher: Any) -> None:  # noqa: ANN401 - a cipher
    """RFC 5084 sections 3.1 and 3.2."""
    parameters = der.sequence(der.octet_string(bytes(12)))
    found = read_content_encryption(der.sequence(der.object_identifier(cipher.oid), parameters))
    assert found.tag_size == 12
