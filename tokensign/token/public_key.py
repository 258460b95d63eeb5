"""Public keys as PKCS#11 has them, and as cryptography has them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from asn1crypto import core
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, mlkem, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11.constants import Attribute
from pkcs11.mechanisms import KeyType, MLDSAParameterSet, MLKEMParameterSet

from tokensign import der
from tokensign.algorithms import CURVES, ED448_OID, ED25519_OID, X448_OID, X25519_OID
from tokensign.token.cryptoki import EC_MONTGOMERY

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
_CURVE_NAMES: Final = {  # the OIDs of RFC 8410, and the names of PKCS#11 3.0
    der.object_identifier(ED25519_OID): "ed25519",
    der.object_identifier(ED448_OID): "ed448",
    der.object_identifier(X25519_OID): "x25519",
    der.object_identifier(X448_OID): "x448",
    b"\x13\x0cedwards25519": "ed25519",
    b"\x13\x0aedwards448": "ed448",
    b"\x13\x0acurve25519": "x25519",
    b"\x13\x08curve448": "x448",
}
_RAW_KEYS: Final[dict[str, Any]] = {  # the kinds whose public key is a string of fixed size
    "ed25519": ed25519.Ed25519PublicKey,
    "ed448": ed448.Ed448PublicKey,
    "x25519": x25519.X25519PublicKey,
    "x448": x448.X448PublicKey,
    "ml-dsa-44": mldsa.MLDSA44PublicKey,
    "ml-dsa-65": mldsa.MLDSA65PublicKey,
    "ml-dsa-87": mldsa.MLDSA87PublicKey,
    "ml-kem-768": mlkem.MLKEM768PublicKey,
    "ml-kem-1024": mlkem.MLKEM1024PublicKey,
}
_POINT_SIZES: Final = (32, 56, 57)  # octets of a public key of the 25519 curves, of X448, of Ed448
_PARAMETER_SETS: Final[dict[KeyType, Any]] = {
    KeyType.ML_KEM: MLKEMParameterSet,
    KeyType.ML_DSA: MLDSAParameterSet,
}


class _Montgomery:
    TYPE: Final = EC_MONTGOMERY  # a match wants a dotted name


def decode(attributes: dict[Attribute, Any]) -> PublicKeyTypes | None:
    """The key that attributes of a public-key object, or of an RSA private-key object, describe.

    Args:
        attributes: Some of `PUBLIC_ATTRIBUTES`; of ML-KEM and ML-DSA also CKA_PARAMETER_SET and the public
            key's CKA_VALUE.

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
            case KeyType.EC if curve := _curve(attributes[Attribute.EC_PARAMS]):
                point = _point(attributes[Attribute.EC_POINT])
                return ec.EllipticCurvePublicKey.from_encoded_point(curve.primitive(), point)
            case KeyType.EC | KeyType.EC_EDWARDS | _Montgomery.TYPE:
                point = attributes[Attribute.EC_POINT]
                if len(point) not in _POINT_SIZES:  # raw on NSS and opencryptoki, OCTET STRING on SoftHSM
                    point = _point(point)
                return _raw_key(spec_of(attributes), point)
            case KeyType.ML_KEM | KeyType.ML_DSA:
                return _raw_key(spec_of(attributes), attributes[Attribute.VALUE])
    except (KeyError, ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return None


def spec_of(attributes: dict[Attribute, Any]) -> str:
    """The key's type in the words of `tokensign.algorithms.KeySpec`, such as "rsa:3072" or "ec:p256"."""
    kind: Any = attributes.get(Attribute.KEY_TYPE)
    match kind:
        case KeyType.RSA:
            return f"rsa:{int.from_bytes(attributes.get(Attribute.MODULUS, b'')).bit_length()}"
        case KeyType.EC | KeyType.EC_EDWARDS | _Montgomery.TYPE:
            return _curve_spec(kind, attributes.get(Attribute.EC_PARAMS, b""))
        case KeyType.ML_KEM | KeyType.ML_DSA:
            number = attributes.get(Attribute.PARAMETER_SET)
            known = [one.name for one in _PARAMETER_SETS[kind] if one == number]
            return (known[0] if known else f"{KeyType(kind).name}:unknown").lower().replace("_", "-")
    try:
        return KeyType(int(kind)).name.lower().replace("_", "-")
    except (ValueError, TypeError):
        return "unknown"


def _curve_spec(kind: int, parameters: bytes) -> str:
    if parameters in _CURVE_NAMES:
        return _CURVE_NAMES[parameters]
    if kind != KeyType.EC:
        return "edwards:unknown"
    curve = _curve(parameters)
    return f"ec:{curve.name if curve else _dotted(parameters) or 'unknown'}"


def ec_parameters(oid: str) -> bytes:
    """CKA_EC_PARAMS for a named curve (RFC 5480 section 2.1.1)."""
    return der.object_identifier(oid)


def public_key_info(key: PublicKeyTypes) -> bytes:
    """SubjectPublicKeyInfo (RFC 5280 section 4.1), DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_identifier(key: PublicKeyTypes) -> bytes:
    """The SHA-1 of the BIT STRING subjectPublicKey, 20 octets (RFC 5280 section 4.2.1.2, method 1)."""
    bits = der.content(der.elements(public_key_info(key))[1])[1:]  # without the count of unused bits
    return hashlib.sha1(bits, usedforsecurity=False).digest()


def _raw_key(spec: str, octets: bytes) -> PublicKeyTypes | None:
    kind = _RAW_KEYS.get(spec)
    return kind.from_public_bytes(octets) if kind else None


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
