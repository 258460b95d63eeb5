"""EncryptedData: content encrypted with a key that whoever may read it has already (RFC 5652 section 8).

It has no recipients: how the key is managed is not the message's business. It has no place for a tag either,
so it is never authenticated; to others, send AuthEnvelopedData (`tokensign.cms.encrypt`).
"""

from __future__ import annotations

from typing import BinaryIO, Final

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS, ContentCipher, Strength, require_strength
from tokensign.cms.ber import SEQUENCE
from tokensign.cms.content_cipher import decrypting, encrypting, fresh_encryption
from tokensign.cms.content_info import (
    DATA,
    content_info_header,
    enter_content,
    read_integer,
)
from tokensign.cms.decrypt import DecryptionResult
from tokensign.cms.encapsulated import remaining_size
from tokensign.cms.encrypted_content import (
    EncryptedContentInfo,
    encrypted_content_header,
    read_encrypted_content_info,
)
from tokensign.cms.envelope import skip_optional
from tokensign.errors import FileError, UnsupportedError, UsageError
from tokensign.files import chunks, spool

__all__ = ["ENCRYPTED_DATA", "cipher_for_key", "decrypt_with_key", "encrypt_with_key", "read_encrypted_data"]

ENCRYPTED_DATA: Final = "1.2.840.113549.1.7.6"


def encrypt_with_key(
    content: BinaryIO,
    key: bytes,
    output: BinaryIO,
    *,
    cipher: ContentCipher | None = None,
    content_type: str = DATA,
) -> None:
    """Encrypt content with a key that is given.

    Args:
        content: From its current position to its end; it must be able to seek.
        key: 16, 24 or 32 octets.
        output: Receives EncryptedData, DER.
        cipher: Encrypts the content; None for AES-CBC with the key's size.
        content_type: What the content is, dotted; id-data unless told.

    Raises:
        UsageError: The key has another size than the cipher needs.
        UnsupportedError: The cipher is too weak, or an AEAD, for whose tag EncryptedData has no place.
        FileError: The content changed while it was encrypted.
    """
    cipher = cipher or cipher_for_key(key)
    _require_cbc(cipher)
    if cipher.strength is not Strength.STRONG:
        raise UnsupportedError(f"{cipher.name} is too weak to encrypt with")
    _require_size(key, cipher.name, cipher.key_size)
    size = remaining_size(content)
    encryption = fresh_encryption(cipher, size)
    encrypted_size = encryption.encrypted_size(size)
    fields = der.integer(0)  # RFC 5652 section 8: without unprotected attributes
    fields += encrypted_content_header(content_type, encryption, encrypted_size)
    opening = der.header(SEQUENCE, len(fields) + encrypted_size)
    output.write(content_info_header(ENCRYPTED_DATA, len(opening) + len(fields) + encrypted_size))
    output.write(opening + fields)
    stream = encrypting(encryption, key, size=size)
    taken = 0
    for piece in chunks(content):
        taken += len(piece)
        output.write(stream.update(piece))
    output.write(stream.finalize())
    if taken != size:
        raise FileError("the content changed while it was being encrypted")


def cipher_for_key(key: bytes) -> ContentCipher:
    """AES-CBC with the size of a key.

    Args:
        key: 16, 24 or 32 octets.

    Raises:
        UsageError: The key has another size.
    """
    cipher = CONTENT_CIPHERS.get(f"aes-{8 * len(key)}-cbc")
    if cipher is None:
        raise UsageError(f"AES needs a key of 16, 24 or 32 bytes, not {len(key)}")
    return cipher


def read_encrypted_data(stream: BinaryIO) -> EncryptedContentInfo:
    """Read an EncryptedData message for its structure; the encrypted content is passed over.

    Args:
        stream: The message in DER or BER from its current position; it must be able to seek.

    Raises:
        MalformedError: The structure is broken.
        UnsupportedError: It is another kind of message, or a cipher that is not known here.
    """
    _, reader = enter_content(stream, "EncryptedData", ENCRYPTED_DATA)
    read_integer(reader, "version")
    encrypted = read_encrypted_content_info(reader)
    _require_cbc(encrypted.encryption.cipher)
    skip_optional(reader, 1)  # unprotectedAttrs
    for _ in range(3):  # EncryptedData, the explicit tag, ContentInfo
        reader.leave()
    return encrypted


def decrypt_with_key(
    message: BinaryIO, key: bytes, output: BinaryIO, *, legacy: bool = False
) -> DecryptionResult:
    """Decrypt a message with a key that is given; its content is written only after all of it was decrypted.

    Args:
        message: EncryptedData in DER or BER; it must be able to seek.
        key: As many octets as the cipher needs.
        output: Receives the content.
        legacy: Whether old ciphers are accepted.

    Raises:
        UsageError: The key has another size than the cipher needs.
        DecryptionError: The key is another one, or the content was changed.
        MalformedError: The message is broken outside of its encrypted content.
        UnsupportedError: It uses something that is not done here.
    """
    encrypted = read_encrypted_data(message)
    encryption = encrypted.encryption
    require_strength(encryption.cipher.name, encryption.cipher.strength, legacy=legacy)
    _require_size(key, encryption.cipher.name, encryption.key_size)
    stream = decrypting(encryption, key, size=0)
    with spool() as held:
        held.writelines(map(stream.update, encrypted.content.chunks()))
        held.write(stream.finalize())
        held.seek(0)
        output.writelines(chunks(held))
    return DecryptionResult(encrypted.content_type, encryption.cipher, authenticated=False)


def _require_cbc(cipher: ContentCipher) -> None:
    if cipher.authenticated:
        raise UnsupportedError(f"{cipher.name} does not belong into EncryptedData", hint="use aes-256-cbc")


def _require_size(key: bytes, name: str, size: int) -> None:
    if len(key) != size:
        raise UsageError(f"{name} needs a key of {size} bytes, not {len(key)}")
