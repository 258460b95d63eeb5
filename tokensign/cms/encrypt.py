"""Making EnvelopedData and AuthEnvelopedData; the content streams through the cipher."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign import der
from tokensign.algorithms import DEFAULT_CONTENT_CIPHER, ContentCipher, Strength
from tokensign.certificates import Certificate
from tokensign.cms.ber import SEQUENCE, context
from tokensign.cms.content_cipher import (
    ContentEncryption,
    encode_content_encryption,
    encrypting,
    fresh_encryption,
)
from tokensign.cms.content_info import AUTH_ENVELOPED_DATA, DATA, ENVELOPED_DATA, content_info_header
from tokensign.cms.encapsulated import remaining_size
from tokensign.cms.encrypted_content import encrypted_content_header
from tokensign.cms.indefinite import END, begin, segments
from tokensign.cms.recipients import RecipientEncoder, encode_recipient_info, enveloped_data_version
from tokensign.errors import FileError, UnsupportedError, UsageError
from tokensign.files import chunks
from tokensign.keys import OaepTransport

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tokensign.keys import KeyTransport

__all__ = ["Recipient", "encrypt", "encrypt_streamed"]

Recipient = Certificate | RecipientEncoder
"""Who will be able to decrypt: the holder of a certificate, of a shared key, or of a password."""

_GCM_LIMIT: Final = (1 << 36) - 32  # octets under one nonce (NIST SP 800-38D section 5.2.1.1)


def encrypt(
    content: BinaryIO,
    recipients: Sequence[Recipient],
    output: BinaryIO,
    *,
    cipher: ContentCipher = DEFAULT_CONTENT_CIPHER,
    transport: KeyTransport | None = None,
    content_type: str = DATA,
) -> None:
    """Encrypt content to recipients of any mixture, under a fresh content-encryption key.

    Args:
        content: From its current position to its end; it must be able to seek.
        recipients: Certificates, whose keys decide about the kind of RecipientInfo: RSA key transport, key
            agreement with P-256, P-384, P-521, X25519 and X448, encapsulation with ML-KEM; or other encoders.
        output: Receives AuthEnvelopedData for an AEAD cipher, EnvelopedData for the others; DER.
        cipher: Encrypts the content; AES-256-GCM unless told.
        transport: Encrypts the key to RSA certificates; OAEP with SHA-256 unless told.
        content_type: What the content is, dotted; id-data unless told.

    Raises:
        UsageError: No recipient.
        UnsupportedError: A certificate's key cannot be encrypted to, or the content is too large for GCM.
        FileError: The content changed while it was encrypted.
    """
    size = remaining_size(content)
    _check(recipients, cipher, size)
    key = os.urandom(cipher.key_size)
    encryption = fresh_encryption(cipher, size)
    infos = _recipient_infos(recipients, key, transport or OaepTransport())

    output.write(_head(infos, encryption, content_type, encryption.encrypted_size(size)))
    stream = encrypting(encryption, key, size=size)
    written = 0
    for piece in chunks(content):
        written += len(piece)
        output.write(stream.update(piece))
    output.write(stream.finalize())
    if written != size:
        raise FileError("the content changed while it was being encrypted")
    if cipher.authenticated:
        output.write(der.octet_string(stream.tag))


def encrypt_streamed(
    content: BinaryIO,
    recipients: Sequence[Recipient],
    output: BinaryIO,
    *,
    cipher: ContentCipher = DEFAULT_CONTENT_CIPHER,
    transport: KeyTransport | None = None,
    content_type: str = DATA,
) -> None:
    """Encrypt content of unknown size, such as a pipe's, as it comes; the arguments are those of `encrypt`.

    Args:
        content: Read once to its end; it need not seek.
        recipients: As for `encrypt`.
        output: Receives the message in BER with indefinite lengths.
        cipher: As for `encrypt`, but for CCM, which must know the size.
        transport: As for `encrypt`.
        content_type: As for `encrypt`.

    Raises:
        UsageError: No recipient.
        UnsupportedError: As for `encrypt`; also for CCM.
    """
    _check(recipients, cipher, 0)
    if cipher.mode == "ccm":
        raise UnsupportedError(
            f"{cipher.name} must know the size of the content beforehand", hint="use aes-256-gcm"
        )
    key = os.urandom(cipher.key_size)
    encryption = fresh_encryption(cipher, 0)
    infos = _recipient_infos(recipients, key, transport or OaepTransport())
    kind = AUTH_ENVELOPED_DATA if cipher.authenticated else ENVELOPED_DATA

    output.write(begin(SEQUENCE) + der.object_identifier(kind) + begin(context(0)) + begin(SEQUENCE))
    output.write(_fields_before(infos, encryption))
    output.write(begin(SEQUENCE) + der.object_identifier(content_type))
    output.write(encode_content_encryption(encryption) + begin(context(0)))
    stream = encrypting(encryption, key, size=0)
    output.writelines(segments(stream.update(piece) for piece in _limited(chunks(content), cipher)))
    output.writelines(segments([stream.finalize()]))
    output.write(END + END)
    if cipher.authenticated:
        output.write(der.octet_string(stream.tag))
    output.write(END + END + END)


def _check(recipients: Sequence[Recipient], cipher: ContentCipher, size: int) -> None:
    if not recipients:
        raise UsageError("a message needs at least one recipient")
    if cipher.strength is not Strength.STRONG:
        raise UnsupportedError(f"{cipher.name} is too weak to encrypt with")
    _require_room(cipher, size)


def _require_room(cipher: ContentCipher, size: int) -> None:
    if cipher.mode == "gcm" and size > _GCM_LIMIT:
        raise UnsupportedError(f"{cipher.name} encrypts at most {_GCM_LIMIT} bytes", hint="use aes-256-cbc")


def _limited(pieces: Iterable[bytes], cipher: ContentCipher) -> Iterator[bytes]:
    """The pieces, until there are more octets than the cipher takes."""
    size = 0
    for piece in pieces:
        size += len(piece)
        _require_room(cipher, size)
        yield piece


def _recipient_infos(recipients: Sequence[Recipient], key: bytes, transport: KeyTransport) -> list[bytes]:
    """The RecipientInfos, one for each certificate even where it is given twice."""
    certificates = dict.fromkeys(one for one in recipients if isinstance(one, Certificate))
    encoders = [one for one in recipients if not isinstance(one, Certificate)]
    infos = [encode_recipient_info(certificate, key, transport) for certificate in certificates]
    return infos + [encoder.encode(key) for encoder in encoders]


def _fields_before(recipient_infos: Sequence[bytes], encryption: ContentEncryption) -> bytes:
    """Version and recipientInfos; the version of AuthEnvelopedData is always 0 (RFC 5083 section 2.1)."""
    version = 0 if encryption.cipher.authenticated else enveloped_data_version(recipient_infos)
    return der.integer(version) + der.set_of(*recipient_infos)


def _head(
    recipient_infos: Sequence[bytes], encryption: ContentEncryption, content_type: str, encrypted_size: int
) -> bytes:
    """All octets of the message before its encrypted content."""
    before = _fields_before(recipient_infos, encryption)
    before += encrypted_content_header(content_type, encryption, encrypted_size)
    after_size = len(der.octet_string(bytes(encryption.tag_size))) if encryption.tag_size else 0
    total = len(before) + encrypted_size + after_size
    kind = AUTH_ENVELOPED_DATA if encryption.cipher.authenticated else ENVELOPED_DATA
    opening = der.header(SEQUENCE, total)
    return content_info_header(kind, len(opening) + total) + opening + before
