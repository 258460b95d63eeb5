"""A certificate before it is signed: what is asked for, and what the profile makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from tokensign.authority.compromised_keys import require_uncompromised_key
from tokensign.authority.contents import check_key, extensions_of, permitted_subject
from tokensign.authority.requests import CertificationRequest, read_request
from tokensign.errors import PolicyError, UsageError
from tokensign.pki.certificate_builder import (
    BACKDATED,
    authority_key_identifier,
    certificate_builder,
    require_authority,
    sign_certificate,
    validity,
)

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.algorithms import KeyUsage
    from tokensign.authority.authority import Authority
    from tokensign.authority.profiles import Profile
    from tokensign.certificates import Certificate
    from tokensign.keys import Signer
    from tokensign.pki.extensions import Extensions

__all__ = ["Draft", "Wanted", "check_days", "draft_certificate", "partition_of", "sign_draft"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for.

    Attributes:
        request: The certification request, DER or PEM; or a key whose owner is known to the caller.
        profile: What may be granted.
        subject: The subject's name; None takes that of the request. An `x509.Name`, which other certificates
            have, is kept octet by octet.
        emails: The addresses; None takes those of the request.
        dns: The host names; None takes those of the request.
        usage: What the key is for; None takes the first of the profile that it can do.
        key_identifier: The subjectKeyIdentifier, where other certificates have one for the key; or None.
        days: How long the certificate is valid; None for what the profile says.
        now: What time it is; None asks the clock.
        request_id: The request of the registration authority; there is never more than one certificate of it.
        replaces: The serial number of the certificate that this one renews.
        actor: Who issues it; None for the user of this process.
    """

    request: bytes | PublicKeyTypes
    profile: Profile
    subject: str | x509.Name | None = None
    emails: tuple[str, ...] | None = None
    dns: tuple[str, ...] | None = None
    usage: KeyUsage | None = None
    key_identifier: x509.SubjectKeyIdentifier | None = None
    days: int | None = None
    now: datetime | None = None
    request_id: str | None = None
    replaces: int | None = None
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A certificate without serial number and signature.

    Attributes:
        profile: The profile.
        public_key: The subject's key.
        subject: The subject's name.
        emails: The addresses.
        not_before: The beginning of its validity.
        not_after: The end of its validity.
        extensions: Its extensions, but those that depend on the serial number.
    """

    profile: Profile
    public_key: PublicKeyTypes
    subject: x509.Name
    emails: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    extensions: Extensions


def draft_certificate(authority: Authority, signer: Signer, wanted: Wanted) -> Draft:
    """All of the certificate that can be refused, before a serial number is spent on it.

    Args:
        authority: The CA.
        signer: Its key.
        wanted: What is asked for.

    Raises:
        UsageError: The key is not the CA's, the CA has a successor, its certificate expired, or a name or the
            days cannot be meant.
        PolicyError: The profile does not allow it, or the key is compromised.
        FileError: The database fails.
        MalformedError, UnsupportedError, BadSignatureError: The request cannot be used.
    """
    profile = wanted.profile
    check_days(profile, wanted.days)
    days = profile.days if wanted.days is None else wanted.days
    not_before, _ = validity(days, wanted.now)
    require_authority(signer, authority.certificate, not_before + BACKDATED)
    _require_in_charge(authority, profile)
    _require_nested_purposes(authority, profile)
    request = (
        read_request(wanted.request)
        if isinstance(wanted.request, bytes)
        else CertificationRequest(wanted.request, x509.Name([]))
    )
    check_key(profile, request.public_key)
    with authority.store.reading() as connection:
        require_uncompromised_key(connection, request.public_key)
    emails = request.emails if wanted.emails is None else wanted.emails
    dns = request.dns if wanted.dns is None else wanted.dns
    subject = permitted_subject(
        profile, request.subject if wanted.subject is None else wanted.subject, emails
    )
    if isinstance(wanted.subject, x509.Name):
        subject = wanted.subject
    extensions = extensions_of(
        profile, request.public_key, usage=wanted.usage, emails=emails, dns=dns, nameless=not subject.rdns
    )
    if wanted.key_identifier is not None:
        extensions.append((wanted.key_identifier, False))
    extensions.append((authority_key_identifier(authority.certificate), False))
    # Both ends count (RFC 5280 section 4.1.2.5): a day has 86,400 seconds and not one more.
    not_after = not_before + timedelta(days=days) - timedelta(seconds=1)
    return Draft(
        profile,
        request.public_key,
        subject,
        tuple(emails),
        max(not_before, authority.certificate.not_before),
        min(not_after, authority.certificate.not_after),
        extensions,
    )


def check_days(profile: Profile, days: int | None) -> None:
    """Refuse a validity that the profile does not allow.

    Raises:
        PolicyError: It is longer.
    """
    if days is not None and days > profile.maximum_days:
        raise PolicyError(
            f"the profile {profile.name} does not allow {days} days",
            hint=f"use {profile.maximum_days} or less",
        )


def sign_draft(authority: Authority, signer: Signer, draft: Draft, serial: int) -> Certificate:
    """Make the certificate; nobody may get it before it is recorded.

    Args:
        authority: The CA.
        signer: Its key.
        draft: All but the serial number.
        serial: The serial number.

    Raises:
        SigningError: The signature does not hold.
        TokenError: The token failed.
    """
    issuer = x509.load_der_x509_certificate(authority.certificate.der)
    builder = certificate_builder(
        draft.public_key,
        draft.subject,
        issuer.subject,
        draft.not_before,
        draft.not_after,
        [*draft.extensions, *_pointers(authority, draft.profile, serial)],
        serial=serial,
    )
    return sign_certificate(builder, signer, issuer=issuer)


def partition_of(authority: Authority, serial: int) -> int:
    """The number of the CRL that would list a certificate, counted from 0."""
    return serial % authority.partitions


def _require_nested_purposes(authority: Authority, profile: Profile) -> None:
    """Refuse a certificate that is for nothing: many verifiers want a purpose in every certificate of a path.

    A responder for the CA itself is what RFC 6960 section 4.2.2.2 has, whatever the CA is for.

    Raises:
        PolicyError: The CA's own certificate has no purpose of the profile.
    """
    wanted = set(profile.purposes)
    if not wanted or ExtendedKeyUsageOID.OCSP_SIGNING in wanted:
        return
    extensions = x509.load_der_x509_certificate(authority.certificate.der).extensions
    try:
        purposes = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return
    if not purposes & {*wanted, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}:
        raise PolicyError(
            f"the certificate of the CA {authority.name} leaves out what the profile {profile.name} is for",
            hint="issue with another CA; `tokensign ca list` has all",
        )


def _require_in_charge(authority: Authority, profile: Profile) -> None:
    """Refuse to issue with an old key, but for what readers of older certificates still need.

    Raises:
        UsageError: The CA has a successor.
    """
    needed = profile.is_authority or ExtendedKeyUsageOID.OCSP_SIGNING in profile.purposes
    if authority.successor is not None and not needed:
        raise UsageError(
            f"the CA {authority.name} has a successor, and issues no more",
            hint=f"issue with --ca {authority.successor}",
        )


def _pointers(authority: Authority, profile: Profile, serial: int) -> Extensions:
    """Where the issuer's certificate and its word on revocation are (RFC 5280 sections 4.2.1.13, 4.2.2.1)."""
    partition = partition_of(authority, serial) if authority.partitions > 1 else None
    crl_url, ocsp_url, issuer_url = authority.crl_url(partition), authority.ocsp_url, authority.issuer_url
    if crl_url is None or ocsp_url is None or issuer_url is None:
        return []
    access = [(AuthorityInformationAccessOID.CA_ISSUERS, issuer_url)]
    if not profile.ocsp_no_check:
        access.insert(0, (AuthorityInformationAccessOID.OCSP, ocsp_url))
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
    descriptions = [
        x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for method, url in access
    ]
    return [
        (x509.AuthorityInformationAccess(descriptions), False),
        (x509.CRLDistributionPoints([point]), False),
    ]
