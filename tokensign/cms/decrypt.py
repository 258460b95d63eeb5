"""Opening EnvelopedData and AuthEnvelopedData with a key on a token.

Whatever goes wrong once a recipient was found is one error with one text (RFC 3218, RFC 8551 section 6):
the content is decrypted also when the key cannot be the right one (see `tokensign.cms.content_key`), so that
neither the words nor the way to them tell an attacker which step failed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from tokensign.algorithms import require_strength
from tokensign.cms.content_cipher import CANNOT_DECRYPT, decrypting
from tokensign.cms.content_key import find_content_key
from tokensign.cms.envelope import Envelope, read_envelope
from tokensign.errors import DecryptionError
from tokensign.files import chunks, open_output, spool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokensign.algorithms import ContentCipher
    from tokensign.keys import DecryptionKey

__all__ = ["DecryptionResult", "decrypt", "decrypt_to_file"]


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
    message: BinaryIO, keys: Sequence[DecryptionKey], output: BinaryIO, *, legacy: bool = False
) -> DecryptionResult:
    """Decrypt a message; its content is written only after all of it was decrypted and checked.

    Args:
        message: EnvelopedData or AuthEnvelopedData in DER or BER; it must be able to seek.
        keys: The keys and passwords that may open it.
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
        result = _decrypt(message, keys, held, legacy=legacy)
        held.seek(0)
        output.writelines(chunks(held))
    return result


def decrypt_to_file(
    message: BinaryIO,
    keys: Sequence[DecryptionKey],
    path: str | Path,
    *,
    force: bool = False,
    legacy: bool = False,
) -> DecryptionResult:
    """Decrypt a message into a file, which appears only after all of it was decrypted and checked.

    Args:
        message: As for `decrypt`.
        keys: As for `decrypt`.
        path: The file; "-" is standard output.
        force: Replace a file that exists.
        legacy: As for `decrypt`.

    Raises:
        FileError: The file exists or cannot be written.
        NoRecipientError, DecryptionError, MalformedError, UnsupportedError, TokenError: As for `decrypt`.
    """
    with open_output(path, force=force, mode=0o600) as output:
        return _decrypt(message, keys, output, legacy=legacy)


def _decrypt(
    message: BinaryIO, keys: Sequence[DecryptionKey], held: BinaryIO, *, legacy: bool
) -> DecryptionResult:
    envelope = read_envelope(message)
    cipher = envelope.encryption.cipher
    require_strength(cipher.name, cipher.strength, legacy=legacy)
    key, genuine = find_content_key(envelope.recipients, keys, envelope.encryption.key_size, legacy=legacy)
    try:
        _decrypt_content(envelope, key, held)
    except DecryptionError:
        genuine = False
    if not genuine:
        raise DecryptionError(
            CANNOT_DECRYPT,
            hint="it was damaged on its way, or it was not encrypted to this key",
        )
    return DecryptionResult(envelope.content_type, cipher, envelope.authenticated)


def _decrypt_content(envelope: Envelope, key: bytes, held: BinaryIO) -> None:
    content = envelope.encrypted_content
    stream = decrypting(
        envelope.encryption,
        key,
        size=content.size() if envelope.encryption.cipher.mode == "ccm" else 0,
        tag=envelope.mac,
        associated=envelope.authenticated_attributes or b"",
    )
    held.writelines(stream.update(piece) for piece in content.chunks())
    held.write(stream.finalize())
