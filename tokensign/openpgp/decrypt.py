"""Decryption of OpenPGP messages (RFC 9580 section 10.3) with a key on a token.

Whatever goes wrong once a recipient was found is one error with one text: the content is decrypted also
where its session key cannot be had, with a random one, so that neither the words nor the way to them tell
which step failed. What has no protection against change is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import DecryptionError, MalformedError, NoRecipientError, UnsupportedError
from tokensign.files import spool
from tokensign.openpgp.armor import unarmored
from tokensign.openpgp.encrypted_data import read_protected_data
from tokensign.openpgp.message import Literal, write_literal
from tokensign.openpgp.numbers import Tag
from tokensign.openpgp.packets import read_packets
from tokensign.openpgp.session_key import read_session_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.openpgp.session_key import EncryptedSessionKey, RecipientKey, SessionKey

__all__ = ["decrypt", "decrypt_packets"]

_RECIPIENTS_MAXIMUM: Final = 1000  # of a message; as many as a mailing list of a company has
_TRIED_MAXIMUM: Final = 32  # private-key operations that one message may cause
_LISTED: Final = 5  # recipients that an error names
_AEAD_OF_GNUPG: Final = 20  # the packet type of GnuPG 2.3 that no standard has
_PASSED_OVER: Final = (Tag.PASSWORD_SESSION_KEY, Tag.MARKER, Tag.PADDING)


def decrypt(message: BinaryIO, keys: Sequence[RecipientKey], output: BinaryIO) -> Literal:
    """Decrypt a message; its content is written only after all of it was decrypted and checked.

    Args:
        message: In binary form or in armor; it must be able to seek.
        keys: The keys that may open it.
        output: Receives the content. Meanwhile it is in memory, or in a private temporary file.

    Raises:
        NoRecipientError: The message is for other keys.
        DecryptionError: It cannot be decrypted; every cause looks the same.
        MalformedError: It is broken outside or inside of the encryption.
        UnsupportedError: It uses something that is not done here, or is not protected against change.
        TokenError: The token failed.
    """
    with spool() as held:
        decrypt_packets(message, keys, held)
        return write_literal(held, output)


def decrypt_packets(message: BinaryIO, keys: Sequence[RecipientKey], held: BinaryIO) -> None:
    """Decrypt a message to the packets inside, with their signatures, which other programs verify.

    Args:
        message: As for `decrypt`.
        keys: As for `decrypt`.
        held: Receives the packets as they come, and is rewound; throw it away if this raises.

    Raises:
        NoRecipientError, DecryptionError, MalformedError, UnsupportedError, TokenError: As for `decrypt`.
    """
    session_keys: list[EncryptedSessionKey] = []
    with unarmored(message) as stream:
        packets = read_packets(stream)
        for packet in packets:
            if packet.tag == Tag.ENCRYPTED_SESSION_KEY:
                if len(session_keys) == _RECIPIENTS_MAXIMUM:
                    raise UnsupportedError(f"the OpenPGP message has more than {_RECIPIENTS_MAXIMUM} keys")
                session_key = read_session_key(packet)
                session_keys += [session_key] if session_key else []
            elif packet.tag == Tag.ENCRYPTED_AND_PROTECTED:
                data = read_protected_data(packet)
                fitting = [one for one in session_keys if one.version == data.session_key_version]
                data.decrypt(_session_key(fitting, keys), held)
                break
            elif packet.tag not in _PASSED_OVER:
                raise _refusal(packet.tag)
        else:
            raise MalformedError("the OpenPGP message has no encrypted data")
        if any(packet.tag not in (Tag.MARKER, Tag.PADDING) for packet in packets):
            raise MalformedError("there is something behind the encrypted data of the OpenPGP message")
    held.seek(0)


def _session_key(found: Sequence[EncryptedSessionKey], keys: Sequence[RecipientKey]) -> SessionKey | None:
    """The session key; None where a recipient was found and cannot open it."""
    matches = [(one, key) for one in found for key in keys if one.is_for(key)]
    if not matches:
        raise NoRecipientError("the key is no recipient of this OpenPGP message", hint=_recipients(found))
    if len(matches) > _TRIED_MAXIMUM:
        raise UnsupportedError(f"more than {_TRIED_MAXIMUM} session keys would have to be tried")
    opened: SessionKey | None = None
    for one, key in matches:
        try:
            candidate = one.open(key)
        except DecryptionError:
            continue
        opened = opened or candidate
    return opened


def _recipients(found: Sequence[EncryptedSessionKey]) -> str:
    """Whom a message is for, for a person whose key does not open it."""
    if not found:
        return "it is encrypted with a password, or to nobody; ask the sender to encrypt it to the key"
    names = sorted({one.recipient[-8:].hex().upper() or "anonymous" for one in found})
    listed = ", ".join(names[:_LISTED]) + (
        f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    )
    return f"it is for {listed}; --certificate and --created decide which key ID the key has"


def _refusal(tag: int) -> Exception:
    """Why a message does not go on."""
    match tag:
        case Tag.ENCRYPTED:
            return UnsupportedError(
                "the OpenPGP message is not protected against change, so anybody may have changed it",
                hint="ask for it in the format of RFC 9580, which every current program writes",
            )
        case _ if tag == _AEAD_OF_GNUPG:
            return UnsupportedError(
                "the OpenPGP message is encrypted in a format of GnuPG alone",
                hint="give the sender a current certificate of the key, which does not ask for it",
            )
        case Tag.SIGNATURE | Tag.ONE_PASS_SIGNATURE | Tag.LITERAL | Tag.COMPRESSED:
            return MalformedError(
                "the OpenPGP message is not encrypted", hint="`gpg --verify` reads one that is signed"
            )
        case _:
            return MalformedError("this is not an encrypted OpenPGP message")
