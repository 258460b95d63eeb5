"""PBKDF2 and scrypt: the RFCs' vectors, and the limits on what a stranger asks for."""

from __future__ import annotations

import pytest

from tokensign import der
from tokensign.algorithms import MACS, PBKDF2_OID, SCRYPT_OID
from tokensign.cms.recipients.key_derivation import (
    MAX_ITERATIONS,
    Pbkdf2Derivation,
    ScryptDerivation,
    read_key_derivation,
)
from tokensign.errors import MalformedError, UnsupportedError, UsageError

SALT = der.octet_string(b"salt")


def pbkdf2(*fields: bytes) -> bytes:
    return der.sequence(der.object_identifier(PBKDF2_OID), der.sequence(*fields))


def scrypt(*numbers: int, salt: bytes = SALT) -> bytes:
    parameters = der.sequence(salt, *map(der.integer, numbers))
    return der.sequence(der.object_identifier(SCRYPT_OID), parameters)


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        (1, "0c60c80f961f0e71f3a9b524af6012062fe037a6"),
        (2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"),
        (4096, "4b007901b765489abead49d926f721d065a429c1"),
    ],
)
def test_pbkdf2_gives_the_vectors_of_rfc_6070(iterations: int, expected: str) -> None:
    derivation = read_key_derivation(pbkdf2(SALT, der.integer(iterations)))
    assert derivation.derive(b"password", 20).hex() == expected


def test_scrypt_gives_the_vector_of_rfc_7914() -> None:
    derivation = read_key_derivation(scrypt(1024, 8, 16, 64, salt=der.octet_string(b"NaCl")))
    assert derivation.key_length == 64
    assert derivation.derive(b"password", 64).hex().startswith("fdbabe1c9d3472007856e7190d01e9fe")


@pytest.mark.parametrize("name", list(MACS))
def test_every_function_is_read(name: str) -> None:
    written = Pbkdf2Derivation(b"salt", 1000, MACS[name])
    assert read_key_derivation(written.encode()) == written


def test_what_is_written_is_read() -> None:
    for written in (Pbkdf2Derivation.fresh(), ScryptDerivation.fresh()):
        assert read_key_derivation(written.encode()) == written
        assert len(written.salt) == 16


def test_without_a_function_it_is_sha_1() -> None:
    derivation = read_key_derivation(pbkdf2(SALT, der.integer(1000), der.integer(24)))
    assert isinstance(derivation, Pbkdf2Derivation)
    assert (derivation.prf.name, derivation.key_length) == ("hmac-sha1", 24)


@pytest.mark.parametrize(
    "encoded",
    [
        pbkdf2(SALT, der.integer(MAX_ITERATIONS + 1)),
        scrypt(1 << 22, 8, 1),
        scrypt(1 << 18, 8, 64),
        scrypt(1000, 8, 1),
        scrypt(1, 8, 1),
        pbkdf2(der.sequence(), der.integer(1000)),
        der.sequence(der.object_identifier("1.2.3"), der.NULL),
        pbkdf2(SALT, der.integer(1000), der.sequence(der.object_identifier("1.2.3"))),
    ],
    ids=["iterations", "memory", "time", "no power of two", "N is 1", "salt elsewhere", "function", "prf"],
)
def test_what_costs_too_much_or_is_unknown_is_unsupported(encoded: bytes) -> None:
    with pytest.raises(UnsupportedError):
        read_key_derivation(encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        pbkdf2(SALT),
        pbkdf2(SALT, der.integer(0)),
        pbkdf2(SALT, der.integer(-5)),
        pbkdf2(SALT, der.integer(1 << 70)),
        pbkdf2(SALT, SALT),
        pbkdf2(der.octet_string(bytes(1025)), der.integer(1000)),
        scrypt(1024, 8),
        scrypt(1024, 0, 1),
        scrypt(1024, 8, 1, salt=der.integer(1)),
        der.sequence(der.object_identifier(PBKDF2_OID)),
    ],
)
def test_broken_parameters_are_malformed(encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        read_key_derivation(encoded)


def test_what_is_written_keeps_to_the_limits() -> None:
    with pytest.raises(UsageError, match="999"):
        Pbkdf2Derivation.fresh(999)
    with pytest.raises(UsageError):
        Pbkdf2Derivation.fresh(MAX_ITERATIONS + 1)
    with pytest.raises(UnsupportedError, match="hmac-sha1"):
        Pbkdf2Derivation.fresh(prf=MACS["hmac-sha1"])
    with pytest.raises(UnsupportedError, match="costs more"):
        ScryptDerivation.fresh(1 << 20)
