"""Opening EnvelopedData and AuthEnvelopedData with a key on a token.

Whatever goes wrong once a recipient was found is one error with one text (RFC 3218, RFC 8551 section 6):
a key that the token refuses is replaced by a random one, and the content is decrypted with it all the
same, so that neither the words nor the way to them tell an attacker which step failed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tokensign.algorithms import require_strength
from tokensign.cms.envelope import Envelope, read_envelope
from tokensign.cms.recipients import KeyTransRecipientInfo, require_transport_strength
from tokensign.errors import DecryptionError, MessageError, NoRecipientError, UnsupportedError
from tokensign.files import chunks, open_output, spool
from tokensign.keys import Pkcs1Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tokensign.algorithms import ContentCipher
    from tokensign.keys import Decrypter, KeyTransport

__all__ = ["DecryptionResult", "decrypt", "decrypt_to_file"]

_BLOCK_BITS: Final = 128
_MAX_KEYS_TRIED: Final = 32  # private-key operations that one message may cause


@dataclass(frozen=True, slots=True)
class DecryptionResult:
    """What is known about decrypted content.

    Attributes:
        content_type: What it is, dotted.
        cipher: How it was encrypted.
        authenticated: Whether a tag shows that it arrived as it was encrypted. It never tells who did.
    """

    content_type: str
    cipher: ContentCipher
    authenticated: bool


def decrypt(
    message: BinaryIO, decrypters: Sequence[Decrypter], output: BinaryIO, *, legacy: bool = False
) -> DecryptionResult:
    """Decrypt a message; its content is written only after all of it was decrypted and checked.

    Args:
        message: EnvelopedData or AuthEnvelopedData in DER or BER; it must be able to seek.
        decrypters: The keys to look for among the recipients.
        output: Receives the content. Meanwhile it is in memory, or in a private temporary file.
        legacy: Whether old algorithms are accepted.

    Raises:
        NoRecipientError: The message is for other keys.
        DecryptionError: It cannot be decrypted; every cause looks the same.
        MalformedError: It is broken outside of its encrypted content.
        UnsupportedError: It uses something that is not done here.
        TokenError: The token failed.
    """
    with spool() as held:
        result = _decrypt(message, decrypters, held, legacy=legacy)
        held.seek(0)
        output.writelines(chunks(held))
    return result


def decrypt_to_file(
    message: BinaryIO,
    decrypters: Sequence[Decrypter],
    path: str | Path,
    *,
    force: bool = False,
    legacy: bool = False,
) -> DecryptionResult:
    """Decrypt a message into a file, which appears only after all of it was decrypted and checked.

    Args:
        message: As for `decrypt`.
        decrypters: As for `decrypt`.
        path: The file; "-" is standard output.
        force: Replace a file that exists.
        legacy: As for `decrypt`.

    Raises:
        FileError: The file exists or cannot be written.
        NoRecipientError, DecryptionError, MalformedError, UnsupportedError, TokenError: As for `decrypt`.
    """
    with open_output(path, force=force, mode=0o600) as output:
        return _decrypt(message, decrypters, output, legacy=legacy)


def _decrypt(
    message: BinaryIO, decrypters: Sequence[Decrypter], held: BinaryIO, *, legacy: bool
) -> DecryptionResult:
    envelope = read_envelope(message)
    cipher = envelope.encryption.cipher
    require_strength(cipher.name, cipher.strength, legacy=legacy)
    key, genuine = _content_key(envelope, _matches(envelope, decrypters, legacy=legacy))
    try:
        if cipher.mode == "gcm":
            _decrypt_gcm(envelope, key, held)
        else:
            _decrypt_cbc(envelope, key, held)
    except (InvalidTag, ValueError):
        genuine = False
    if not genuine:
        raise DecryptionError(
            "the message cannot be decrypted",
            hint="it was damaged on its way, or it was not encrypted to this key",
        )
    return DecryptionResult(envelope.content_type, cipher, envelope.authenticated)


_Match = tuple["Decrypter", KeyTransRecipientInfo, "KeyTransport"]


def _matches(envelope: Envelope, decrypters: Sequence[Decrypter], *, legacy: bool) -> list[_Match]:
    """Every pair of a key and a recipient that may open the message.

    A key without any certificate cannot be found by name, so it is tried on every recipient. A recipient
    whose algorithm is not known matters only where there is no other.
    """
    found: list[_Match] = []
    refusals: list[MessageError] = []
    for decrypter in decrypters:
        for recipient in _recipients_of(envelope, decrypter):
            try:
                transport = recipient.transport
                require_transport_strength(transport, legacy=legacy)
            except MessageError as error:
                refusals.append(error)
            else:
                found.append((decrypter, recipient, transport))
    if refusals and not found:
        raise refusals[0]
    if not found:
        raise NoRecipientError(
            "no key here is a recipient of this message",
            hint=f"it is for: {_listed(envelope)}",
        )
    if len(found) > _MAX_KEYS_TRIED:
        raise UnsupportedError(
            f"{len(found)} keys would have to be tried, more than {_MAX_KEYS_TRIED}",
            hint="name one with --key, or import its certificate",
        )
    return found


def _recipients_of(envelope: Envelope, decrypter: Decrypter) -> Iterator[KeyTransRecipientInfo]:
    if isinstance(decrypter.public_key, rsa.RSAPublicKey):
        for recipient in envelope.recipients:
            if isinstance(recipient, KeyTransRecipientInfo) and (
                not decrypter.certificates or recipient.is_for(decrypter)
            ):
                yield recipient


def _listed(envelope: Envelope, limit: int = 5) -> str:
    names = [str(recipient) for recipient in envelope.recipients]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return "; ".join(names[:limit]) + more or "nobody"


def _content_key(envelope: Envelope, matches: Sequence[_Match]) -> tuple[bytes, bool]:
    """The content-encryption key, and whether failing is already certain.

    Every match is tried, also after one succeeded. Where none gives a key, a random one stands in
    (RFC 3218 section 2.3.2). With PKCS #1 v1.5 that is not even noted, because the padding must not
    decide the outcome; with OAEP nobody can make the padding hold but by knowing the key.
    """
    size = envelope.encryption.cipher.key_size
    key, found = os.urandom(size), False
    for decrypter, recipient, transport in matches:
        try:
            candidate = decrypter.unwrap(recipient.encrypted_key, transport)
        except DecryptionError:
            candidate = b""
        if len(candidate) == size and not found:
            key, found = candidate, True
    silent = any(isinstance(transport, Pkcs1Transport) for _, _, transport in matches)
    return key, found or silent


def _decrypt_gcm(envelope: Envelope, key: bytes, held: BinaryIO) -> None:
    mode = modes.GCM(envelope.encryption.iv, envelope.mac, min_tag_length=len(envelope.mac))
    decryptor = Cipher(algorithms.AES(key), mode).decryptor()
    if envelope.authenticated_attributes is not None:
        decryptor.authenticate_additional_data(envelope.authenticated_attributes)
    held.writelines(decryptor.update(piece) for piece in envelope.encrypted_content.chunks())
    held.write(decryptor.finalize())


def _decrypt_cbc(envelope: Envelope, key: bytes, held: BinaryIO) -> None:
    decryptor = Cipher(algorithms.AES(key), modes.CBC(envelope.encryption.iv)).decryptor()
    unpadder = padding.PKCS7(_BLOCK_BITS).unpadder()
    held.writelines(unpadder.update(decryptor.update(piece)) for piece in envelope.encrypted_content.chunks())
    held.write(unpadder.update(decryptor.finalize()) + unpadder.finalize())
