"""Shared secrets: what a token derives or decapsulates, taken off it for the key derivation on the host.

The private key stays where it is. What is read is the secret of one message, made for this as a session
object: tokens know few key derivation functions, and do not agree on which octets of a secret become a key.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11.constants import Attribute, MechanismFlag
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KDF, KeyType, Mechanism

from tokensign.algorithms import KEM_SECRET_SIZE
from tokensign.errors import DecryptionError, MechanismError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from pkcs11 import Object

__all__ = ["NOT_THE_TEMPLATE", "Point", "decapsulate", "derive", "point_of"]

NOT_THE_TEMPLATE: Final = (
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.TemplateIncomplete,
    pkcs11.TemplateInconsistent,
)
"""Failures that are about the wish to read the secret, and not about what a message brought."""

_READABLE: Final = {
    Attribute.TOKEN: False,
    Attribute.SENSITIVE: False,
    Attribute.EXTRACTABLE: True,
}


@dataclass(frozen=True, slots=True)
class Point:
    """A peer's public key as ECDH takes it.

    Attributes:
        octets: Its encoding: uncompressed, or of X25519 and X448 their own.
        secret_size: Octets of the shared secret.
        may_give_zero: Whether zero is a secret like any other: on the curves of NIST it is the x-coordinate
            of a point; with X25519 and X448 it tells of a point of small order (RFC 7748 section 6).
    """

    octets: bytes
    secret_size: int
    may_give_zero: bool = False


def point_of(peer: PublicKeyTypes, own: PublicKeyTypes) -> Point | None:
    """The peer's public key for ECDH with one's own; None where they are not of the same curve."""
    match own, peer:
        case (ec.EllipticCurvePublicKey(), ec.EllipticCurvePublicKey()) if own.curve.name == peer.curve.name:
            octets = peer.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            return Point(octets, (own.key_size + 7) // 8, may_give_zero=True)
        case (x25519.X25519PublicKey(), x25519.X25519PublicKey()):
            return Point(peer.public_bytes_raw(), 32)
        case (x448.X448PublicKey(), x448.X448PublicKey()):
            return Point(peer.public_bytes_raw(), 56)
        case _:
            return None


def derive(
    key: Object,
    point: Point,
    mechanism: Mechanism = Mechanism.ECDH1_DERIVE,
    kdf: KDF = KDF.NULL,
    *,
    refusal: str,
) -> bytes:
    """The raw secret of ECDH, all of its octets; or what a key derivation of the token makes of it.

    Args:
        key: The private key.
        point: The peer's, from `point_of`.
        mechanism: CKM_ECDH1_DERIVE or CKM_ECDH1_COFACTOR_DERIVE.
        kdf: The key derivation function, CKD_NULL for none.
        refusal: The text of a DecryptionError.

    Raises:
        DecryptionError: The secret is zero and may not be.
        MechanismError: The key was not made to derive.
        PKCS11Error: The module fails, or refuses the point.
    """
    secret = _taken(
        _method(key, "derive_key")(
            KeyType.GENERIC_SECRET,
            8 * point.secret_size,
            mechanism=mechanism,
            mechanism_param=(kdf, None, point.octets),
            capabilities=MechanismFlag(0),
            template=_READABLE,
        )
    )
    if len(secret) != point.secret_size or not (point.may_give_zero or any(secret)):
        raise DecryptionError(refusal)
    return secret


def decapsulate(key: Object, ciphertext: bytes) -> bytes:
    """The shared secret in a ciphertext of ML-KEM.

    Args:
        key: The private key.
        ciphertext: Of the size that the key's parameter set has.

    Raises:
        MechanismError: The key was not made for it.
        PKCS11Error: The module fails.
    """
    return _taken(
        _method(key, "decapsulate_key")(
            ciphertext,
            KeyType.GENERIC_SECRET,
            key_length=8 * KEM_SECRET_SIZE,
            capabilities=MechanismFlag(0),
            template=_READABLE,
        )
    )


def _method(key: Object, name: str) -> Any:  # noqa: ANN401 - python-pkcs11 gives a key the methods it allows
    method = getattr(key, name, None)
    if method is None:
        raise MechanismError(
            "the key was not made to agree on secrets", hint="`tokensign key show` tells its usages"
        )
    return method


def _taken(secret: Any) -> bytes:  # noqa: ANN401 - as above
    """The octets of a secret, which is then destroyed on the token."""
    try:
        return bytes(secret[Attribute.VALUE])
    finally:
        with contextlib.suppress(PKCS11Error):
            secret.destroy()
