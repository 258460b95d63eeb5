from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from hypothesis import given
from hypothesis import strategies as st

from tokensign import der
from tokensign.algorithms import KEY_WRAPS, key_wrap_for
from tokensign.cms.recipients.key_wrap import read_key_wrap, unwrap, wrap
from tokensign.errors import DecryptionError, MalformedError, UnsupportedError

AES = [entry for entry in KEY_WRAPS.values() if entry.name.startswith("aes")]
TRIPLE_DES = KEY_WRAPS["3des-wrap"]


@pytest.mark.parametrize(
    ("name", "key_encryption_key", "key", "wrapped"),
    [  # RFC 3394 sections 4.1, 4.5 and 4.6
        (
            "aes-128-wrap",
            "000102030405060708090A0B0C0D0E0F",
            "00112233445566778899AABBCCDDEEFF",
            "1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5",
        ),
        (
            "aes-192-wrap",
            "000102030405060708090A0B0C0D0E0F1011121314151617",
            "00112233445566778899AABBCCDDEEFF",
            "96778B25AE6CA435F92B5B97C050AED2468AB8A17AD84E5D",
        ),
        (
            "aes-256-wrap",
            "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F",
            "00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F",
            "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21",
        ),
    ],
)
def test_the_vectors_of_rfc_3394(name: str, key_encryption_key: str, key: str, wrapped: str) -> None:
    entry = KEY_WRAPS[name]
    assert wrap(entry, bytes.fromhex(key_encryption_key), bytes.fromhex(key)) == bytes.fromhex(wrapped)
    assert unwrap(entry, bytes.fromhex(key_encryption_key), bytes.fromhex(wrapped)) == bytes.fromhex(key)


def encrypt(key: bytes, iv: bytes, data: bytes) -> bytes:
    encryptor = Cipher(TripleDES(key), modes.CBC(iv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def wrap_triple_des(key_encryption_key: bytes, key: bytes, iv: bytes) -> bytes:
    """RFC 3217 section 3.1."""
    checksum = hashlib.sha1(key, usedforsecurity=False).digest()[:8]
    inner = iv + encrypt(key_encryption_key, iv, key + checksum)
    return encrypt(key_encryption_key, bytes.fromhex("4adda22c79e82105"), inner[::-1])


def test_the_vector_of_rfc_3217() -> None:
    key_encryption_key = bytes.fromhex("255e0d1c07b646dfb3134cc843ba8aa71f025b7c0838251f")
    key = bytes.fromhex("2923bf85e06dd6ae529149f1f1bae9eab3a7da3d860d3e98")
    wrapped = bytes.fromhex(
        "690107618ef092b3b48ca1796b234ae9fa33ebb4159604037db5d6a84eb3aac2768c632775a467d4"
    )
    assert wrap_triple_des(key_encryption_key, key, bytes.fromhex("5dd4cbfc96f5453b")) == wrapped
    assert unwrap(TRIPLE_DES, key_encryption_key, wrapped) == key


@given(st.binary(min_size=24, max_size=24), st.integers(0, 39), st.integers(1, 255))
def test_a_changed_triple_des_wrap_is_refused(key: bytes, position: int, change: int) -> None:
    wrapped = bytearray(wrap_triple_des(b"k" * 24, key, bytes(8)))
    wrapped[position] ^= change
    with pytest.raises(DecryptionError):
        unwrap(TRIPLE_DES, b"k" * 24, bytes(wrapped))


@pytest.mark.parametrize("size", [0, 8, 16, 23, 25, 32, 39, 41, 48])
def test_impossible_sizes_are_refused(size: int) -> None:
    for entry in KEY_WRAPS.values():
        with pytest.raises(DecryptionError, match="cannot be decrypted"):
            unwrap(entry, b"k" * entry.key_size, bytes(size))


def test_triple_des_is_never_written() -> None:
    with pytest.raises(ValueError, match="never written"):
        wrap(TRIPLE_DES, bytes(24), bytes(24))


@pytest.mark.parametrize("entry", AES)
def test_parameters_are_absent_or_null(entry: object) -> None:
    oid = der.object_identifier(entry.oid)  # type: ignore[attr-defined]
    assert read_key_wrap(der.sequence(oid)) == read_key_wrap(der.sequence(oid, der.NULL)) == entry
    with pytest.raises(MalformedError, match="has no parameters"):
        read_key_wrap(der.sequence(oid, der.octet_string(b"iv")))


def test_an_unknown_key_wrap_is_told() -> None:
    with pytest.raises(UnsupportedError, match=r"1\.2\.3"):
        read_key_wrap(der.sequence(der.object_identifier("1.2.3")))


@pytest.mark.parametrize(("size", "expected"), [(16, 128), (20, 192), (24, 192), (32, 256), (64, 256)])
def test_a_key_wrap_is_as_strong_as_what_it_wraps(size: int, expected: int) -> None:
    assert key_wrap_for(size).name == f"aes-{expected}-wrap"
