from __future__ import annotations

import pkcs11
import pytest
from asn1crypto import core
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import Attribute, KeyType

from tokensign import errors, token
from tokensign.token import cryptoki, failures
from tokensign.token.public_key import decode, ec_parameters, key_identifier, public_key_info, spec_of

ED25519 = ec_parameters("1.3.101.112")


@pytest.mark.parametrize("code", sorted(cryptoki._RETURN_CODES))  # noqa: SLF001 - each of them is tried
def test_every_return_code_becomes_an_error_with_its_name(code: int) -> None:
    error = cryptoki.error(code)
    meaning = failures.translated(error, "do it")
    assert isinstance(meaning, errors.TokenError | errors.UsageError)
    assert meaning.message.startswith("cannot do it: the token answers ")
    assert type(error).__name__ in meaning.message


def test_an_unknown_return_code_is_shown_as_a_number() -> None:
    with pytest.raises(pkcs11.PKCS11Error, match="return code 0x80000001") as failure:
        cryptoki.check(0x80000001)
    assert "0x80000001" in failures.translated(failure.value, "do it").message
    cryptoki.check(0)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pkcs11.DeviceRemoved(), errors.TokenRemovedError),
        (pkcs11.PKCS11Error("Initialisation error (not initialized)."), errors.TokenRemovedError),
        (pkcs11.PinIncorrect(), errors.PinIncorrectError),
        (pkcs11.PinLocked(), errors.PinLockedError),
        (pkcs11.PinTooWeak(), errors.PinError),
        (pkcs11.KeyHandleInvalid(), errors.KeyNotFoundError),
        (pkcs11.MechanismInvalid(), errors.MechanismError),
        (pkcs11.SessionReadOnly(), errors.UsageError),
        (pkcs11.DeviceMemory(), errors.TokenError),
    ],
)
def test_failures_mean_what_they_mean(error: pkcs11.PKCS11Error, kind: type[Exception]) -> None:
    with pytest.raises(kind) as failure, failures.failures("do it"):
        raise error
    assert type(failure.value) is kind


def test_the_public_names_are_these() -> None:
    assert sorted(token.__all__) == token.__all__
    assert all(hasattr(token, name) for name in token.__all__)


def test_points_are_read_with_and_without_their_octet_string() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    curve = {Attribute.KEY_TYPE: KeyType.EC, Attribute.EC_PARAMS: ec_parameters("1.2.840.10045.3.1.7")}
    for form in (point, core.OctetString(point).dump()):
        found = decode(curve | {Attribute.EC_POINT: form})
        assert found is not None
        assert public_key_info(found) == public_key_info(key)
    assert decode(curve) is None
    assert decode(curve | {Attribute.EC_POINT: b"\x04junk"}) is None


def test_edwards_points_are_read_with_and_without_their_octet_string() -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    point = key.public_bytes_raw()
    edwards = {Attribute.KEY_TYPE: KeyType.EC_EDWARDS, Attribute.EC_PARAMS: ED25519}
    for form in (point, core.OctetString(point).dump()):
        found = decode(edwards | {Attribute.EC_POINT: form})
        assert found is not None
        assert key_identifier(found) == key_identifier(key)


@pytest.mark.parametrize(
    ("kind", "parameters", "spec"),
    [
        (KeyType.EC, ec_parameters("1.3.132.0.34"), "ec:p384"),
        (KeyType.EC, ec_parameters("1.3.132.0.10"), "ec:1.3.132.0.10"),
        (KeyType.EC, b"junk", "ec:unknown"),
        (KeyType.EC_EDWARDS, ED25519, "ed25519"),
        (KeyType.EC_EDWARDS, b"\x13\x0cedwards25519", "ed25519"),
        (KeyType.EC_EDWARDS, ec_parameters("1.3.101.110"), "x25519"),
        (0x41, b"\x13\x0acurve25519", "x25519"),
        (KeyType.EC_EDWARDS, b"", "edwards:unknown"),
        (KeyType.ML_DSA, b"", "ml-dsa:unknown"),
        (0x80001234, b"", "unknown"),
        (None, b"", "unknown"),
    ],
)
def test_key_types_have_names(kind: int | None, parameters: bytes, spec: str) -> None:
    attributes = {Attribute.KEY_TYPE: kind, Attribute.EC_PARAMS: parameters}
    assert spec_of(attributes) == spec
    assert decode(attributes) is None
