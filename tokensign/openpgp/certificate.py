"""A transferable public key (RFC 9580 section 10.1.1), made with signatures of the key itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tokensign.errors import UsageError
from tokensign.openpgp.numbers import Compression, Hash, Tag
from tokensign.openpgp.packets import encode_packet
from tokensign.openpgp.signature import SignatureType, Subpacket, sign, subpacket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.openpgp.public_key import PublicKey
    from tokensign.openpgp.signature import SigningKey

__all__ = ["make_certificate"]

_CERTIFY, _SIGN, _ENCRYPT = 0x01, 0x02, 0x04 | 0x08  # key flags (section 5.2.3.29)
_FEATURES: Final = bytes((0x01 | 0x08,))  # section 5.2.3.32: SEIPD of version 1 and of version 2
_USER_ID_MAXIMUM: Final = 1 << 11  # octets; GnuPG takes no longer ones


def make_certificate(
    key: SigningKey,
    user_ids: Sequence[str],
    *,
    encryption: PublicKey | None = None,
    expires: datetime | None = None,
    moment: datetime | None = None,
) -> bytes:
    """A public key with its names, and the subkey to encrypt to, each bound by a signature.

    Args:
        key: The primary key, which certifies and signs.
        user_ids: Whose it is, such as "Alice <alice@acme.example>"; the first one is the primary.
        encryption: What others encrypt to; None for nothing. The primary key itself is taken, too, if it is
            RSA.
        expires: When the keys expire; None for never.
        moment: When it is signed; None for now.

    Returns:
        Packets in binary form.

    Raises:
        UsageError: There is no name or one that nobody takes, or the keys would expire before they were made.
        SigningError: A fresh signature does not verify.
        TokenError: The token failed.
    """
    names = [name.encode() for name in user_ids]
    if not names or not all(0 < len(name) <= _USER_ID_MAXIMUM for name in names):
        raise UsageError(f"an OpenPGP user ID has 1 to {_USER_ID_MAXIMUM} bytes")
    if not all(map(str.isprintable, user_ids)):
        raise UsageError("an OpenPGP user ID is one line of text")
    moment = moment or datetime.now(UTC)
    same = encryption is not None and encryption.body == key.public.body
    flags = bytes((_CERTIFY | _SIGN | (_ENCRYPT if same else 0),))
    said = [
        subpacket(Subpacket.KEY_FLAGS, flags),
        *_expiration(key.public, expires),
        subpacket(Subpacket.PREFERRED_CIPHERS, bytes((9, 8, 7))),
        subpacket(Subpacket.PREFERRED_HASHES, bytes((Hash.SHA512, Hash.SHA384, Hash.SHA256))),
        subpacket(Subpacket.PREFERRED_COMPRESSION, bytes((Compression.NONE,))),
        subpacket(Subpacket.FEATURES, _FEATURES),
    ]
    packets = [key.public.packet(Tag.PUBLIC_KEY)]
    primary = [subpacket(Subpacket.PRIMARY_USER_ID, b"\x01")]
    for name in names:
        hashed = [key.public.hashed, b"\xb4" + len(name).to_bytes(4) + name]
        packets.append(encode_packet(Tag.USER_ID, name))
        packets.append(
            sign(SignatureType.POSITIVE_CERTIFICATION, hashed, key, [*said, *primary], moment=moment)
        )
        primary = []
    if encryption is not None and not same:
        said = [subpacket(Subpacket.KEY_FLAGS, bytes((_ENCRYPT,))), *_expiration(encryption, expires)]
        hashed = [key.public.hashed, encryption.hashed]
        packets.append(encryption.packet(Tag.PUBLIC_SUBKEY))
        packets.append(sign(SignatureType.SUBKEY_BINDING, hashed, key, said, moment=moment))
    return b"".join(packets)


def _expiration(key: PublicKey, expires: datetime | None) -> list[bytes]:
    """The seconds from when a key was made to when it expires (section 5.2.3.13)."""
    if expires is None:
        return []
    seconds = int((expires - key.created).total_seconds())
    if not 0 < seconds < 1 << 32:
        raise UsageError(f"the OpenPGP key would expire on {expires:%Y-%m-%d}, before it was made")
    return [subpacket(Subpacket.KEY_EXPIRATION_TIME, seconds.to_bytes(4))]
