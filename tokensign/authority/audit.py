"""The audit log: what was done, by whom and when, in the transaction that did it.

Each entry has a hash over itself and the hash of the one before, so that whoever keeps the last hash
elsewhere sees whether something was changed or taken out since.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert, select, text

from tokensign.errors import MalformedError
from tokensign.store.tables import AUDIT_LOG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection, CursorResult

    from tokensign.store import Store

__all__ = ["AuditEntry", "audit_entries", "record", "this_person", "verify_audit_log"]

_BEGINNING: Final = bytes(32)  # stands for the hash before the first entry
_ROWS: Final = 500  # that are read at a time


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done.

    Attributes:
        number: Counted from 1, without gaps.
        at: When.
        actor: Who did it, as the system or the registration authority names people.
        action: What, such as "certificate issued".
        details: About what: names and values that JSON has.
        hash: SHA-256 over all that and the hash of the entry before, 32 octets.
    """

    number: int
    at: datetime
    actor: str
    action: str
    details: Mapping[str, Any]
    hash: bytes


def record(
    connection: Connection, action: str, details: Mapping[str, str | int | None], *, actor: str | None = None
) -> None:
    """Write an entry, in the transaction of what it tells of: both are there, or neither.

    Call it last in the transaction, because other processes wait for the end of the log until that ends.

    Args:
        connection: A transaction of `Store.writing`.
        action: What was done, in two or three words.
        details: About what. No PIN, key or one-time code belongs here.
        actor: Who did it; None for the user of this process.
    """
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
        connection.execute(text("LOCK TABLE audit_log IN EXCLUSIVE MODE"))
    last = connection.execute(
        select(AUDIT_LOG.c.number, AUDIT_LOG.c.hash).order_by(AUDIT_LOG.c.number.desc()).limit(1)
    ).one_or_none()
    number, before = (1, _BEGINNING) if last is None else (last.number + 1, last.hash)
    at, who = datetime.now(UTC), this_person() if actor is None else actor
    about = json.dumps(dict(details), sort_keys=True)
    connection.execute(
        insert(AUDIT_LOG).values(
            number=number,
            at=at,
            actor=who,
            action=action,
            details=about,
            hash=_hash(before, number, at, who, action, about),
        )
    )


def audit_entries(store: Store) -> Iterator[AuditEntry]:
    """All entries, the oldest first.

    Raises:
        FileError: The database fails.
    """
    with store.reading() as connection, _rows(connection) as rows:
        for row in rows:
            yield AuditEntry(row.number, row.at, row.actor, row.action, json.loads(row.details), row.hash)


def verify_audit_log(store: Store) -> bytes:
    """Check that no entry was changed, and that none is missing before the last one.

    Returns:
        The hash of the last entry. That entries at the end were taken away shows only beside a hash that was
        kept elsewhere.

    Raises:
        MalformedError: An entry was changed, or is missing; the message names the first.
        FileError: The database fails.
    """
    before, number = _BEGINNING, 0
    with store.reading() as connection, _rows(connection) as rows:
        for row in rows:
            number += 1
            if row.number != number or row.hash != _hash(
                before, row.number, row.at, row.actor, row.action, row.details
            ):
                raise MalformedError(
                    f"entry {number} of the audit log was changed or taken out",
                    hint="compare with a copy of the database; what follows cannot be relied on",
                )
            before = row.hash
    return before


def this_person() -> str:
    """The account of this process, as the system names it; the environment has no say."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # an account that the system has no name for
        return f"account {number}"


def _rows(connection: Connection) -> CursorResult[Any]:
    """All entries in their order, some at a time: a log may have millions."""
    return connection.execution_options(yield_per=_ROWS).execute(
        select(AUDIT_LOG).order_by(AUDIT_LOG.c.number)
    )


def _hash(before: bytes, number: int, at: datetime, actor: str, action: str, details: str) -> bytes:
    content = json.dumps([number, at.isoformat(), actor, action, details])
    return hashlib.sha256(before + content.encode("ascii")).digest()
