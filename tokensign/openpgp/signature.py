"""Signatures of version 4 (RFC 9580 section 5.2), made by one operation of a key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from tokensign.algorithms import default_scheme
from tokensign.errors import SigningError, UnsupportedError, UsageError
from tokensign.openpgp.numbers import HASHES, PublicKeyAlgorithm, Tag
from tokensign.openpgp.packets import encode_length, encode_mpi, encode_packet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tokensign.algorithms import SignatureScheme
    from tokensign.keys import Signer
    from tokensign.openpgp.public_key import PublicKey

__all__ = ["SignatureType", "SigningKey", "Subpacket", "sign", "sign_detached", "subpacket"]

_VERSION: Final = 4


class SignatureType(IntEnum):
    """What a signature says (section 5.2.1)."""

    BINARY = 0x00
    TEXT = 0x01
    POSITIVE_CERTIFICATION = 0x13
    SUBKEY_BINDING = 0x18


class Subpacket(IntEnum):
    """Types of signature subpackets (section 5.2.3.7)."""

    CREATION_TIME = 2
    KEY_EXPIRATION_TIME = 9
    PREFERRED_CIPHERS = 11
    ISSUER_KEY_ID = 16
    PREFERRED_HASHES = 21
    PREFERRED_COMPRESSION = 22
    PRIMARY_USER_ID = 25
    KEY_FLAGS = 27
    FEATURES = 30
    ISSUER_FINGERPRINT = 33


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, and what OpenPGP calls its public half.

    Attributes:
        private: Who signs.
        public: Its name.
    """

    private: Signer
    public: PublicKey

    @property
    def scheme(self) -> SignatureScheme:
        """How it signs: with PKCS #1 v1.5 if it is RSA, and with the digest that its type usually has."""
        return default_scheme(self.private.public_key)


def subpacket(kind: Subpacket, content: bytes) -> bytes:
    """A subpacket of a signature (section 5.2.3.7)."""
    return encode_length(1 + len(content)) + bytes((kind,)) + content


def sign_detached(
    content: Iterable[bytes], key: SigningKey, *, text: bool = False, moment: datetime | None = None
) -> bytes:
    """Sign content that travels beside the signature.

    Args:
        content: What is signed, in pieces; for `text` in canonical form, with lines that end with CR LF.
        key: Who signs.
        text: Whether the signature is over text, which may change its line ends on its way.
        moment: When; None for now.

    Returns:
        A signature packet.

    Raises:
        UsageError: The key was made later than `moment`.
        SigningError: The fresh signature does not verify.
        TokenError: The token failed.
    """
    kind = SignatureType.TEXT if text else SignatureType.BINARY
    return sign(kind, content, key, moment=moment)


def sign(
    kind: SignatureType,
    content: Iterable[bytes],
    key: SigningKey,
    subpackets: Sequence[bytes] = (),
    *,
    moment: datetime | None = None,
) -> bytes:
    """Make a signature of any type.

    Args:
        kind: What it says.
        content: What is hashed before the signature's own fields (section 5.2.4).
        key: Who signs.
        subpackets: What is said besides time and issuer, in `subpacket` form.
        moment: When; None for now.

    Returns:
        A signature packet.

    Raises:
        UsageError, SigningError, TokenError: As for `sign_detached`.
        UnsupportedError: The key does not sign.
    """
    moment = moment or datetime.now(UTC)
    if moment < key.public.created:
        raise UsageError(
            f"the OpenPGP key was made later than the signature: {key.public.created:%Y-%m-%d %H:%M:%S} UTC",
            hint="give the right time with --created or --certificate",
        )
    scheme = key.scheme
    said = b"".join(
        (
            subpacket(Subpacket.CREATION_TIME, int(moment.timestamp()).to_bytes(4)),
            subpacket(Subpacket.ISSUER_FINGERPRINT, bytes((_VERSION,)) + key.public.fingerprint),
            subpacket(Subpacket.ISSUER_KEY_ID, key.public.key_id),  # for readers older than RFC 9580
            *subpackets,
        )
    )
    numbers = bytes((_VERSION, kind, key.public.algorithm, HASHES[scheme.digest.name]))
    fields = numbers + len(said).to_bytes(2) + said
    hasher = scheme.digest.new()
    for piece in content:
        hasher.update(piece)
    hasher.update(fields)
    hasher.update(bytes((_VERSION, 0xFF)) + len(fields).to_bytes(4))
    digest = hasher.digest()
    signature = _signed(key, digest)
    without_hashing = (0).to_bytes(2)  # no unhashed subpackets
    return encode_packet(Tag.SIGNATURE, fields + without_hashing + digest[:2] + signature)


def _signed(key: SigningKey, digest: bytes) -> bytes:
    """The algorithm-specific fields (section 5.2.3), once the fresh signature has been verified."""
    scheme = key.scheme
    operation = key.private.sign_digest if scheme.prehashed else key.private.sign
    made = operation(digest, scheme)  # EdDSA signs the hash value as its message
    _verify(key, digest, made)
    match key.public.algorithm:
        case PublicKeyAlgorithm.RSA:
            return encode_mpi(int.from_bytes(made))
        case PublicKeyAlgorithm.ECDSA:
            return b"".join(map(encode_mpi, decode_dss_signature(made)))
        case PublicKeyAlgorithm.EDDSA_LEGACY:
            return encode_mpi(int.from_bytes(made[:32])) + encode_mpi(int.from_bytes(made[32:]))
        case _:
            return made


def _verify(key: SigningKey, digest: bytes, signature: bytes) -> None:
    """Refuse to release what may reveal the key."""
    hashed = Prehashed(key.scheme.digest.primitive())
    try:
        match key.public.key:
            case rsa.RSAPublicKey() as public:
                public.verify(signature, digest, padding.PKCS1v15(), hashed)
            case ec.EllipticCurvePublicKey() as public:
                public.verify(signature, digest, ec.ECDSA(hashed))
            case ed25519.Ed25519PublicKey() as public:
                public.verify(signature, digest)
            case _:
                raise UnsupportedError("a key of this type does not sign in OpenPGP")
    except InvalidSignature:
        raise SigningError("the token made a signature that its public key refuses") from None
