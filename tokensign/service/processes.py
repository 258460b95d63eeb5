"""Which processes of the service live: each has a lease, by the clock of the database.

What a process has begun and not finished when its lease ends, it never will: others then record that its
outcome is unknown. A process that only slept finds its lease taken away, and may finish nothing of before.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, delete, func, insert, select, update

from tokensign.store.service_tables import SERVICE_PROCESSES

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["LEASE_SECONDS", "Lease", "database_time"]

LEASE_SECONDS: Final = 10.0
"""Longer than a commit on a busy disk or the restart of a database; and a client waits no longer than that
for what a dead process had begun."""

_HELD: Final = select(SERVICE_PROCESSES.c.id).where(SERVICE_PROCESSES.c.id == bindparam("process"))


def database_time(connection: Connection) -> datetime:
    """The time that all processes of a database agree on."""
    if connection.dialect.name == "postgresql":
        now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return now.astimezone(UTC)
    return datetime.now(UTC)  # a database in a file has processes on one host only


class Lease:
    """The lease of this process.

    Args:
        seconds: How long it lasts after each `renew`.

    Attributes:
        process: The id under which this process has it now; it has a new one after the lease was lost.
    """

    def __init__(self, seconds: float = LEASE_SECONDS) -> None:
        self._length = timedelta(seconds=seconds)
        self.process = secrets.token_hex(16)

    def is_held(self, connection: Connection) -> bool:
        """Whether nobody took it away. Nobody does while a transaction has locked the audit tree."""
        return connection.execute(_HELD, {"process": self.process}).one_or_none() is not None

    def take(self, connection: Connection) -> None:
        """Begin anew, under a new id."""
        self.process = secrets.token_hex(16)
        alive_until = database_time(connection) + self._length
        connection.execute(insert(SERVICE_PROCESSES).values(id=self.process, alive_until=alive_until))

    def renew(self, connection: Connection) -> None:
        """Let it last from now on, and end those of the dead."""
        now = database_time(connection)
        own = SERVICE_PROCESSES.c.id == self.process
        connection.execute(update(SERVICE_PROCESSES).where(own).values(alive_until=now + self._length))
        connection.execute(delete(SERVICE_PROCESSES).where(SERVICE_PROCESSES.c.alive_until < now))

    def give_up(self, connection: Connection) -> None:
        """End it."""
        connection.execute(delete(SERVICE_PROCESSES).where(SERVICE_PROCESSES.c.id == self.process))
