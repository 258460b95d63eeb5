"""Attributes whose values are not what their types say."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from tokensign import der
from tokensign.cms.attributes import (
    CMS_ALGORITHM_PROTECTION,
    MESSAGE_DIGEST,
    SIGNING_CERTIFICATE,
    SIGNING_CERTIFICATE_V2,
    SIGNING_TIME,
    parse_attributes,
    parse_signed_attributes,
)
from tokensign.cms.ber import MAX_DEPTH, to_der
from tokensign.cms.signed_data import SignerIdentifier, algorithm_of, read_signed_data
from tokensign.errors import MalformedError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER_TYPES = [der.NULL, der.integer(1), der.sequence(), der.set_of(der.NULL), b"\x0c\x01x"]
ALGORITHM = der.sequence(der.object_identifier("1.2.3"))


@pytest.mark.parametrize("value", OTHER_TYPES)
def test_values_of_another_type_are_refused(
    value: bytes, make_attribute: Callable[..., bytes], software: Callable[..., Any]
) -> None:
    kinds = (
        MESSAGE_DIGEST,
        SIGNING_TIME,
        CMS_ALGORITHM_PROTECTION,
        SIGNING_CERTIFICATE,
        SIGNING_CERTIFICATE_V2,
    )
    for kind in kinds:
        attributes = parse_signed_attributes(der.set_of(make_attribute(kind, value)))
        with pytest.raises(MalformedError, match="cannot be read"):
            _ = {
                MESSAGE_DIGEST: lambda found: found.check_message_digest(bytes(32)),
                SIGNING_TIME: lambda found: found.signing_time,
                CMS_ALGORITHM_PROTECTION: lambda found: found.check_algorithm_protection("1.2.3", ALGORITHM),
                SIGNING_CERTIFICATE: lambda found: found.check_signing_certificate(software().certificate),
                SIGNING_CERTIFICATE_V2: lambda found: found.check_signing_certificate(software().certificate),
            }[kind](attributes)


@pytest.mark.parametrize(
    "identifier",
    [
        der.sequence(),
        der.sequence(der.NULL),
        der.sequence(der.sequence(der.object_identifier("2.16.840.1.101.3.4.2.1"))),
    ],
)
def test_a_signing_certificate_without_a_hash_value_is_refused(
    identifier: bytes, make_attribute: Callable[..., bytes], software: Callable[..., Any]
) -> None:
    value = der.sequence(der.sequence(identifier))
    attributes = parse_signed_attributes(der.set_of(make_attribute(SIGNING_CERTIFICATE_V2, value)))
    with pytest.raises(MalformedError, match="SigningCertificateV2 cannot be read"):
        attributes.check_signing_certificate(software().certificate)


def test_a_hash_algorithm_without_a_name_is_refused(
    make_attribute: Callable[..., bytes], software: Callable[..., Any]
) -> None:
    value = der.sequence(der.sequence(der.sequence(der.sequence(), der.octet_string(bytes(32)))))
    attributes = parse_signed_attributes(der.set_of(make_attribute(SIGNING_CERTIFICATE_V2, value)))
    with pytest.raises((MalformedError, UnsupportedError)):
        attributes.check_signing_certificate(software().certificate)


@pytest.mark.parametrize(
    "one", [der.NULL, der.sequence(), der.sequence(der.object_identifier("1.2.3"), der.NULL)]
)
def test_what_is_no_attribute_is_refused(one: bytes) -> None:
    with pytest.raises(MalformedError, match="attribute is broken"):
        parse_attributes(der.set_of(one))


def test_an_attribute_type_that_is_no_object_identifier_is_refused() -> None:
    with pytest.raises(MalformedError, match="object identifier"):
        parse_attributes(der.set_of(der.sequence(der.integer(1), der.set_of())))


def test_signers_are_named_in_two_ways_only() -> None:
    with pytest.raises(MalformedError, match="named in an unknown way"):
        SignerIdentifier.load(der.NULL)
    with pytest.raises(MalformedError, match="AlgorithmIdentifier is empty"):
        algorithm_of(der.sequence())


def test_large_certificates_are_read_as_small_ones_are(software: Callable[..., Any]) -> None:
    large = der.sequence(der.octet_string(bytes(1 << 13)))
    certificates = der.tlv(0xA0, large + software().certificate.der)
    data = der.sequence(
        der.integer(1),
        der.set_of(),
        der.sequence(der.object_identifier("1.2.840.113549.1.7.1")),
        certificates,
        der.set_of(),
    )
    message = der.sequence(der.object_identifier("1.2.840.113549.1.7.2"), der.explicit(0, data))
    first, second = (read_signed_data(io.BytesIO(message)) for _ in range(2))
    assert first.certificates == second.certificates == (software().certificate,)
    assert first.certificate_choices == (large, software().certificate.der)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_definite_form_is_seen_as_deep_as_the_limit(depth: int) -> None:
    encoded = b""
    for _ in range(depth):
        encoded = der.sequence(encoded)
    if depth == MAX_DEPTH:
        assert to_der(encoded) is encoded
    else:
        with pytest.raises(MalformedError, match="deeper"):
            to_der(encoded)
