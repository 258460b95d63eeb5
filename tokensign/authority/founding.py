"""Making a CA: a root, one below another CA of the database, or one that a CA elsewhere has certified."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from sqlalchemy import insert, select, update

from tokensign.audit.changes import record_change
from tokensign.authority.authority import Authority
from tokensign.authority.compromised_keys import require_uncompromised_key
from tokensign.authority.contents import check_key, extensions_of, permitted_subject
from tokensign.authority.drafting import Wanted, check_days
from tokensign.authority.issuing import issue
from tokensign.certificates import Certificate
from tokensign.errors import PolicyError, UsageError
from tokensign.pki.certificate_builder import (
    certificate_builder,
    pyca_certificate,
    require_authority,
    require_strong_key,
    sign_certificate,
    validity,
)
from tokensign.store.tables import AUTHORITIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from tokensign.authority.issuing import IssuedCertificate
    from tokensign.authority.profiles import Profile
    from tokensign.keys import Signer
    from tokensign.store import Store

__all__ = [
    "PARTITIONS_MAXIMUM",
    "adopt_authority",
    "create_authority",
    "ordered_chain",
    "require_ca_certificate",
    "root_certificate",
]

PARTITIONS_MAXIMUM: Final = 1024  # CRLs of one CA, each of which is signed again before it expires

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")  # stands in file names and URLs
_URL: Final = re.compile(r"http://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~-]+)*")


def create_authority(  # noqa: PLR0913 - each is something of its own that is asked for
    store: Store,
    name: str,
    signer: Signer,
    subject: str | None = None,
    *,
    profile: Profile,
    parent: tuple[Authority, Signer] | None = None,
    succeeds: Authority | None = None,
    days: int | None = None,
    url: str | None = None,
    partitions: int = 1,
    key_uri: str | None = None,
    actor: str | None = None,
) -> Authority:
    """Make a CA: its certificate, self-signed or issued by another CA of the database, and its row.

    Called again after it was interrupted, it takes the certificate that the parent has issued already.

    Args:
        store: The database.
        name: What it shall be called: small letters, digits and hyphens.
        signer: Its key.
        subject: Its name, such as "CN=Acme CA,O=Acme,C=CH" (RFC 4514); None takes that of `succeeds`.
        profile: One for CAs.
        parent: The CA that issues the certificate, and its key; None for a root.
        succeeds: The CA in whose place it issues from now on (re-key). That one goes on with CRLs, and with
            certificates of OCSP responders, for what it has issued.
        days: How long the certificate is valid; None for what the profile says.
        url: Below which it will serve CRLs, OCSP and its certificate, such as "http://pki.acme.example/ca";
            None leaves that out of what it issues.
        partitions: Over how many CRLs its certificates are spread.
        key_uri: Where its key is (RFC 7512), without any PIN.
        actor: Who makes it; None for the user of this process.

    Raises:
        UsageError: There is one of that name, the other has a successor already, or a name, the URL or a
            number cannot be meant.
        PolicyError: The profile does not allow it, or the key is compromised.
        SigningError: The signature does not hold.
        TokenError: The token failed.
        FileError: The database fails.
    """
    _check_settings(name, url, partitions)
    if not profile.is_authority:
        raise PolicyError(f"the profile {profile.name} is not for CAs", hint="use root-ca or subordinate-ca")
    with store.writing() as connection:
        _require_free(connection, name, url, signer, succeeds)
    wanted_subject = _subject(subject, succeeds)
    chain: tuple[Certificate, ...] = ()
    if parent is None:
        certificate = root_certificate(signer, wanted_subject, profile, days)
    else:
        wanted = Wanted(
            signer.public_key,
            profile,
            subject=wanted_subject,
            days=days,
            request_id=f"authority:{name}",
            actor=actor,
        )
        issued = issue(*parent, wanted)
        certificate, chain = issued.certificate, issued.chain
        _require_usable(issued, signer, permitted_subject(profile, wanted_subject, ()))
    made = Authority(name, certificate, chain, key_uri, url, partitions, store)
    with store.writing() as connection:
        _require_free(connection, name, url, signer, succeeds)
        _record(connection, made, succeeds, actor)
    return made


def adopt_authority(  # noqa: PLR0913 - as for `create_authority`
    store: Store,
    name: str,
    signer: Signer,
    certificate: Certificate,
    chain: Iterable[Certificate] = (),
    *,
    url: str | None = None,
    partitions: int = 1,
    key_uri: str | None = None,
    actor: str | None = None,
) -> Authority:
    """Make a CA of a certificate that a CA elsewhere has issued.

    Args:
        store: The database.
        name: What it shall be called: small letters, digits and hyphens.
        signer: Its key.
        certificate: Its certificate.
        chain: The certificates above it, in any order.
        url: Below which it will serve CRLs, OCSP and its certificate; or None.
        partitions: Over how many CRLs its certificates are spread.
        key_uri: Where its key is (RFC 7512), without any PIN.
        actor: Who makes it; None for the user of this process.

    Raises:
        UsageError: There is one of that name; the certificate is not of that key, not of a CA that makes
            CRLs, or not valid now; or `chain` has others than the certificates above it.
        UnsupportedError: The key is too weak.
        PolicyError: The key is compromised.
        FileError: The database fails.
    """
    _check_settings(name, url, partitions)
    require_strong_key(certificate.public_key)
    require_ca_certificate(signer, certificate)
    made = Authority(name, certificate, ordered_chain(certificate, chain), key_uri, url, partitions, store)
    with store.writing() as connection:
        _require_free(connection, name, url, signer, None)
        _record(connection, made, None, actor)
    return made


def require_ca_certificate(signer: Signer, certificate: Certificate) -> None:
    """Refuse a certificate with which a key cannot be that of a CA now.

    Raises:
        UsageError: It is not of that key, not of a CA that makes CRLs, or not valid now.
    """
    require_authority(signer, certificate, datetime.now(UTC))
    if certificate.key_usage is not None and "crl_sign" not in certificate.key_usage:
        raise UsageError(f"the certificate of {certificate.subject} does not allow its key to sign CRLs")


def ordered_chain(certificate: Certificate, above: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """The certificates above one, its issuer first, each verified with the key of the next.

    Raises:
        UsageError: One of `above` is not above the certificate.
    """
    waiting = dict.fromkeys(one for one in above if one != certificate)
    ordered: list[Certificate] = []
    lowest = certificate
    while issuer := next((one for one in waiting if _has_issued(one, lowest)), None):
        del waiting[issuer]
        ordered.append(issuer)
        lowest = issuer
    if waiting:
        raise UsageError(
            f"the certificate of {next(iter(waiting)).subject} is not above that of {certificate.subject}",
            hint="name the certificates between it and its root, each of which issued the one before",
        )
    return tuple(ordered)


def root_certificate(
    signer: Signer,
    subject: str | x509.Name,
    profile: Profile,
    days: int | None,
    key_identifier: x509.SubjectKeyIdentifier | None = None,
) -> Certificate:
    """A self-signed certificate.

    Args:
        signer: The key.
        subject: The name; an `x509.Name` is kept octet by octet.
        profile: One for CAs.
        days: How long it is valid; None for what the profile says.
        key_identifier: The subjectKeyIdentifier; None for the usual one.

    Raises:
        UsageError, PolicyError, UnsupportedError, SigningError, TokenError: As for `create_authority`.
    """
    check_key(profile, signer.public_key)
    check_days(profile, days)
    permitted = permitted_subject(profile, subject, ())
    name = subject if isinstance(subject, x509.Name) else permitted
    extensions = extensions_of(profile, signer.public_key, usage=None, emails=(), dns=(), nameless=False)
    not_before, not_after = validity(profile.days if days is None else days)
    if key_identifier is not None:
        extensions.append((key_identifier, False))
    builder = certificate_builder(signer.public_key, name, name, not_before, not_after, extensions)
    return sign_certificate(builder, signer, issuer=None)


def _check_settings(name: str, url: str | None, partitions: int) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a CA", hint="use small letters, digits and hyphens")
    if url is not None and not _URL.fullmatch(url):
        raise UsageError(
            f"{url!r} cannot be the URL of a CA",
            hint="write it like http://pki.acme.example/ca; https would ask for a CRL to fetch a CRL",
        )
    if not 1 <= partitions <= PARTITIONS_MAXIMUM:
        raise UsageError(f"a CA cannot have {partitions} partitions", hint=f"use 1 to {PARTITIONS_MAXIMUM}")


def _require_free(
    connection: Connection, name: str, url: str | None, signer: Signer, succeeds: Authority | None
) -> None:
    """Refuse a name, URL or key that another CA has, a compromised key, and to succeed a CA twice."""
    table = AUTHORITIES.c
    if connection.scalar(select(table.name).where(table.name == name)) is not None:
        raise UsageError(f"there is a CA {name} in the database already", hint="choose another name")
    require_uncompromised_key(connection, signer.public_key)
    for row in connection.execute(select(table.name, table.url, table.certificate)):
        if row.url is not None and row.url == url:
            raise UsageError(f"{url} is the URL of the CA {row.name} already", hint="choose another URL")
        if Certificate(row.certificate).public_key == signer.public_key:  # two CAs would number CRLs alike
            raise UsageError(
                f"the key is that of the CA {row.name} already",
                hint="make a new key; `tokensign ca renew-ca` is for a new certificate of the same key",
            )
    if succeeds is None:
        return
    query = select(table.successor).where(table.name == succeeds.name).with_for_update()
    if (successor := connection.scalar(query)) is not None:
        raise UsageError(f"the CA {succeeds.name} has the successor {successor} already")


def _subject(subject: str | None, succeeds: Authority | None) -> str | x509.Name:
    if subject is not None:
        return subject
    if succeeds is None:
        raise UsageError("a CA needs a name", hint="give --subject")
    return pyca_certificate(succeeds.certificate).subject


def _require_usable(issued: IssuedCertificate, signer: Signer, subject: x509.Name) -> None:
    """Refuse a certificate that another call got for a CA of that name, and that does not fit this one."""
    certificate = issued.certificate
    if issued.record.revoked_at is not None:
        raise UsageError(
            f"a CA of that name was certified before as {certificate.subject}, and that is revoked",
            hint="choose another name",
        )
    if pyca_certificate(certificate).subject != subject:
        raise UsageError(
            f"a CA of that name was certified before as {certificate.subject}",
            hint="give the same --subject, or choose another name",
        )
    require_authority(signer, certificate, datetime.now(UTC))


def _record(connection: Connection, made: Authority, succeeds: Authority | None, actor: str | None) -> None:
    connection.execute(
        insert(AUTHORITIES).values(
            name=made.name,
            certificate=made.certificate.der,
            chain="".join(one.pem() for one in made.chain),
            key_uri=made.key_uri,
            url=made.url,
            partitions=made.partitions,
            crl_number=0,
            created_at=datetime.now(UTC),
        )
    )
    if succeeds is not None:
        old = AUTHORITIES.c.name == succeeds.name
        connection.execute(update(AUTHORITIES).where(old).values(successor=made.name))
    details = {
        "ca": made.name,
        "subject": made.certificate.subject,
        "sha256": made.certificate.sha256.hex(),
        "succeeds": None if succeeds is None else succeeds.name,
    }
    record_change(connection, "CA created", details, actor=actor)


def _has_issued(issuer: Certificate, certificate: Certificate) -> bool:
    loaded = pyca_certificate(certificate)
    try:
        loaded.verify_directly_issued_by(pyca_certificate(issuer))
    except (ValueError, TypeError, InvalidSignature):  # another name, another kind of key, another key
        return False
    return True
