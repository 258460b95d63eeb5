"""What all certificates made here share: the builder, the validity, the serial number, the signature."""

from __future__ import annotations

import secrets
import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from tokensign.certificates import Certificate
from tokensign.errors import MessageError, SigningError, UnsupportedError, UsageError
from tokensign.pki.anchors import may_issue
from tokensign.pki.extensions import subject_key_identifier
from tokensign.pki.names import display_name
from tokensign.pki.rsa_flaws import require_sound_rsa_key
from tokensign.pki.signer_key import signer_key, signing_hash
from tokensign.pki.strength import require_key_strength

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PublicKeyTypes

    from tokensign.keys import Signer
    from tokensign.pki.extensions import Extensions

__all__ = [
    "BACKDATED",
    "DAYS_MAXIMUM",
    "SERIAL_BITS",
    "authority_key_identifier",
    "certificate_builder",
    "pyca_certificate",
    "random_serial",
    "require_authority",
    "require_strong_key",
    "sign_certificate",
    "validity",
]

DAYS_MAXIMUM: Final = 36500  # a hundred years; more is a slip of the finger
SERIAL_BITS: Final = 128  # random, so that nobody can prepare a collision; fits the 20 octets of RFC 5280

_UNREADABLE: Final = (
    ValueError,
    Warning,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

# Readers whose clock is a little late would otherwise refuse a mail that is signed right after issuance.
BACKDATED: Final = timedelta(minutes=5)


def pyca_certificate(certificate: Certificate) -> x509.Certificate:
    """A certificate as cryptography has it, which is stricter than its readers here.

    Args:
        certificate: Also a stranger's.

    Raises:
        UnsupportedError: cryptography cannot read it.
    """
    try:
        with warnings.catch_warnings(action="error"):  # of what it will no longer read one day
            loaded = x509.load_der_x509_certificate(certificate.der)
            _ = loaded.subject, loaded.issuer, loaded.extensions  # which are read on demand
    except _UNREADABLE as error:
        raise UnsupportedError(
            f"the certificate of {display_name(certificate)} cannot be read to its end",
            hint="ask its issuer for one that keeps to RFC 5280",
        ) from error
    return loaded


def validity(days: int, now: datetime | None = None) -> tuple[datetime, datetime]:
    """From when until when a certificate is valid that is made now.

    Args:
        days: For how long, from now on.
        now: What time it is; None asks the clock.

    Raises:
        UsageError: The days cannot be meant.
    """
    if not 1 <= days <= DAYS_MAXIMUM:
        raise UsageError(f"a certificate cannot be valid for {days} days", hint=f"use 1 to {DAYS_MAXIMUM}")
    now = (now or datetime.now(UTC)).replace(microsecond=0)
    return now - BACKDATED, now + timedelta(days=days)


def random_serial() -> int:
    """A serial number of SERIAL_BITS random bits; positive, as RFC 5280 section 4.1.2.2 wants it."""
    return secrets.randbits(SERIAL_BITS) + 1


def require_strong_key(public_key: PublicKeyTypes) -> None:
    """Refuse a key that no certificate is made for.

    Raises:
        UnsupportedError: It is too weak, too large, of another type, or has a known flaw.
    """
    try:
        require_key_strength(public_key, legacy=False)
    except MessageError as error:
        raise UnsupportedError(f"no certificate is made: {error.message}") from error
    if isinstance(public_key, rsa.RSAPublicKey):
        require_sound_rsa_key(public_key)


def certificate_builder(
    public_key: PublicKeyTypes,
    subject: x509.Name,
    issuer: x509.Name,
    not_before: datetime,
    not_after: datetime,
    extensions: Extensions,
    *,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    """A certificate that only lacks its signature.

    Args:
        public_key: The subject's key.
        subject: The subject's name.
        issuer: The issuer's name.
        not_before: The beginning of its validity.
        not_after: The end of its validity.
        extensions: Its extensions; the usual subjectKeyIdentifier is added where they have none.
        serial: Its serial number, or None for a random one.

    Raises:
        UnsupportedError: The key is too weak, or of another type.
    """
    require_strong_key(public_key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(cast("CertificatePublicKeyTypes", public_key))
        .serial_number(random_serial() if serial is None else serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if not any(isinstance(extension, x509.SubjectKeyIdentifier) for extension, _ in extensions):
        builder = builder.add_extension(subject_key_identifier(public_key), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder


def sign_certificate(
    builder: x509.CertificateBuilder, signer: Signer, *, issuer: x509.Certificate | None
) -> Certificate:
    """Sign a certificate, and verify the signature before anybody gets it.

    Args:
        builder: The certificate.
        signer: The issuer's key.
        issuer: The issuer's certificate; None for a self-signed one.

    Raises:
        SigningError: The signature does not hold.
        UnsupportedError: The key's type does not sign.
        TokenError: The token failed.
    """
    fresh = builder.sign(signer_key(signer), signing_hash(signer.public_key))
    try:
        fresh.verify_directly_issued_by(issuer or fresh)
    except InvalidSignature as error:
        raise SigningError(
            "the signature of the fresh certificate does not hold", hint="check the token; it is faulty"
        ) from error
    return Certificate(fresh.public_bytes(Encoding.DER))


def authority_key_identifier(issuer: Certificate) -> x509.AuthorityKeyIdentifier:
    """The key of the issuer, as its certificate names it (RFC 5280 section 4.2.1.1)."""
    identifier = issuer.subject_key_identifier
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        subject_key_identifier(issuer.public_key)
        if identifier is None
        else x509.SubjectKeyIdentifier(identifier)
    )


def require_authority(signer: Signer, certificate: Certificate, now: datetime) -> None:
    """Refuse to sign with a key that is not that of a CA, by its certificate.

    Args:
        signer: The key that would sign.
        certificate: The CA's certificate.
        now: When it must be valid; another CA's clock may be ahead by as much as BACKDATED.

    Raises:
        UsageError: The certificate is expired or not valid yet, of another key than `signer`, or not of a CA.
    """
    name = display_name(certificate)
    if not may_issue(certificate, legacy=False):
        raise UsageError(
            f"the certificate of {name} is not that of a CA", hint="name the certificate of the CA"
        )
    if certificate.public_key != signer.public_key:
        raise UsageError(
            f"the certificate of {name} belongs to another key than the one that would sign",
            hint="name the CA's own key, or the certificate of this one",
        )
    if now > certificate.not_after:
        raise UsageError(f"the certificate of {name} expired on {certificate.not_after:%Y-%m-%d}")
    if now + BACKDATED < certificate.not_before:
        raise UsageError(
            f"the certificate of {name} is not valid before {certificate.not_before:%Y-%m-%d %H:%M:%S %Z}",
            hint="see whether the clock of this machine is right",
        )
