from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from asn1crypto import keys
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import Attribute, KeyType

from tokensign import der
from tokensign.algorithms import ED448_OID, ED25519_OID, X448_OID, X25519_OID
from tokensign.token.public_key import decode, key_identifier, public_key_info, spec_of

if TYPE_CHECKING:
    from collections.abc import Callable

MONTGOMERY = 0x41
RAW: dict[str, Callable[[], Any]] = {
    "ed25519": lambda: ed25519.Ed25519PrivateKey.generate().public_key(),
    "ed448": lambda: ed448.Ed448PrivateKey.generate().public_key(),
    "x25519": lambda: x25519.X25519PrivateKey.generate().public_key(),
    "x448": lambda: x448.X448PrivateKey.generate().public_key(),
}
PARAMETERS = {
    "ed25519": (der.object_identifier(ED25519_OID), b"\x13\x0cedwards25519"),
    "ed448": (der.object_identifier(ED448_OID), b"\x13\x0aedwards448"),
    "x25519": (der.object_identifier(X25519_OID), b"\x13\x0acurve25519"),
    "x448": (der.object_identifier(X448_OID), b"\x13\x08curve448"),
}


def attributes(kind: int, parameters: bytes, point: bytes) -> dict[Attribute, Any]:
    return {Attribute.KEY_TYPE: kind, Attribute.EC_PARAMS: parameters, Attribute.EC_POINT: point}


@pytest.mark.parametrize("kind", [KeyType.EC, KeyType.EC_EDWARDS, MONTGOMERY])
@pytest.mark.parametrize("spec", RAW)
def test_modules_encode_the_newer_curves_in_many_ways(spec: str, kind: int) -> None:
    key = RAW[spec]()
    octets = key.public_bytes_raw()
    for parameters in PARAMETERS[spec]:
        for point in (octets, der.octet_string(octets)):
            described = attributes(int(kind), parameters, point)
            assert spec_of(described) == spec
            found = decode(described)
            assert found is not None
            assert public_key_info(found) == public_key_info(key)


def test_points_of_the_nist_curves_may_lack_their_octet_string() -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    for encoded in (point, der.octet_string(point)):
        found = decode(attributes(KeyType.EC, der.object_identifier("1.3.132.0.34"), encoded))
        assert found == key


@pytest.mark.parametrize(
    ("described", "spec"),
    [
        ({Attribute.KEY_TYPE: KeyType.RSA, Attribute.MODULUS: b"\x80" + bytes(255)}, "rsa:2048"),
        (attributes(KeyType.EC, der.object_identifier("1.3.132.0.10"), b""), "ec:1.3.132.0.10"),
        (attributes(KeyType.EC, b"", b""), "ec:unknown"),
        (attributes(KeyType.EC, b"\x30\x00", b""), "ec:unknown"),
        (attributes(KeyType.EC_EDWARDS, b"", bytes(32)), "edwards:unknown"),
        (attributes(MONTGOMERY, der.object_identifier("1.2.3"), bytes(32)), "edwards:unknown"),
        ({Attribute.KEY_TYPE: KeyType.X9_42_DH}, "x9-42-dh"),
        ({Attribute.KEY_TYPE: 0x7FFFFFFF}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_what_is_not_known_is_named_and_not_decoded(described: dict[Attribute, Any], spec: str) -> None:
    assert spec_of(described) == spec
    assert decode(described) is None


def test_broken_points_are_no_keys() -> None:
    curve = der.object_identifier("1.2.840.10045.3.1.7")
    for point in (b"", b"\4" + bytes(64), der.octet_string(bytes(65))):
        assert decode(attributes(KeyType.EC, curve, point)) is None
    assert decode(attributes(KeyType.EC_EDWARDS, PARAMETERS["x25519"][0], bytes(33))) is None


def test_the_identifier_of_a_key_is_that_of_its_certificates() -> None:
    for key in (rsa.generate_private_key(65537, 2048).public_key(), *(make() for make in RAW.values())):
        if not isinstance(key, x25519.X25519PublicKey | x448.X448PublicKey):  # which asn1crypto does not know
            assert key_identifier(key) == keys.PublicKeyInfo.load(public_key_info(key)).sha1
        assert len(key_identifier(key)) == 20
