"""Symmetrically encrypted and integrity protected data (RFC 9580 section 5.13), decrypted as a stream."""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tokensign.errors import DecryptionError, MalformedError, UnsupportedError
from tokensign.openpgp.numbers import KEY_SIZES, Aead, Tag
from tokensign.openpgp.session_key import CANNOT_DECRYPT, SessionKey

if TYPE_CHECKING:
    from tokensign.openpgp.packets import Packet

__all__ = ["ProtectedData", "read_protected_data"]

_BLOCK: Final = 16  # octets of AES
_MDC_HEADER: Final = b"\xd3\x14"  # the packet with the modification detection code (section 5.13.1)
_MDC_SIZE: Final = len(_MDC_HEADER) + 20
_SALT_SIZE: Final = 32
_TAG_SIZE: Final = 16
_NONCE_SIZES: Final = {Aead.OCB: 15, Aead.GCM: 12}
_INDEX_SIZE: Final = 8  # octets of the nonce that count the chunks
_CHUNK_MAXIMUM: Final = 16  # the largest chunk size octet (section 5.13.2): 4 MiB
_STRONGEST: Final = 9  # AES-256, whose key stands in for one that cannot be had


@dataclass(frozen=True, slots=True)
class ProtectedData:
    """Encrypted data whose content has not been read yet.

    Attributes:
        packet: Where the content is read from.
        version: 1: CFB with a modification detection code; 2: AEAD in chunks.
        cipher: The number of the symmetric algorithm; of version 1 None, there the session key tells it.
        parameters: Of version 2: version, cipher, AEAD and chunk size as they stand in the packet.
        salt: Of version 2.
    """

    packet: Packet
    version: int
    cipher: int | None = None
    parameters: bytes = b""
    salt: bytes = b""

    @property
    def session_key_version(self) -> int:
        """The version of encrypted session keys that go with it (section 10.3.2.1)."""
        return 3 if self.version == 1 else 6

    def decrypt(self, session_key: SessionKey | None, output: BinaryIO) -> None:
        """Decrypt the content.

        Args:
            session_key: Its key; None for a random one, with which it fails as if it had been changed.
            output: Receives the content, which is worth nothing if this raises: private, and thrown away.

        Raises:
            DecryptionError: The key is wrong, or the content was changed; one text.
            MalformedError: The packet is cut off.
        """
        cipher = self.cipher or (session_key.cipher if session_key else None)
        size = KEY_SIZES.get(cipher or 0)
        key = session_key.key if session_key else b""
        if size is None or len(key) != size:
            key = os.urandom(size or KEY_SIZES[_STRONGEST])
        if self.version == 1:
            self._decrypt_cfb(key, output)
        else:
            self._decrypt_chunks(key, output)

    def _decrypt_cfb(self, key: bytes, output: BinaryIO) -> None:
        """Version 1. The repeated octets of its prefix are not looked at: they would be an oracle."""
        decryptor = Cipher(algorithms.AES(key), CFB(bytes(_BLOCK))).decryptor()
        prefix = decryptor.update(self.packet.exactly(_BLOCK + 2))
        code = hashlib.sha1(prefix, usedforsecurity=False)
        held = b""
        for piece in self.packet.chunks():
            plain = held + decryptor.update(piece)
            ready, held = plain[:-_MDC_SIZE], plain[-_MDC_SIZE:]
            code.update(ready)
            output.write(ready)
        code.update(_MDC_HEADER)
        if not hmac.compare_digest(held, _MDC_HEADER + code.digest()):
            raise DecryptionError(CANNOT_DECRYPT)

    def _decrypt_chunks(self, key: bytes, output: BinaryIO) -> None:
        """Version 2: each chunk has a tag, and so has their end."""
        mode = Aead(self.parameters[2])
        info = bytes((0xC0 | Tag.ENCRYPTED_AND_PROTECTED,)) + self.parameters
        iv_size = _NONCE_SIZES[mode] - _INDEX_SIZE
        derived = HKDF(SHA256(), len(key) + iv_size, salt=self.salt, info=info).derive(key)
        aead = (AESOCB3 if mode is Aead.OCB else AESGCM)(derived[: len(key)])
        iv = derived[len(key) :]
        size = 1 << self.parameters[3] + 6
        index = total = 0
        held = self.packet.read(size + 2 * _TAG_SIZE)
        try:
            while len(held) > _TAG_SIZE:  # the last tag is that of the end
                end = min(size + _TAG_SIZE, len(held) - _TAG_SIZE)
                plain = aead.decrypt(iv + index.to_bytes(_INDEX_SIZE), held[:end], info)
                output.write(plain)
                index, total = index + 1, total + len(plain)
                held = held[end:] + self.packet.read(end)
            aead.decrypt(iv + index.to_bytes(_INDEX_SIZE), held, info + total.to_bytes(8))
        except InvalidTag:
            raise DecryptionError(CANNOT_DECRYPT) from None


def read_protected_data(packet: Packet) -> ProtectedData:
    """Read what stands before the encrypted content.

    Raises:
        MalformedError: It is broken.
        UnsupportedError: It has another version, or is encrypted with something else than AES in OCB or GCM.
    """
    version = packet.exactly(1)
    if version == b"\x01":
        return ProtectedData(packet, 1)
    if version != b"\x02":
        raise UnsupportedError("the OpenPGP message is encrypted in a version that is not known")
    parameters = version + packet.exactly(3)
    _, cipher, mode, chunk = parameters
    if cipher not in KEY_SIZES or mode not in tuple(Aead):
        raise UnsupportedError(
            "the OpenPGP message is encrypted with a cipher that is not known",
            hint="ask for AES with OCB or GCM",
        )
    if chunk > _CHUNK_MAXIMUM:
        raise MalformedError("the chunks of the OpenPGP message are too large")
    return ProtectedData(packet, 2, cipher, parameters, packet.exactly(_SALT_SIZE))
