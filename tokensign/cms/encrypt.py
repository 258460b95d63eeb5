"""Making EnvelopedData and AuthEnvelopedData; the content streams through the cipher."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO, Final

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tokensign import der
from tokensign.algorithms import DEFAULT_CONTENT_CIPHER, ContentCipher, Strength
from tokensign.cms.content_info import AUTH_ENVELOPED_DATA, DATA, ENVELOPED_DATA, content_info_header
from tokensign.cms.envelope import ContentEncryption, encode_content_encryption
from tokensign.cms.recipients import encode_key_trans
from tokensign.errors import FileError, UnsupportedError, UsageError
from tokensign.files import chunks
from tokensign.keys import OaepTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.certificates import Certificate
    from tokensign.keys import KeyTransport

__all__ = ["encrypt"]

_TAG_SIZE: Final = 16  # octets; the longest that GCM has
_BLOCK_SIZE: Final = 16  # octets of an AES block
_GCM_LIMIT: Final = (1 << 36) - 32  # octets under one nonce (NIST SP 800-38D section 5.2.1.1)


def encrypt(
    content: BinaryIO,
    recipients: Sequence[Certificate],
    output: BinaryIO,
    *,
    cipher: ContentCipher = DEFAULT_CONTENT_CIPHER,
    transport: KeyTransport | None = None,
    content_type: str = DATA,
) -> None:
    """Encrypt content to the holders of certificates, under a fresh content-encryption key.

    Args:
        content: From its current position to its end; it must be able to seek.
        recipients: Their certificates, with RSA keys.
        output: Receives AuthEnvelopedData for an AEAD cipher, EnvelopedData for the others; DER.
        cipher: Encrypts the content; AES-256-GCM unless told.
        transport: Encrypts the key; OAEP with SHA-256 unless told.
        content_type: What the content is, dotted; id-data unless told.

    Raises:
        UsageError: No recipient.
        UnsupportedError: A certificate's key cannot be encrypted to, or the content is too large for GCM.
        FileError: The content changed while it was encrypted.
    """
    if not recipients:
        raise UsageError("a message needs at least one recipient")
    if cipher.strength is not Strength.STRONG:
        raise UnsupportedError(f"{cipher.name} is too weak to encrypt with")
    size = _remaining(content)
    if cipher.authenticated and size > _GCM_LIMIT:
        raise UnsupportedError(f"{cipher.name} encrypts at most {_GCM_LIMIT} bytes", hint="use aes-256-cbc")
    key = os.urandom(cipher.key_size)
    tag_size = _TAG_SIZE if cipher.authenticated else 0
    encryption = ContentEncryption(cipher, os.urandom(cipher.iv_size), tag_size)
    unique = dict.fromkeys(recipients)
    infos = [encode_key_trans(certificate, key, transport or OaepTransport()) for certificate in unique]

    encrypted_size = size if cipher.authenticated else (size // _BLOCK_SIZE + 1) * _BLOCK_SIZE
    output.write(_head(infos, encryption, content_type, encrypted_size))
    tag = _encrypt_content(content, output, key, encryption, size)
    if cipher.authenticated:
        output.write(der.octet_string(tag))


def _remaining(content: BinaryIO) -> int:
    start = content.tell()
    end = content.seek(0, io.SEEK_END)
    content.seek(start)
    return end - start


def _head(
    recipient_infos: Sequence[bytes], encryption: ContentEncryption, content_type: str, encrypted_size: int
) -> bytes:
    """All octets of the message before its encrypted content."""
    before = der.integer(0) + der.set_of(*recipient_infos)  # version 0 in both structures
    info = der.object_identifier(content_type) + encode_content_encryption(encryption)
    info += der.header(0x80, encrypted_size)  # [0] IMPLICIT OCTET STRING
    before += der.header(0x30, len(info) + encrypted_size) + info
    after_size = len(der.octet_string(bytes(encryption.tag_size))) if encryption.tag_size else 0
    total = len(before) + encrypted_size + after_size
    kind = AUTH_ENVELOPED_DATA if encryption.cipher.authenticated else ENVELOPED_DATA
    opening = der.header(0x30, total)
    return content_info_header(kind, len(opening) + total) + opening + before


def _encrypt_content(
    content: BinaryIO, output: BinaryIO, key: bytes, encryption: ContentEncryption, size: int
) -> bytes:
    """Write the encrypted content; what comes back is the tag, empty for CBC."""
    written = 0
    if encryption.cipher.mode == "gcm":
        authenticated = Cipher(algorithms.AES(key), modes.GCM(encryption.iv)).encryptor()
        for piece in chunks(content):
            written += len(piece)
            output.write(authenticated.update(piece))
        output.write(authenticated.finalize())
        tag = authenticated.tag
    else:
        encryptor = Cipher(algorithms.AES(key), modes.CBC(encryption.iv)).encryptor()
        padder = padding.PKCS7(8 * _BLOCK_SIZE).padder()
        for piece in chunks(content):
            written += len(piece)
            output.write(encryptor.update(padder.update(piece)))
        output.write(encryptor.update(padder.finalize()) + encryptor.finalize())
        tag = b""
    if written != size:
        raise FileError("the content changed while it was being encrypted")
    return tag
