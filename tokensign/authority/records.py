"""What the database knows of a certificate that a CA issued, and of its status."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography.x509 import ReasonFlags
from sqlalchemy import select

from tokensign.certificates import Certificate
from tokensign.errors import UsageError
from tokensign.store.tables import AUTHORITIES, ISSUED_CERTIFICATES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sqlalchemy import Connection, Row

    from tokensign.store import Store

__all__ = [
    "CertificateRecord",
    "CertificateStatus",
    "Reason",
    "State",
    "Status",
    "certificates",
    "find",
    "lock_authority",
    "row_of",
    "serial_text",
    "status_of",
]

_ROWS: Final = 500  # that are read at a time; a CA may have issued a million certificates


class State(enum.StrEnum):
    """How far an issuance came."""

    RESERVED = "reserved"
    """The serial number is given out; the certificate is being signed."""
    ISSUED = "issued"
    """The certificate is recorded, and was handed out after that."""
    ABANDONED = "abandoned"
    """The process died, or the token failed. Nobody got a certificate; the serial counts as revoked."""


class Reason(enum.StrEnum):
    """Why a certificate is revoked (CRLReason, RFC 5280 section 5.3.1), in the names of the RFC."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    CA_COMPROMISE = "cACompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"
    AA_COMPROMISE = "aACompromise"

    @property
    def flag(self) -> ReasonFlags:
        """The reason as cryptography has it."""
        return ReasonFlags(self.value)


class Status(enum.Enum):
    """What a CA says of a serial number (CertStatus, RFC 6960 section 2.2)."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """The status of a serial number.

    Attributes:
        status: Good, revoked, or unknown: the CA issued no such certificate.
        revoked_at: Since when it is revoked, or None.
        reason: Why it is revoked; `Reason.UNSPECIFIED` where it is revoked and nothing was said; or None.
    """

    status: Status
    revoked_at: datetime | None = None
    reason: Reason | None = None


UNKNOWN: Final = CertificateStatus(Status.UNKNOWN)


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """A serial number of a CA, and what became of it.

    Attributes:
        serial: The serial number.
        state: How far its issuance came.
        profile: The name of the profile.
        subject: The subject's name (RFC 4514); empty where the addresses are all of it.
        emails: The addresses.
        key_sha256: SHA-256 of the SubjectPublicKeyInfo, 32 octets.
        not_before: The beginning of the validity.
        not_after: The end of the validity.
        partition: The number of the CRL that lists it when it is revoked.
        request_id: The request of the registration authority, or None.
        replaces: The serial number of the certificate that this one renews, or None.
        certificate: The certificate; None until it is recorded.
        revoked_at: Since when it is revoked, or None.
        reason: Why it is revoked, or None.
        held: Whether it is on hold, and may be released.
    """

    serial: int
    state: State
    profile: str
    subject: str
    emails: tuple[str, ...]
    key_sha256: bytes
    not_before: datetime
    not_after: datetime
    partition: int
    request_id: str | None
    replaces: int | None
    certificate: Certificate | None
    revoked_at: datetime | None
    reason: Reason | None
    held: bool

    @property
    def status(self) -> CertificateStatus:
        """What is said of it to others: a serial that is only reserved is not known yet."""
        return _status(self.state, self.revoked_at, self.reason)

    def is_expired(self, now: datetime | None = None) -> bool:
        """Whether its validity has ended."""
        return (now or datetime.now(UTC)) > self.not_after

    @classmethod
    def of(cls, row: Row[Any]) -> CertificateRecord:
        """Read a row of `ISSUED_CERTIFICATES`."""
        revoked = row.revoked_at is not None
        return cls(
            serial=int(row.serial, 16),
            state=State(row.state),
            profile=row.profile,
            subject=row.subject,
            emails=tuple(row.emails.split()),
            key_sha256=row.key_sha256,
            not_before=row.not_before,
            not_after=row.not_after,
            partition=row.partition,
            request_id=row.request_id,
            replaces=None if row.replaces is None else int(row.replaces, 16),
            certificate=None if row.der is None else Certificate(row.der),
            revoked_at=row.revoked_at,
            reason=Reason(row.reason or Reason.UNSPECIFIED) if revoked else None,
            held=row.held,
        )


def serial_text(serial: int) -> str:
    """A serial number as the database and the command line write it: hexadecimal, lower case."""
    return f"{serial:x}"


def find(store: Store, authority: str, serial: int) -> CertificateRecord:
    """What is known of a serial number; see `Authority.find`."""
    with store.reading() as connection:
        return CertificateRecord.of(row_of(connection, authority, serial))


def status_of(store: Store, authority: str, serial: int) -> CertificateStatus:
    """What is said of a serial number; see `Authority.status_of`."""
    table = ISSUED_CERTIFICATES.c
    query = select(table.state, table.revoked_at, table.reason).where(
        table.authority == authority, table.serial == serial_text(serial)
    )
    with store.reading() as connection:
        row = connection.execute(query).one_or_none()
    return UNKNOWN if row is None else _status(State(row.state), row.revoked_at, row.reason)


def certificates(
    store: Store, authority: str, *, expiring_before: datetime | None = None
) -> Iterator[CertificateRecord]:
    """All that a CA gave out; see `Authority.certificates`."""
    table = ISSUED_CERTIFICATES.c
    query = select(ISSUED_CERTIFICATES).where(table.authority == authority)
    if expiring_before is not None:
        query = query.where(
            table.state == State.ISSUED,
            table.revoked_at.is_(None),
            table.not_after >= datetime.now(UTC),
            table.not_after < expiring_before,
        )
    query = query.order_by(table.not_after, table.serial)
    with (
        store.reading() as connection,
        connection.execution_options(yield_per=_ROWS).execute(query) as rows,
    ):
        yield from map(CertificateRecord.of, rows)


def row_of(connection: Connection, authority: str, serial: int) -> Row[Any]:
    """The row of a serial number.

    Raises:
        UsageError: There is none.
    """
    table = ISSUED_CERTIFICATES.c
    row = connection.execute(
        select(ISSUED_CERTIFICATES).where(table.authority == authority, table.serial == serial_text(serial))
    ).one_or_none()
    if row is None:
        raise UsageError(
            f"the CA {authority} issued no certificate with the serial number {serial_text(serial)}",
            hint="see `tokensign ca list`",
        )
    return row


def lock_authority(connection: Connection, name: str) -> int:
    """Keep other processes from changing a CA's certificates until the transaction ends.

    Returns:
        The number of its last CRL.
    """
    table = AUTHORITIES.c
    query = select(table.crl_number).where(table.name == name).with_for_update()
    number: int = connection.execute(query).scalar_one()
    return number


def _status(state: State, revoked_at: datetime | None, reason: str | None) -> CertificateStatus:
    if revoked_at is not None:
        return CertificateStatus(Status.REVOKED, revoked_at, Reason(reason or Reason.UNSPECIFIED))
    return CertificateStatus(Status.GOOD) if state is State.ISSUED else UNKNOWN
