from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from tokensign import der
from tokensign.certificates import Certificate, load_certificates, name_string
from tokensign.errors import MalformedError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY = ec.generate_private_key(ec.SECP256R1())
NAME = x509.Name(
    [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "CH"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme, Inc."),
        x509.NameAttribute(NameOID.COMMON_NAME, "Alice"),
    ]
)


def build(
    subject: x509.Name = NAME, extensions: Sequence[x509.ExtensionType] = (), issuer: x509.Name = NAME
) -> Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(KEY.public_key())
        .serial_number(0x1234)
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2060, 1, 1, tzinfo=UTC))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return Certificate(builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER))


def test_what_a_certificate_says() -> None:
    certificate = build()
    assert certificate.subject == certificate.issuer == r"CN=Alice,O=Acme\, Inc.,C=CH"
    assert certificate.serial_number == 0x1234
    assert certificate.not_before == datetime(2026, 1, 1, tzinfo=UTC)
    assert certificate.not_after == datetime(2060, 1, 1, tzinfo=UTC)
    assert certificate.sha256 == hashlib.sha256(certificate.der).digest()
    assert certificate.public_key == KEY.public_key()
    expected = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert certificate.public_key_info == expected
    assert repr(certificate) == r"<Certificate 'CN=Alice,O=Acme\\, Inc.,C=CH' serial 1234>"
    assert certificate.is_self_issued
    assert not build(issuer=x509.Name([])).is_self_issued


def test_the_names_are_cut_out_as_received() -> None:
    certificate = build()
    name = NAME.public_bytes()
    assert certificate.encoded_issuer == certificate.encoded_subject == name
    assert certificate.issuer_and_serial_number == der.sequence(name, der.integer(0x1234))


def test_a_certificate_of_version_1_has_its_fields_too() -> None:
    """It has no version field and no extensions (RFC 5280 section 4.1.2.1)."""
    tbs, algorithm, signature = der.elements(build().der)
    fields = der.elements(tbs)[1:]
    certificate = Certificate(der.sequence(der.sequence(*fields), algorithm, signature))
    assert certificate.encoded_subject == NAME.public_bytes()
    assert certificate.key_usage is None
    assert certificate.subject_key_identifier is None


def test_extensions_that_are_absent_restrict_nothing() -> None:
    certificate = build()
    assert certificate.key_usage is None
    assert certificate.extended_key_usage is None
    assert certificate.subject_key_identifier is None
    assert not certificate.is_ca
    assert certificate.emails == ()


def test_extensions_that_are_present() -> None:
    usages = dict.fromkeys(
        [
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ],
        False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(KEY.public_key())
    certificate = build(
        extensions=[
            x509.KeyUsage(digital_signature=True, **usages),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION, x509.ObjectIdentifier("1.2.3.4")]),
            x509.BasicConstraints(ca=True, path_length=None),
            identifier,
        ]
    )
    assert certificate.key_usage == {"digital_signature"}
    assert certificate.extended_key_usage == {"email_protection", "1.2.3.4"}
    assert certificate.is_ca
    assert certificate.subject_key_identifier == identifier.digest


def test_addresses_come_from_the_alternative_name() -> None:
    names = x509.SubjectAlternativeName(
        [
            x509.RFC822Name("alice@acme.example"),
            x509.DNSName("acme.example"),
            x509.RFC822Name("a@acme.example"),
        ]
    )
    subject = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, "old@acme.example")])
    assert build(subject, [names]).emails == ("alice@acme.example", "a@acme.example")


def test_addresses_come_from_the_subject_only_where_there_is_no_other() -> None:
    """RFC 8550 section 3."""
    subject = x509.Name([x509.NameAttribute(NameOID.EMAIL_ADDRESS, "old@acme.example")])
    assert build(subject).emails == ("old@acme.example",)
    dns = x509.SubjectAlternativeName([x509.DNSName("acme.example")])
    assert build(subject, [dns]).emails == ("old@acme.example",)


def test_certificates_are_equal_when_their_bytes_are() -> None:
    one = build()
    assert one == Certificate(one.der)
    assert len({one, Certificate(one.der)}) == 1
    assert one != build()
    assert one != one.der


def test_a_key_of_an_unknown_type_is_refused_only_when_it_is_used() -> None:
    tbs, algorithm, signature = der.elements(build().der)
    fields = der.elements(tbs)
    fields[6] = der.sequence(der.sequence(der.object_identifier("1.2.3.4")), der.tlv(3, b"\0key"))
    certificate = Certificate(der.sequence(der.sequence(*fields), algorithm, signature))
    with pytest.raises(UnsupportedError, match="public key of CN=Alice"):
        _ = certificate.public_key


CERTIFICATE = build(
    extensions=[
        x509.SubjectAlternativeName([x509.RFC822Name("alice@acme.example")]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]),
        x509.BasicConstraints(ca=False, path_length=None),
        x509.SubjectKeyIdentifier(b"identifier"),
    ]
)
ADDRESS_POSITION = CERTIFICATE.der.index(b"alice@acme.example")


@given(st.integers(0, 10_000), st.integers(0, 255))
@example(ADDRESS_POSITION, 0x80)
def test_a_changed_certificate_is_read_or_refused(position: int, value: int) -> None:
    encoded = bytearray(CERTIFICATE.der)
    encoded[position % len(encoded)] = value
    try:
        certificate = Certificate(bytes(encoded))
        for name in (
            "public_key_info", "encoded_subject", "issuer_and_serial_number", "subject_key_identifier",
            "key_usage", "extended_key_usage", "is_ca", "is_self_issued", "emails", "public_key",
        ):  # fmt: skip
            getattr(certificate, name)
    except (MalformedError, UnsupportedError):
        return


@pytest.mark.parametrize(
    "data", [b"", b"\x30\x00", b"not a certificate", b"\x30\x03\x02\x01\x01", CERTIFICATE.der[:-1]]
)
def test_other_bytes_are_no_certificate(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Certificate(data)


# --- files


def test_files_of_der_and_pem_are_read() -> None:
    one, two = build(), CERTIFICATE
    assert load_certificates(one.der) == [one]
    text = f"some words\n{one.pem()}\n{two.pem()}"
    assert load_certificates(text.encode()) == [one, two]


def test_other_objects_between_certificates_are_passed_over() -> None:
    text = f"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n{CERTIFICATE.pem()}"
    assert load_certificates(text.encode()) == [CERTIFICATE]
    old = CERTIFICATE.pem().replace(" CERTIFICATE", " X509 CERTIFICATE")
    assert load_certificates(old.encode()) == [CERTIFICATE]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "no certificate in the PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\nA*\n-----END CERTIFICATE-----\n", "PEM text is broken"),
        (b"-----BEGIN CERTIFICATE-----\n", "PEM text is broken"),
    ],
)
def test_files_without_certificates_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        load_certificates(data)


# --- names


def named(*parts: Any) -> str:  # noqa: ANN401 - cryptography's attributes
    encoded = x509.Name([x509.RelativeDistinguishedName(part) for part in parts]).public_bytes()
    return name_string(asn1.Name.load(encoded))


def test_names_are_written_as_rfc_4514_says() -> None:
    attribute = x509.NameAttribute
    assert (
        named([attribute(NameOID.COUNTRY_NAME, "CH")], [attribute(NameOID.COMMON_NAME, "A")]) == "CN=A,C=CH"
    )
    several = [attribute(NameOID.COMMON_NAME, "A"), attribute(NameOID.USER_ID, "a")]
    assert sorted(named(several).split("+")) == ["CN=A", "UID=a"]
    strange = x509.ObjectIdentifier("1.2.3.4")
    assert named([attribute(strange, "x")]) == "1.2.3.4=x"
    assert named() == ""


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (" both ", r"\ both\ "),
        ("#hash", r"\#hash"),
        ('a,b+c"d\\e<f>g;h', r"a\,b\+c\"d\\e\<f\>g\;h"),
        ("a\0b", r"a\00b"),
        ("Zoë", "Zoë"),
    ],
)
def test_values_are_escaped(value: str, written: str) -> None:
    assert named([x509.NameAttribute(NameOID.COMMON_NAME, value)]) == f"CN={written}"
