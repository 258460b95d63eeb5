"""Certificates, signed by keys on tokens: roots, people's certificates, and self-signed ones (RFC 5280)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509

from tokensign.algorithms import KeyUsage
from tokensign.distinguished_names import subject_name
from tokensign.pki.certificate_builder import (
    BACKDATED,
    DAYS_MAXIMUM,
    authority_key_identifier,
    certificate_builder,
    require_authority,
    sign_certificate,
    validity,
)
from tokensign.pki.extensions import authority, end_entity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.certificates import Certificate
    from tokensign.keys import Signer
    from tokensign.pki.extensions import Extensions

__all__ = ["CERTIFICATE_DAYS", "DAYS_MAXIMUM", "ROOT_DAYS", "issue", "root_certificate", "self_signed"]

CERTIFICATE_DAYS: Final = (
    730  # the CA/Browser Forum's S/MIME BR section 6.3.2 allow 825 in the strict profile
)
ROOT_DAYS: Final = 3650


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
    builder = certificate_builder(signer.public_key, name, name, *validity(days), authority(path_length))
    return sign_certificate(builder, signer, issuer=None)


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
    builder = certificate_builder(signer.public_key, name, name, *validity(days), extensions)
    return sign_certificate(builder, signer, issuer=None)


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
    not_before, not_after = validity(days)
    require_authority(ca, ca_certificate, not_before + BACKDATED)
    issuer = x509.load_der_x509_certificate(ca_certificate.der)
    builder = certificate_builder(
        public_key,
        subject_name(subject),
        issuer.subject,
        max(not_before, ca_certificate.not_before),
        min(not_after, ca_certificate.not_after),
        [*_person(public_key, usage, emails), (authority_key_identifier(ca_certificate), False)],
    )
    return sign_certificate(builder, ca, issuer=issuer)


def _person(public_key: PublicKeyTypes, usage: KeyUsage, emails: Iterable[str]) -> Extensions:
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        *end_entity(public_key, usage, emails),
    ]
