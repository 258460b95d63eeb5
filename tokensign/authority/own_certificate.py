"""The certificates of CAs in the course of time: renewed for the same key, and cross-certified.

With the same name, key and key identifier, all that the CA has issued and revoked holds under each of its
certificates. Another key makes another CA, with serial numbers and CRLs of its own; see `create_authority`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from sqlalchemy import update

from tokensign.audit.changes import record_change
from tokensign.authority.authority import list_authorities
from tokensign.authority.drafting import Wanted
from tokensign.authority.founding import ordered_chain, require_ca_certificate, root_certificate
from tokensign.authority.issuing import issue
from tokensign.errors import FileError, PolicyError, UsageError
from tokensign.pki.anchors import may_issue
from tokensign.pki.certificate_builder import pyca_certificate
from tokensign.pki.names import display_name
from tokensign.store.tables import AUTHORITIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.authority.authority import Authority
    from tokensign.authority.issuing import IssuedCertificate
    from tokensign.authority.profiles import Profile
    from tokensign.certificates import Certificate
    from tokensign.keys import Signer

__all__ = ["cross_certify", "parent_of", "renew_own_certificate", "replace_own_certificate"]


def cross_certify(
    authority: Authority,
    signer: Signer,
    other: Certificate,
    profile: Profile,
    *,
    days: int | None = None,
    actor: str | None = None,
) -> IssuedCertificate:
    """Certify another CA, which has a certificate already: who trusts this one then trusts that one.

    The path length, the name constraints and the policies are those of the profile.

    Args:
        authority: The CA that certifies.
        signer: Its key.
        other: The other CA's certificate, whose name, key and key identifier are taken as they are.
        profile: One for CAs.
        days: How long the certificate is valid; None for what the profile says.
        actor: Who does it; None for the user of this process.

    Raises:
        UsageError: The other certificate is expired, not of a CA, or of the same key.
        PolicyError, UnsupportedError, SigningError, TokenError, FileError: As for `Authority.issue`.
    """
    name = display_name(other)
    if not profile.is_authority:
        raise PolicyError(f"the profile {profile.name} is not for CAs", hint="use subordinate-ca")
    if not may_issue(other, legacy=False):
        raise UsageError(f"the certificate of {name} is not that of a CA", hint="use `tokensign ca issue`")
    if other.public_key == authority.certificate.public_key:
        raise UsageError(f"the certificate of {name} has the key of the CA {authority.name} itself")
    if datetime.now(UTC) > other.not_after:
        raise UsageError(f"the certificate of {name} expired on {other.not_after:%Y-%m-%d}")
    subject, key_identifier = _identity(other)
    wanted = Wanted(
        other.public_key, profile, subject=subject, key_identifier=key_identifier, days=days, actor=actor
    )
    return issue(authority, signer, wanted)


def renew_own_certificate(
    authority: Authority,
    signer: Signer,
    profile: Profile,
    *,
    parent: tuple[Authority, Signer] | None = None,
    days: int | None = None,
    actor: str | None = None,
) -> Authority:
    """Make a CA's next certificate, for the same name and key; from now on it is the one that counts.

    Args:
        authority: The CA.
        signer: Its key.
        profile: One for CAs.
        parent: The CA above it, and that one's key; None for a root.
        days: How long the certificate is valid; None for what the profile says.
        actor: Who does it; None for the user of this process.

    Returns:
        The CA with its new certificate.

    Raises:
        UsageError: The key is not the CA's, or the CA is no root and not below `parent`.
        PolicyError, UnsupportedError, SigningError, TokenError, FileError: As for `create_authority`.
    """
    older = authority.certificate
    if signer.public_key != older.public_key:
        raise UsageError(
            f"the key is not that of the CA {authority.name}",
            hint="renew with the same key; for a new one, make a CA that succeeds this one",
        )
    subject, key_identifier = _identity(older)
    above = parent_of(authority)
    if parent is None and above is None and older.is_self_issued:
        fresh = root_certificate(signer, subject, profile, days, key_identifier)
        return _replace(authority, fresh, (), actor=actor)
    if parent is None or above is None or above.name != parent[0].name:
        raise UsageError(
            f"the CA {authority.name} is not {f'below {parent[0].name}' if parent else 'a root'}",
            hint="the CA above it makes its next certificate; `tokensign ca adopt` takes one from elsewhere",
        )
    wanted = Wanted(
        older.public_key,
        profile,
        subject=subject,
        key_identifier=key_identifier,
        days=days,
        replaces=older.serial_number,
        actor=actor,
    )
    issued = issue(*parent, wanted)
    return _replace(authority, issued.certificate, issued.chain, actor=actor)


def replace_own_certificate(
    authority: Authority,
    signer: Signer,
    certificate: Certificate,
    chain: Iterable[Certificate] = (),
    *,
    actor: str | None = None,
) -> Authority:
    """Take the next certificate of a CA, which a CA elsewhere has issued.

    Args:
        authority: The CA.
        signer: Its key.
        certificate: The certificate, for the same name and key.
        chain: The certificates above it, in any order.
        actor: Who does it; None for the user of this process.

    Returns:
        The CA with its new certificate.

    Raises:
        UsageError: The certificate has another name, key or key identifier, is not of a CA, or is not valid
            now; or `chain` has others than the certificates above it.
        FileError: The database fails.
    """
    require_ca_certificate(signer, certificate)
    older = authority.certificate
    if (certificate.encoded_subject, certificate.public_key_info, certificate.subject_key_identifier) != (
        older.encoded_subject, older.public_key_info, older.subject_key_identifier,
    ):  # fmt: skip
        raise UsageError(
            f"the certificate does not have the name, key and key identifier of the CA {authority.name}",
            hint="what the CA has issued would not hold under it; have one issued that repeats them",
        )
    return _replace(authority, certificate, ordered_chain(certificate, chain), actor=actor)


def parent_of(authority: Authority) -> Authority | None:
    """The CA of the same database that issued a CA's certificate, or None.

    Raises:
        FileError: The database fails.
    """
    if not authority.chain:
        return None
    found = (one for one in list_authorities(authority.store) if _is_of(authority.chain[0], one))
    return next(found, None)


def _is_of(certificate: Certificate, authority: Authority) -> bool:
    """Whether a certificate is that of a CA, or an older one of the same name and key."""
    own = authority.certificate
    return (certificate.encoded_subject, certificate.public_key_info) == (
        own.encoded_subject, own.public_key_info,
    )  # fmt: skip


def _identity(certificate: Certificate) -> tuple[x509.Name, x509.SubjectKeyIdentifier | None]:
    """By what the certificates below a CA name it: subject and subjectKeyIdentifier."""
    identifier = certificate.subject_key_identifier
    return (
        pyca_certificate(certificate).subject,
        None if identifier is None else x509.SubjectKeyIdentifier(identifier),
    )


def _replace(
    authority: Authority, certificate: Certificate, chain: tuple[Certificate, ...], *, actor: str | None
) -> Authority:
    """Change the certificate of a CA, also in the chains of those below it."""
    store, older, table = authority.store, authority.certificate, AUTHORITIES.c
    with store.writing() as connection:
        done = connection.execute(
            update(AUTHORITIES)
            .where(table.name == authority.name, table.certificate == older.der)
            .values(certificate=certificate.der, chain=_pem(chain))
        )
        if done.rowcount != 1:
            raise FileError(
                f"the certificate of {authority.name} was renewed by another process meanwhile",
                hint="see `tokensign ca show`",
            )
        for one in list_authorities(store):
            places = [number for number, above in enumerate(one.chain) if _is_of(above, authority)]
            if places:
                above = (*one.chain[: places[0]], certificate, *chain)
                connection.execute(
                    update(AUTHORITIES).where(table.name == one.name).values(chain=_pem(above))
                )
        details = {
            "ca": authority.name,
            "sha256": certificate.sha256.hex(),
            "replaces": older.sha256.hex(),
        }
        record_change(connection, "CA certificate renewed", details, actor=actor)
    return replace(authority, certificate=certificate, chain=chain)


def _pem(chain: Iterable[Certificate]) -> str:
    return "".join(one.pem() for one in chain)
