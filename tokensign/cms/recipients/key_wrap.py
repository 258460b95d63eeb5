"""Key wrap: a key-encryption key encrypts a content-encryption key (RFC 3394, RFC 3217)."""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import constant_time, keywrap
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from tokensign import der
from tokensign.algorithms import KEY_WRAPS, KeyWrap, key_wrap_by_oid
from tokensign.cms.content_cipher import CANNOT_DECRYPT
from tokensign.cms.signed_data import algorithm_of
from tokensign.errors import DecryptionError, MalformedError

__all__ = ["read_key_wrap", "unwrap", "wrap"]

_TRIPLE_DES: Final = KEY_WRAPS["3des-wrap"]
_TRIPLE_DES_IV: Final = bytes.fromhex("4adda22c79e82105")  # RFC 3217 section 3.1, step 6
_TRIPLE_DES_WRAPPED_SIZE: Final = 40  # octets: initialisation vector, key, checksum
_CHECKSUM_SIZE: Final = 8
_BLOCK: Final = 8


def read_key_wrap(encoded: bytes) -> KeyWrap:
    """The key wrap that an AlgorithmIdentifier names, its parameters absent or NULL (RFC 3370 section 4.3).

    Raises:
        UnsupportedError: It is not known here.
        MalformedError: It has other parameters.
    """
    found = key_wrap_by_oid(algorithm_of(encoded))
    if der.elements(encoded)[1:] not in ([], [der.NULL]):
        raise MalformedError(f"{found.name} has no parameters")
    return found


def wrap(algorithm: KeyWrap, key_encryption_key: bytes, key: bytes) -> bytes:
    """The content-encryption key, wrapped with AES (RFC 3394). 3DES is only read."""
    if algorithm == _TRIPLE_DES:
        raise ValueError("3DES is never written")
    return keywrap.aes_key_wrap(key_encryption_key, key)


def unwrap(algorithm: KeyWrap, key_encryption_key: bytes, wrapped: bytes) -> bytes:
    """The content-encryption key in what `wrap` made.

    Raises:
        DecryptionError: Its integrity check fails, or it has an impossible size; one text.
    """
    if algorithm == _TRIPLE_DES:
        return _unwrap_triple_des(key_encryption_key, wrapped)
    try:
        return keywrap.aes_key_unwrap(key_encryption_key, wrapped)
    except (keywrap.InvalidUnwrap, ValueError):
        raise DecryptionError(CANNOT_DECRYPT) from None


def _unwrap_triple_des(key_encryption_key: bytes, wrapped: bytes) -> bytes:
    """RFC 3217 section 3.2. The parity of the key's octets is nobody's concern."""
    if len(wrapped) != _TRIPLE_DES_WRAPPED_SIZE:
        raise DecryptionError(CANNOT_DECRYPT)
    inner = _decrypt_cbc(key_encryption_key, _TRIPLE_DES_IV, wrapped)[::-1]
    with_checksum = _decrypt_cbc(key_encryption_key, inner[:_BLOCK], inner[_BLOCK:])
    key, checksum = with_checksum[:-_CHECKSUM_SIZE], with_checksum[-_CHECKSUM_SIZE:]
    expected = hashlib.sha1(key, usedforsecurity=False).digest()[:_CHECKSUM_SIZE]
    if not constant_time.bytes_eq(checksum, expected):
        raise DecryptionError(CANNOT_DECRYPT)
    return key


def _decrypt_cbc(key: bytes, iv: bytes, data: bytes) -> bytes:
    decryptor = Cipher(TripleDES(key), modes.CBC(iv)).decryptor()
    return decryptor.update(data) + decryptor.finalize()
