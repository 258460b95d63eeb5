"""Issuing: a serial number is reserved, the certificate is signed, recorded, and only then handed out.

The first and the third step are a transaction each; the second is the token's. A process that dies in
between has handed out nothing. Its serial number is abandoned later, and counts as revoked, because a
signature may exist.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from sqlalchemy import insert, select, update

from tokensign.audit.changes import record_change
from tokensign.authority.compromised_keys import key_sha256, require_uncompromised_key
from tokensign.authority.drafting import Wanted, draft_certificate, partition_of, sign_draft
from tokensign.authority.records import CertificateRecord, State, find, lock_authority, serial_text
from tokensign.authority.requests import read_request
from tokensign.errors import FileError, PolicyError, UsageError
from tokensign.pki.certificate_builder import random_serial
from tokensign.store.tables import ISSUED_CERTIFICATES

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

    from tokensign.authority.authority import Authority
    from tokensign.authority.drafting import Draft
    from tokensign.authority.profiles import Profile
    from tokensign.certificates import Certificate
    from tokensign.keys import Signer

__all__ = [
    "RESERVED_SECONDS",
    "IssuedCertificate",
    "abandon_overdue",
    "issue",
    "renew",
]

RESERVED_SECONDS: Final = 600  # that a signature may take; a token takes seconds, a slow person a minute


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate that is recorded.

    Attributes:
        certificate: The certificate.
        chain: Those above it, its issuer first.
        record: What the database has of it.
    """

    certificate: Certificate
    chain: tuple[Certificate, ...]
    record: CertificateRecord


def issue(authority: Authority, signer: Signer, wanted: Wanted) -> IssuedCertificate:
    """Issue a certificate.

    Where the request of a registration authority has its certificate already, that one is returned. Where
    another process is issuing it, or died over it, that attempt is abandoned and will hand out nothing.

    Args:
        authority: The CA.
        signer: Its key.
        wanted: What is asked for.

    Raises:
        UsageError: The key is not the CA's, the CA has a successor, its certificate expired, a name or the
            days cannot be meant, or the request has a certificate of another CA.
        PolicyError: The profile does not allow it, or the key is compromised.
        MalformedError, UnsupportedError, BadSignatureError: The request cannot be used.
        SigningError: The signature does not hold.
        TokenError: The token failed.
        FileError: The database fails, or another process took the request over.
    """
    draft = draft_certificate(authority, signer, wanted)
    serial = random_serial()
    with authority.store.writing() as connection:
        crl_number = lock_authority(connection, authority.name)
        require_uncompromised_key(connection, draft.public_key)  # again, now that nobody revokes meanwhile
        if wanted.request_id is not None:
            row = connection.execute(
                select(ISSUED_CERTIFICATES).where(
                    ISSUED_CERTIFICATES.c.request_id == wanted.request_id,
                    ISSUED_CERTIFICATES.c.state == State.ISSUED,
                )
            ).one_or_none()
            if row is not None and row.authority != authority.name:
                raise UsageError(f"the request has a certificate of the CA {row.authority} already")
            if row is not None:
                return _handed_out(authority, CertificateRecord.of(row))
            of_request = ISSUED_CERTIFICATES.c.request_id == wanted.request_id
            _abandon(connection, authority, crl_number, of_request, actor=wanted.actor)
        _reserve(connection, authority, wanted, draft, serial)
    try:
        certificate = sign_draft(authority, signer, draft, serial)
    except BaseException:
        with contextlib.suppress(FileError), authority.store.writing() as connection:
            crl_number = lock_authority(connection, authority.name)
            this_one = ISSUED_CERTIFICATES.c.serial == serial_text(serial)
            _abandon(connection, authority, crl_number, this_one, actor=wanted.actor)
        raise
    _record(authority, wanted, certificate)
    return _handed_out(authority, find(authority.store, authority.name, serial))


def renew(
    authority: Authority,
    signer: Signer,
    serial: int,
    profile: Profile,
    *,
    request: bytes | None = None,
    days: int | None = None,
    actor: str | None = None,
) -> IssuedCertificate:
    """Issue a certificate with the names of an older one, for the same key (renewal) or another (re-key).

    Args:
        authority: The CA.
        signer: Its key.
        serial: The serial number of the older certificate, which stays as it is.
        profile: That of the older certificate, as it is today.
        request: A certification request of the new key, of which only the key is taken; None keeps the key.
        days: How long the certificate is valid; None for what the profile says.
        actor: Who issues it; None for the user of this process.

    Raises:
        UsageError: There is no such certificate; it is revoked, or not issued yet.
        PolicyError: The profile is another one, or no longer allows what the older certificate has.
        MalformedError, UnsupportedError, BadSignatureError: The request cannot be used.
        SigningError, TokenError, FileError: As for `issue`.
    """
    older = find(authority.store, authority.name, serial)
    if older.certificate is None or older.revoked_at is not None:
        raise UsageError(f"the certificate {serial_text(serial)} is revoked, and is not renewed")
    if older.profile != profile.name:
        raise PolicyError(f"the certificate {serial_text(serial)} has the profile {older.profile}")
    loaded = x509.load_der_x509_certificate(older.certificate.der)
    wanted = Wanted(
        request=older.certificate.public_key if request is None else read_request(request).public_key,
        profile=profile,
        subject=loaded.subject,
        key_identifier=_key_identifier(older.certificate) if request is None else None,
        emails=older.emails,
        dns=_host_names(loaded),
        days=days,
        replaces=serial,
        actor=actor,
    )
    return issue(authority, signer, wanted)


def abandon_overdue(authority: Authority) -> int:
    """Give up the serial numbers of processes that must be dead by now.

    Returns:
        How many there were.

    Raises:
        FileError: The database fails.
    """
    overdue = ISSUED_CERTIFICATES.c.reserved_at < datetime.now(UTC) - timedelta(seconds=RESERVED_SECONDS)
    waiting = select(ISSUED_CERTIFICATES.c.serial).where(
        ISSUED_CERTIFICATES.c.authority == authority.name,
        ISSUED_CERTIFICATES.c.state == State.RESERVED,
        overdue,
    )
    with authority.store.reading() as connection:
        if connection.execute(waiting.limit(1)).one_or_none() is None:
            return 0
    with authority.store.writing() as connection:
        return _abandon(connection, authority, lock_authority(connection, authority.name), overdue)


def _reserve(connection: Connection, authority: Authority, wanted: Wanted, draft: Draft, serial: int) -> None:
    connection.execute(
        insert(ISSUED_CERTIFICATES).values(
            authority=authority.name,
            serial=serial_text(serial),
            state=State.RESERVED,
            profile=wanted.profile.name,
            subject=draft.subject.rfc4514_string(),
            emails=" ".join(draft.emails),
            key_sha256=key_sha256(draft.public_key),
            not_before=draft.not_before,
            not_after=draft.not_after,
            partition=partition_of(authority, serial),
            request_id=wanted.request_id,
            replaces=None if wanted.replaces is None else serial_text(wanted.replaces),
            reserved_at=datetime.now(UTC),
            held=False,
        )
    )


def _record(authority: Authority, wanted: Wanted, certificate: Certificate) -> None:
    serial = serial_text(certificate.serial_number)
    table = ISSUED_CERTIFICATES.c
    with authority.store.writing() as connection:
        lock_authority(connection, authority.name)
        done = connection.execute(
            update(ISSUED_CERTIFICATES)
            .where(table.authority == authority.name, table.serial == serial, table.state == State.RESERVED)
            .values(state=State.ISSUED, der=certificate.der, issued_at=datetime.now(UTC))
        )
        if done.rowcount != 1:
            raise FileError(
                "the certificate was not recorded: another process has given this attempt up",
                hint="it was not handed out; issue it again",
            )
        details = {
            "ca": authority.name,
            "serial": serial,
            "profile": wanted.profile.name,
            "subject": certificate.subject,
            "emails": " ".join(certificate.emails),
            "sha256": certificate.sha256.hex(),
            "request": wanted.request_id,
        }
        record_change(connection, "certificate issued", details, actor=wanted.actor)


def _abandon(
    connection: Connection,
    authority: Authority,
    crl_number: int,
    which: ColumnElement[bool],
    *,
    actor: str | None = None,
) -> int:
    """Give up reservations: their serial numbers count as revoked from now on."""
    table = ISSUED_CERTIFICATES.c
    serials = connection.scalars(
        update(ISSUED_CERTIFICATES)
        .where(table.authority == authority.name, table.state == State.RESERVED, which)
        .values(state=State.ABANDONED, revoked_at=datetime.now(UTC), changed_crl_number=crl_number)
        .returning(table.serial)
    ).all()
    for serial in serials:
        record_change(connection, "serial abandoned", {"ca": authority.name, "serial": serial}, actor=actor)
    return len(serials)


def _handed_out(authority: Authority, found: CertificateRecord) -> IssuedCertificate:
    if found.certificate is None:
        raise FileError(f"the certificate {serial_text(found.serial)} is not recorded")
    return IssuedCertificate(found.certificate, (authority.certificate, *authority.chain), found)


def _key_identifier(certificate: Certificate) -> x509.SubjectKeyIdentifier | None:
    found = certificate.subject_key_identifier
    return None if found is None else x509.SubjectKeyIdentifier(found)


def _host_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))
