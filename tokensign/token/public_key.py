"""Public keys as PKCS#11 has them, and as cryptography has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from asn1crypto import core, keys
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11.constants import Attribute
from pkcs11.mechanisms import KeyType

from tokensign import der
from tokensign.algorithms import CURVES, ED25519_OID

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.algorithms import Curve

__all__ = ["PUBLIC_ATTRIBUTES", "decode", "ec_parameters", "key_identifier", "public_key_info", "spec_of"]

PUBLIC_ATTRIBUTES: Final = (
    Attribute.KEY_TYPE,
    Attribute.MODULUS,
    Attribute.PUBLIC_EXPONENT,
    Attribute.EC_PARAMS,
    Attribute.EC_POINT,
)
_X25519_OID: Final = "1.3.101.110"
_EDWARDS_NAMES: Final = {b"\x13\x0cedwards25519": "ed25519", b"\x13\x0acurve25519": "x25519"}  # PKCS#11 3.0
_ED25519_SIZE: Final = 32


class _CurveType:
    MONTGOMERY: Final = 0x41  # CKK_EC_MONTGOMERY, which python-pkcs11 lacks


def decode(attributes: dict[Attribute, Any]) -> PublicKeyTypes | None:
    """The key that attributes of a public-key object, or of an RSA private-key object, describe.

    Args:
        attributes: Some of `PUBLIC_ATTRIBUTES`.

    Returns:
        The key, or None where the attributes do not suffice or are of a type that is not known.
    """
    try:
        match attributes.get(Attribute.KEY_TYPE):
            case KeyType.RSA:
                exponent = int.from_bytes(attributes[Attribute.PUBLIC_EXPONENT])
                return rsa.RSAPublicNumbers(
                    exponent, int.from_bytes(attributes[Attribute.MODULUS])
                ).public_key()
            case KeyType.EC:
                curve = _curve(attributes[Attribute.EC_PARAMS])
                if curve:
                    point = _point(attributes[Attribute.EC_POINT])
                    return ec.EllipticCurvePublicKey.from_encoded_point(curve.primitive(), point)
            case KeyType.EC_EDWARDS if spec_of(attributes) == "ed25519":
                point = attributes[Attribute.EC_POINT]
                if len(point) != _ED25519_SIZE:  # raw on NSS and opencryptoki, OCTET STRING on SoftHSM
                    point = _point(point)
                return ed25519.Ed25519PublicKey.from_public_bytes(point)
    except (KeyError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return None


def spec_of(attributes: dict[Attribute, Any]) -> str:
    """The key's type in the words of `tokensign.algorithms.KeySpec`, such as "rsa:3072" or "ec:p256"."""
    kind: Any = attributes.get(Attribute.KEY_TYPE)
    parameters = attributes.get(Attribute.EC_PARAMS, b"")
    match kind:
        case KeyType.RSA:
            return f"rsa:{int.from_bytes(attributes.get(Attribute.MODULUS, b'')).bit_length()}"
        case KeyType.EC:
            curve = _curve(parameters)
            return f"ec:{curve.name}" if curve else f"ec:{_dotted(parameters) or 'unknown'}"
        case KeyType.EC_EDWARDS | _CurveType.MONTGOMERY:
            known = {ED25519_OID: "ed25519", _X25519_OID: "x25519"}
            return _EDWARDS_NAMES.get(parameters) or known.get(_dotted(parameters), "edwards:unknown")
    try:
        return KeyType(int(kind)).name.lower().replace("_", "-")
    except (ValueError, TypeError):
        return "unknown"


def ec_parameters(oid: str) -> bytes:
    """CKA_EC_PARAMS for a named curve (RFC 5480 section 2.1.1)."""
    return der.object_identifier(oid)


def public_key_info(key: PublicKeyTypes) -> bytes:
    """SubjectPublicKeyInfo (RFC 5280 section 4.1), DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_identifier(key: PublicKeyTypes) -> bytes:
    """The SHA-1 of the BIT STRING subjectPublicKey, 20 octets (RFC 5280 section 4.2.1.2, method 1)."""
    identifier: bytes = keys.PublicKeyInfo.load(public_key_info(key)).sha1
    return identifier


def _curve(parameters: bytes) -> Curve | None:
    oid = _dotted(parameters)
    return next((curve for curve in CURVES.values() if curve.oid == oid), None)


def _dotted(parameters: bytes) -> str:
    try:
        return str(core.ObjectIdentifier.load(parameters, strict=True).dotted)
    except (ValueError, TypeError):
        return ""


def _point(octets: bytes) -> bytes:
    """The point itself, from an OCTET STRING or, as some modules have it, without one."""
    try:
        return bytes(core.OctetString.load(octets, strict=True).native)
    except (ValueError, TypeError):
        return octets
