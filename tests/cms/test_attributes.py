from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from asn1crypto import cms, tsp

from tokensign import der
from tokensign.algorithms import DIGESTS, signature_scheme
from tokensign.cms.attributes import (
    CMS_ALGORITHM_PROTECTION,
    CONTENT_TYPE,
    MESSAGE_DIGEST,
    SIGNING_CERTIFICATE,
    SIGNING_CERTIFICATE_V2,
    SIGNING_TIME,
    SMIME_CAPABILITIES,
    build_signed_attributes,
    parse_signed_attributes,
)
from tokensign.cms.content_info import DATA
from tokensign.errors import MalformedError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.certificates import Certificate

OAEP = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x07"
DIGEST = hashlib.sha256(b"content").digest()
SCHEME = signature_scheme("rsa-pss", DIGESTS["sha256"])
SHA1 = "1.3.14.3.2.26"


@pytest.fixture
def certificate(software: Callable[..., Any]) -> Certificate:
    found: Certificate = software("rsa:2048").certificate
    return found


@pytest.fixture
def built(certificate: Certificate, moment: datetime) -> bytes:
    return build_signed_attributes(certificate, SCHEME, DATA, DIGEST, moment)


def values_of(encoded: bytes, kind: str) -> Any:  # noqa: ANN401 - of any type
    found = [entry for entry in cms.CMSAttributes.load(encoded) if entry["type"].dotted == kind]
    assert len(found) == 1
    assert len(found[0]["values"]) == 1
    return found[0]["values"][0]


# --- written


def test_the_attributes_are_a_sorted_set_of_der(built: bytes) -> None:
    parsed = cms.CMSAttributes.load(built, strict=True)
    encoded = [entry.dump() for entry in parsed]
    assert encoded == sorted(encoded)
    assert parsed.copy().dump(force=True) == built
    assert {entry["type"].dotted for entry in parsed} == {
        CONTENT_TYPE,
        MESSAGE_DIGEST,
        SIGNING_TIME,
        SIGNING_CERTIFICATE_V2,
        CMS_ALGORITHM_PROTECTION,
        SMIME_CAPABILITIES,
    }


def test_content_type_message_digest_and_signing_time(built: bytes, moment: datetime) -> None:
    assert values_of(built, CONTENT_TYPE).dotted == DATA
    assert values_of(built, MESSAGE_DIGEST).native == DIGEST
    assert values_of(built, SIGNING_TIME).name == "utc_time"
    assert values_of(built, SIGNING_TIME).native == moment


def test_signing_time_is_generalized_from_2050(certificate: Certificate) -> None:
    """RFC 5652 section 11.3."""
    moment = datetime(2050, 1, 1, tzinfo=UTC)
    encoded = build_signed_attributes(certificate, SCHEME, DATA, DIGEST, moment)
    assert values_of(encoded, SIGNING_TIME).name == "generalized_time"
    assert values_of(encoded, SIGNING_TIME).native == moment


def test_signing_certificate_v2_names_the_certificate(built: bytes, certificate: Certificate) -> None:
    """RFC 5035 section 4: SHA-256 is the default and left out; issuerSerial repeats the names."""
    value = values_of(built, SIGNING_CERTIFICATE_V2)
    (identifier,) = value["certs"]
    assert identifier["cert_hash"].native == hashlib.sha256(certificate.der).digest()
    assert b"\x30\x0d" + der.object_identifier(DIGESTS["sha256"].oid) not in value.dump()
    assert identifier["hash_algorithm"]["algorithm"].native == "sha256"
    assert identifier["issuer_serial"]["serial_number"].native == certificate.serial_number
    (issuer,) = identifier["issuer_serial"]["issuer"]
    assert issuer.name == "directory_name"
    assert issuer.native == certificate.asn1.issuer.native


def test_algorithm_protection_repeats_the_algorithms(built: bytes) -> None:
    """RFC 6211: the signatureAlgorithm is [1] IMPLICIT."""
    value = values_of(built, CMS_ALGORITHM_PROTECTION)
    assert value["digest_algorithm"].dump() == DIGESTS["sha256"].algorithm_identifier
    assert value["signature_algorithm"].untag().dump() == SCHEME.algorithm_identifier
    assert not value["mac_algorithm"]


def test_capabilities_announce_what_can_be_decrypted_best_first(built: bytes) -> None:
    """RFC 8551 section 2.5.2: AES-256-GCM and AES-128-CBC at least; then OAEP."""
    (entry,) = [
        entry for entry in cms.CMSAttributes.load(built) if entry["type"].dotted == SMIME_CAPABILITIES
    ]
    listed = re.findall(rb"\x06\x09(.{9})", entry["values"].dump()[4:], re.DOTALL)
    aes = b"\x60\x86\x48\x01\x65\x03\x04\x01"
    assert listed[:5] == [*(aes + bytes((last,)) for last in (46, 42, 6, 2)), OAEP]


def test_without_a_certificate_there_is_no_signing_certificate(moment: datetime) -> None:
    encoded = build_signed_attributes(None, SCHEME, DATA, DIGEST, moment)
    assert SIGNING_CERTIFICATE_V2 not in parse_signed_attributes(encoded).types


# --- read


def test_what_is_written_is_read(built: bytes, moment: datetime, certificate: Certificate) -> None:
    attributes = parse_signed_attributes(built)
    assert attributes.signing_time == moment
    attributes.check_content_type(DATA)
    assert attributes.check_message_digest(DIGEST)
    attributes.check_algorithm_protection(DIGESTS["sha256"].oid, SCHEME.algorithm_identifier)
    attributes.check_signing_certificate(certificate)


def parsed(*attributes: bytes) -> Any:  # noqa: ANN401 - asn1crypto has no types
    return parse_signed_attributes(der.set_of(*attributes))


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(MalformedError, match="empty"):
        parsed()


@pytest.mark.parametrize("kind", [MESSAGE_DIGEST, CONTENT_TYPE, "1.2.3"])
def test_an_attribute_that_occurs_twice_is_refused(kind: str, make_attribute: Callable[..., bytes]) -> None:
    """RFC 5652 section 5.3."""
    value = der.object_identifier("1.2.3") if kind == CONTENT_TYPE else der.octet_string(DIGEST)
    with pytest.raises(MalformedError, match=f"{re.escape(kind)} occurs twice"):
        parsed(make_attribute(kind, value), make_attribute(kind, value))


@pytest.mark.parametrize("count", [0, 2])
def test_an_attribute_with_several_values_or_none_is_refused(
    count: int, make_attribute: Callable[..., bytes]
) -> None:
    """RFC 5652 sections 11.1 to 11.3: exactly one."""
    digests = make_attribute(MESSAGE_DIGEST, *(bytes((4, 1, n)) for n in range(count)))
    with pytest.raises(MalformedError, match=f"messageDigest has {count} values"):
        parsed(digests).check_message_digest(DIGEST)
    types = make_attribute(CONTENT_TYPE, *(der.object_identifier(f"1.2.{n}") for n in range(count)))
    with pytest.raises(MalformedError, match=f"contentType has {count} values"):
        parsed(types).check_content_type("1.2.0")


def test_what_must_be_there_and_is_not_is_named(make_attribute: Callable[..., bytes]) -> None:
    attributes = parsed(make_attribute("1.2.3", der.NULL))
    with pytest.raises(MalformedError, match="contentType is missing"):
        attributes.check_content_type(DATA)
    with pytest.raises(MalformedError, match="messageDigest is missing"):
        attributes.check_message_digest(DIGEST)


def test_what_may_be_absent_is_not_missed(
    make_attribute: Callable[..., bytes], certificate: Certificate
) -> None:
    attributes = parsed(make_attribute("1.2.3", der.NULL))
    assert attributes.types == ("1.2.3",)
    assert attributes.signing_time is None
    attributes.check_algorithm_protection("1.2.3", b"anything")
    attributes.check_signing_certificate(certificate)


def test_a_content_type_of_another_content_is_refused(built: bytes) -> None:
    with pytest.raises(MalformedError, match="differs from that of the content"):
        parse_signed_attributes(built).check_content_type("1.2.3")


def test_another_message_digest_does_not_match(built: bytes) -> None:
    assert not parse_signed_attributes(built).check_message_digest(bytes(32))
    assert not parse_signed_attributes(built).check_message_digest(DIGEST[:-1])


def test_a_signing_time_that_is_none_is_refused(make_attribute: Callable[..., bytes]) -> None:
    attributes = parsed(make_attribute(SIGNING_TIME, der.tlv(0x17, b"991332000000Z")))
    with pytest.raises(MalformedError, match="signingTime cannot be read"):
        _ = attributes.signing_time


@pytest.mark.parametrize(
    ("digest_oid", "signature_algorithm"),
    [
        (DIGESTS["sha512"].oid, SCHEME.algorithm_identifier),
        (DIGESTS["sha256"].oid, signature_scheme("rsa-pkcs1", DIGESTS["sha256"]).algorithm_identifier),
        (DIGESTS["sha256"].oid, signature_scheme("rsa-pss", DIGESTS["sha384"]).algorithm_identifier),
    ],
    ids=["digest", "algorithm", "parameters"],
)
def test_algorithm_protection_that_names_others_is_refused(
    digest_oid: str, signature_algorithm: bytes, built: bytes
) -> None:
    with pytest.raises(MalformedError, match="names other algorithms"):
        parse_signed_attributes(built).check_algorithm_protection(digest_oid, signature_algorithm)


def test_algorithm_protection_of_a_mac_protects_the_digest_only(
    make_attribute: Callable[..., bytes],
) -> None:
    digest = DIGESTS["sha256"].algorithm_identifier
    protection = der.sequence(digest, der.tlv(0xA2, der.object_identifier("1.2.840.113549.2.9")))
    attributes = parsed(make_attribute(CMS_ALGORITHM_PROTECTION, protection))
    attributes.check_algorithm_protection(DIGESTS["sha256"].oid, b"anything")
    with pytest.raises(MalformedError):
        attributes.check_algorithm_protection(DIGESTS["sha384"].oid, b"anything")


def signing_certificate_v2(certificate: Certificate, digest: str | None) -> bytes:
    identifier = tsp.ESSCertIDv2(
        {"cert_hash": hashlib.new(digest or "sha256", certificate.der).digest()}
        | ({"hash_algorithm": {"algorithm": digest}} if digest else {})
    )
    encoded: bytes = tsp.SigningCertificateV2({"certs": [identifier]}).dump()
    return encoded


@pytest.mark.parametrize("digest", [None, "sha256", "sha512"])
def test_signing_certificate_v2_is_checked_with_its_hash(
    digest: str | None,
    software: Callable[..., Any],
    certificate: Certificate,
    make_attribute: Callable[..., bytes],
) -> None:
    value = signing_certificate_v2(certificate, digest)
    attributes = parsed(make_attribute(SIGNING_CERTIFICATE_V2, value))
    attributes.check_signing_certificate(certificate)
    with pytest.raises(MalformedError, match="SigningCertificateV2 names another certificate"):
        attributes.check_signing_certificate(software("p256").certificate)


def test_signing_certificate_of_version_1_is_checked_too(
    software: Callable[..., Any], certificate: Certificate, make_attribute: Callable[..., bytes]
) -> None:
    hashed = hashlib.sha1(certificate.der, usedforsecurity=False).digest()
    value = der.sequence(der.sequence(der.sequence(der.octet_string(hashed))))
    attributes = parsed(make_attribute(SIGNING_CERTIFICATE, value))
    attributes.check_signing_certificate(certificate)
    with pytest.raises(MalformedError, match="SigningCertificate names another certificate"):
        attributes.check_signing_certificate(software("p256").certificate)


def test_signing_certificate_with_an_unknown_hash_is_not_supported(
    certificate: Certificate, make_attribute: Callable[..., bytes]
) -> None:
    value = der.sequence(
        der.sequence(
            der.sequence(der.sequence(der.object_identifier("1.2.3.4")), der.octet_string(bytes(32)))
        )
    )
    with pytest.raises(UnsupportedError, match=r"1\.2\.3\.4"):
        parsed(make_attribute(SIGNING_CERTIFICATE_V2, value)).check_signing_certificate(certificate)


def test_signing_certificate_that_names_nobody_is_refused(
    certificate: Certificate, make_attribute: Callable[..., bytes]
) -> None:
    value = der.sequence(der.sequence())
    with pytest.raises(MalformedError, match="SigningCertificateV2 cannot be read"):
        parsed(make_attribute(SIGNING_CERTIFICATE_V2, value)).check_signing_certificate(certificate)


@pytest.mark.parametrize(
    "encoded", [b"", b"\x31\x03\x02\x01\x00", b"\x31\x04\x30\x02\x05\x00", b"\x31\x05ab"]
)
def test_broken_attributes_are_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_signed_attributes(encoded).check_message_digest(DIGEST)
