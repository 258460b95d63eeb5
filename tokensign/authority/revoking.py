"""Revoking, hold and release (RFC 5280 section 5.3.1): each in the database and its audit log at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from tokensign.audit.changes import record_change
from tokensign.authority.records import CertificateRecord, Reason, State, lock_authority, row_of, serial_text
from tokensign.errors import UsageError
from tokensign.store.tables import ISSUED_CERTIFICATES

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tokensign.authority.authority import Authority

__all__ = ["release", "revoke"]


def revoke(
    authority: Authority, serial: int, reason: Reason, at: datetime | None = None, *, actor: str | None = None
) -> CertificateRecord:
    """Revoke a certificate; for the reason certificateHold, until it is released or revoked for good.

    Args:
        authority: The CA that issued it.
        serial: Its serial number.
        reason: Why.
        at: Since when; None for now, or for a certificate on hold since it is on hold.
        actor: Who revokes it; None for the user of this process.

    Returns:
        What is known of it now.

    Raises:
        UsageError: There is no such certificate, it is revoked already, or the time cannot be meant.
        FileError: The database fails.
    """
    with authority.store.writing() as connection:
        lock_authority(connection, authority.name)
        found = CertificateRecord.of(row_of(connection, authority.name, serial))
        now = datetime.now(UTC)
        since = at or (found.revoked_at if found.held else None) or now
        _check_revocable(found, reason)
        # Only a time that somebody named: a clock that was set back must not keep anybody from revoking.
        if at is not None and not found.not_before <= at <= now:
            raise UsageError(
                f"the certificate {serial_text(serial)} cannot be revoked since {at:%Y-%m-%d %H:%M:%S %Z}",
                hint=f"name a time from {found.not_before:%Y-%m-%d %H:%M:%S} to now, or leave it out",
            )
        values: dict[str, Any] = {
            "revoked_at": since,
            "reason": None if reason is Reason.UNSPECIFIED else reason.value,
            "held": reason is Reason.CERTIFICATE_HOLD,
        }
        changed = _change(connection, authority, serial, values)
        details = {
            "ca": authority.name,
            "serial": serial_text(serial),
            "reason": reason.value,
            "since": since.isoformat(),
        }
        record_change(connection, "certificate revoked", details, actor=actor)
    return changed


def release(authority: Authority, serial: int, *, actor: str | None = None) -> CertificateRecord:
    """Take a certificate from hold; it is good again.

    Args:
        authority: The CA that issued it.
        serial: Its serial number.
        actor: Who releases it; None for the user of this process.

    Returns:
        What is known of it now.

    Raises:
        UsageError: There is no such certificate, or it is not on hold.
        FileError: The database fails.
    """
    with authority.store.writing() as connection:
        lock_authority(connection, authority.name)
        found = CertificateRecord.of(row_of(connection, authority.name, serial))
        if not found.held:
            raise UsageError(
                f"the certificate {serial_text(serial)} is not on hold",
                hint="only a certificate that was revoked for certificateHold is released",
            )
        changed = _change(connection, authority, serial, {"revoked_at": None, "reason": None, "held": False})
        details = {"ca": authority.name, "serial": serial_text(serial)}
        record_change(connection, "certificate released", details, actor=actor)
    return changed


def _check_revocable(found: CertificateRecord, reason: Reason) -> None:
    name = serial_text(found.serial)
    if found.state is State.RESERVED:
        raise UsageError(f"the certificate {name} is not issued yet", hint="wait until it is")
    if found.held and reason is Reason.CERTIFICATE_HOLD:
        raise UsageError(f"the certificate {name} is on hold already")
    if found.revoked_at is not None and not found.held:
        raise UsageError(f"the certificate {name} is revoked already, since {found.revoked_at:%Y-%m-%d}")


def _change(
    connection: Connection, authority: Authority, serial: int, values: dict[str, Any]
) -> CertificateRecord:
    """Change the status of a certificate, so that delta CRLs show it from now on."""
    crl_number = lock_authority(connection, authority.name)
    table = ISSUED_CERTIFICATES.c
    connection.execute(
        update(ISSUED_CERTIFICATES)
        .where(table.authority == authority.name, table.serial == serial_text(serial))
        .values(**values, changed_crl_number=crl_number)
    )
    return CertificateRecord.of(row_of(connection, authority.name, serial))
