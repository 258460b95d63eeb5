"""Key-encryption keys that are given as octets, as opposed to keys on a token."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives import keywrap

from tokensign.algorithms import KEY_WRAPS
from tokensign.cms.content_cipher import CANNOT_DECRYPT
from tokensign.cms.recipients.key_wrap import unwrap, wrap
from tokensign.errors import DecryptionError, UnsupportedError, UsageError

__all__ = ["KeyEncryptionKeyBytes", "TripleDesKeyEncryptionKey"]

_TRIPLE_DES: Final = KEY_WRAPS["3des-wrap"]
_AES: Final = {entry.key_size: entry for entry in KEY_WRAPS.values() if entry != _TRIPLE_DES}


class KeyEncryptionKeyBytes:
    """An AES key-encryption key in memory: a `tokensign.keys.KeyEncryptionKey`, hidden from repr and print.

    Args:
        key_identifier: Names it in messages; sender and recipient agreed on it with the key.
        key: 16, 24 or 32 octets.

    Raises:
        UsageError: The key has another size, or the identifier is empty.
    """

    __slots__ = ("_key", "key_identifier")

    def __init__(self, key_identifier: bytes, key: bytes) -> None:
        if len(key) not in _AES:
            raise UsageError(
                f"a key-encryption key has 16, 24 or 32 bytes, not {len(key)}",
                hint="give an AES key of 128, 192 or 256 bits",
            )
        _require_identifier(key_identifier)
        self.key_identifier = key_identifier
        self._key = bytes(key)

    @property
    def key_size(self) -> int:
        """Octets of the key."""
        return len(self._key)

    def wrap_key(self, key: bytes) -> bytes:
        """Wrap a key with AES key wrap (RFC 3394).

        Raises:
            UnsupportedError: AES key wrap does not do keys of this size.
        """
        try:
            return wrap(_AES[len(self._key)], self._key, key)
        except ValueError:
            raise UnsupportedError(f"AES key wrap does not wrap a key of {len(key)} bytes") from None

    def unwrap_key(self, wrapped: bytes) -> bytes:
        """Unwrap a key with AES key wrap (RFC 3394).

        Raises:
            DecryptionError: Its integrity check fails.
        """
        return unwrap(_AES[len(self._key)], self._key, wrapped)

    def unwrap_padded_key(self, wrapped: bytes) -> bytes:
        """Unwrap a key with AES key wrap with padding (RFC 5649).

        Raises:
            DecryptionError: Its integrity check fails.
        """
        try:
            return keywrap.aes_key_unwrap_with_padding(self._key, wrapped)
        except (keywrap.InvalidUnwrap, ValueError):
            raise DecryptionError(CANNOT_DECRYPT) from None

    def __repr__(self) -> str:
        return f"<KeyEncryptionKeyBytes {self.key_identifier.hex()}>"


class TripleDesKeyEncryptionKey:
    """A 3DES key-encryption key in memory, to read old messages (RFC 3217); hidden from repr and print.

    Args:
        key_identifier: Names it in messages.
        key: 24 octets.

    Raises:
        UsageError: The key has another size, or the identifier is empty.
    """

    __slots__ = ("_key", "key_identifier")

    def __init__(self, key_identifier: bytes, key: bytes) -> None:
        if len(key) != _TRIPLE_DES.key_size:
            raise UsageError(f"a 3DES key has {_TRIPLE_DES.key_size} bytes, not {len(key)}")
        _require_identifier(key_identifier)
        self.key_identifier = key_identifier
        self._key = bytes(key)

    @property
    def key_size(self) -> int:
        """Octets of the key."""
        return len(self._key)

    def wrap_key(self, key: bytes) -> bytes:  # noqa: ARG002 - the protocol's parameter
        """It does not: 3DES is only read.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError("3DES is too weak to wrap a key with", hint="use an AES key")

    def unwrap_key(self, wrapped: bytes) -> bytes:
        """Unwrap a key with 3DES key wrap (RFC 3217 section 3.2).

        Raises:
            DecryptionError: Its integrity check fails.
        """
        return unwrap(_TRIPLE_DES, self._key, wrapped)

    def __repr__(self) -> str:
        return f"<TripleDesKeyEncryptionKey {self.key_identifier.hex()}>"


def _require_identifier(key_identifier: bytes) -> None:
    if not key_identifier:
        raise UsageError("a key-encryption key needs an identifier", hint="give the one that messages name")
