from __future__ import annotations

import contextlib

import pytest
from asn1crypto import algos, core
from hypothesis import given
from hypothesis import strategies as st

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS, RSAES_OAEP_OID
from tokensign.cms.capabilities import (
    ANNOUNCED_CAPABILITIES,
    CAPABILITIES_MAXIMUM,
    CAPABILITIES_OCTETS_MAXIMUM,
    Capability,
    encode_capabilities,
    read_capabilities,
)
from tokensign.errors import MalformedError

AES = Capability(CONTENT_CIPHERS["aes-256-cbc"].oid)
RC2 = Capability(CONTENT_CIPHERS["rc2-cbc"].oid, der.integer(128))


def test_what_is_written_is_read_in_the_same_order() -> None:
    assert read_capabilities(encode_capabilities([RC2, AES])) == (RC2, AES)


def test_an_empty_list_is_read() -> None:
    assert read_capabilities(der.sequence()) == ()


def test_the_example_of_rfc_8551_is_read() -> None:
    """Section 2.5.2: the capability of AES-128-CBC is the octets 30 0B 06 09 60 86 48 01 65 03 04 01 02."""
    encoded = der.sequence(bytes.fromhex("300b0609608648016503040102"))
    assert read_capabilities(encoded) == (Capability(CONTENT_CIPHERS["aes-128-cbc"].oid),)


def test_oaep_with_sha_256_is_announced() -> None:
    """RFC 4055 section 2.1: the parameters of the hashes are NULL."""
    capability = read_capabilities(ANNOUNCED_CAPABILITIES)[-1]
    parameters = algos.RSAESOAEPParams.load(capability.parameters, strict=True)
    assert capability.oid == RSAES_OAEP_OID
    assert parameters["hash_algorithm"]["algorithm"].native == "sha256"
    assert parameters["mask_gen_algorithm"]["parameters"]["algorithm"].native == "sha256"
    assert isinstance(parameters["hash_algorithm"]["parameters"], core.Null)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        der.integer(1),
        der.sequence(der.integer(1)),
        der.sequence(der.sequence()),
        der.sequence(der.sequence(der.object_identifier(AES.oid), der.NULL, der.NULL)),
        der.sequence(der.sequence(der.integer(1))),
        encode_capabilities([AES])[:-1],
        encode_capabilities([AES] * (CAPABILITIES_MAXIMUM + 1)),
        encode_capabilities([Capability(AES.oid, der.octet_string(bytes(CAPABILITIES_OCTETS_MAXIMUM)))]),
    ],
    ids=[
        "nothing",
        "no list",
        "no capability",
        "empty",
        "too many fields",
        "no OID",
        "cut off",
        "too many",
        "too long",
    ],
)
def test_what_is_no_list_of_capabilities_is_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        read_capabilities(encoded)


@given(st.binary(max_size=64) | st.binary(max_size=32).map(der.sequence))
def test_any_octets_are_read_or_refused(encoded: bytes) -> None:
    with contextlib.suppress(MalformedError):
        for capability in read_capabilities(encoded):
            assert capability.oid
