"""Certificates, signed by keys on tokens: roots, people's certificates, and self-signed ones (RFC 5280)."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from tokensign.algorithms import KeyUsage
from tokensign.certificates import Certificate
from tokensign.distinguished_names import subject_name
from tokensign.errors import MessageError, SigningError, UnsupportedError, UsageError
from tokensign.pki.anchors import may_issue
from tokensign.pki.extensions import authority, end_entity, subject_key_identifier
from tokensign.pki.names import display_name
from tokensign.pki.signer_key import signer_key, signing_hash
from tokensign.pki.strength import require_key_strength

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PublicKeyTypes

    from tokensign.keys import Signer
    from tokensign.pki.extensions import Extensions

__all__ = ["CERTIFICATE_DAYS", "DAYS_MAXIMUM", "ROOT_DAYS", "issue", "root_certificate", "self_signed"]

CERTIFICATE_DAYS: Final = (
    730  # the CA/Browser Forum's S/MIME BR section 6.3.2 allow 825 in the strict profile
)
ROOT_DAYS: Final = 3650
DAYS_MAXIMUM: Final = 36500  # a hundred years; more is a slip of the finger
SERIAL_BITS: Final = 128  # random, so that nobody can prepare a collision; fits the 20 octets of RFC 5280

# Readers whose clock is a little late would otherwise refuse a mail that is signed right after issuance.
_BACKDATED: Final = timedelta(minutes=5)


def root_certificate(
    signer: Signer, subject: str, *, days: int = ROOT_DAYS, path_length: int | None = None
) -> Certificate:
    """The self-signed certificate of a CA, which others take as trust anchor.

    Args:
        signer: The CA's key.
        subject: The CA's name, such as "CN=Acme CA,O=Acme,C=CH" (RFC 4514).
        days: How long it is valid.
        path_length: CAs that may follow below, or None for any number; 0 for a CA of people only.

    Raises:
        UsageError: The name or the days cannot be meant.
        UnsupportedError: The key is too weak, or its type does not sign.
        SigningError: The signature does not hold.
        TokenError: The token failed.
    """
    name = subject_name(subject)
    builder = _builder(signer.public_key, name, name, *_validity(days), authority(path_length))
    return _sign(builder, signer, issuer=None)


def self_signed(
    signer: Signer,
    subject: str,
    emails: Iterable[str] = (),
    *,
    days: int = CERTIFICATE_DAYS,
    usage: KeyUsage = KeyUsage.SIGN,
) -> Certificate:
    """A person's certificate without a CA: readers trust it itself, and it vouches for nobody else.

    Args:
        signer: The person's key.
        subject: The person's name, such as "CN=Alice,O=Acme,C=CH" (RFC 4514).
        emails: The person's addresses.
        days: How long it is valid.
        usage: What the key is for.

    Raises:
        UsageError: The name, an address, the days or the usage cannot be meant.
        UnsupportedError: The key is too weak, or its type does not sign.
        SigningError: The signature does not hold.
        TokenError: The token failed.
    """
    name = subject_name(subject)
    extensions = _person(signer.public_key, usage, emails)
    builder = _builder(signer.public_key, name, name, *_validity(days), extensions)
    return _sign(builder, signer, issuer=None)


def issue(
    ca: Signer,
    ca_certificate: Certificate,
    public_key: PublicKeyTypes,
    subject: str,
    emails: Iterable[str] = (),
    *,
    days: int = CERTIFICATE_DAYS,
    usage: KeyUsage = KeyUsage.SIGN,
) -> Certificate:
    """Issue a person's certificate.

    Args:
        ca: The CA's key.
        ca_certificate: The CA's certificate. The new one begins and ends within its validity.
        public_key: The person's key.
        subject: The person's name, such as "CN=Alice,O=Acme,C=CH" (RFC 4514).
        emails: The person's addresses.
        days: How long it is valid.
        usage: What the person's key is for.

    Raises:
        UsageError: The name, an address, the days or the usage cannot be meant; or `ca_certificate` is
            expired, of another key than `ca`, or not of a CA.
        UnsupportedError: A key is too weak, or its type does not fit.
        SigningError: The signature does not hold.
        TokenError: The token failed.
    """
    not_before, not_after = _validity(days)
    _check_authority(ca, ca_certificate, not_before)
    issuer = x509.load_der_x509_certificate(ca_certificate.der)
    identifier = ca_certificate.subject_key_identifier
    authority_key_identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        subject_key_identifier(ca.public_key) if identifier is None else x509.SubjectKeyIdentifier(identifier)
    )
    builder = _builder(
        public_key,
        subject_name(subject),
        issuer.subject,
        max(not_before, ca_certificate.not_before),
        min(not_after, ca_certificate.not_after),
        [*_person(public_key, usage, emails), (authority_key_identifier, False)],
    )
    return _sign(builder, ca, issuer=issuer)


def _check_authority(ca: Signer, certificate: Certificate, now: datetime) -> None:
    name = display_name(certificate)
    if not may_issue(certificate, legacy=False):
        raise UsageError(
            f"the certificate of {name} is not that of a CA", hint="name the certificate of the CA"
        )
    if certificate.public_key != ca.public_key:
        raise UsageError(
            f"the certificate of {name} belongs to another key than the one that would sign",
            hint="name the CA's own key, or the certificate of this one",
        )
    if now > certificate.not_after:
        raise UsageError(f"the certificate of {name} expired on {certificate.not_after:%Y-%m-%d}")


def _person(public_key: PublicKeyTypes, usage: KeyUsage, emails: Iterable[str]) -> Extensions:
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        *end_entity(public_key, usage, emails),
    ]


def _validity(days: int) -> tuple[datetime, datetime]:
    if not 1 <= days <= DAYS_MAXIMUM:
        raise UsageError(f"a certificate cannot be valid for {days} days", hint=f"use 1 to {DAYS_MAXIMUM}")
    now = datetime.now(UTC).replace(microsecond=0)
    return now - _BACKDATED, now + timedelta(days=days)


def _builder(
    public_key: PublicKeyTypes,
    subject: x509.Name,
    issuer: x509.Name,
    not_before: datetime,
    not_after: datetime,
    extensions: Extensions,
) -> x509.CertificateBuilder:
    try:
        require_key_strength(public_key, legacy=False)
    except MessageError as error:
        raise UnsupportedError(f"no certificate is made: {error.message}") from error
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(cast("CertificatePublicKeyTypes", public_key))
        .serial_number(secrets.randbits(SERIAL_BITS) + 1)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(subject_key_identifier(public_key), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder


def _sign(
    builder: x509.CertificateBuilder, signer: Signer, *, issuer: x509.Certificate | None
) -> Certificate:
    fresh = builder.sign(signer_key(signer), signing_hash(signer.public_key))
    try:
        fresh.verify_directly_issued_by(issuer or fresh)
    except InvalidSignature as error:
        raise SigningError(
            "the signature of the fresh certificate does not hold", hint="check the token; it is faulty"
        ) from error
    return Certificate(fresh.public_bytes(Encoding.DER))
