"""Who is known and what they may do, as the database has it, in memory.

The tables are read again when the number of their version has changed, which is looked at when a request
comes and the last look is `STALENESS` ago. So a grant that is revoked opens nothing after that time; and
where the database cannot be asked, nobody is known and nothing is allowed.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select

from tokensign.errors import FileError
from tokensign.service.hours import Hours
from tokensign.service.processes import database_time
from tokensign.service.rates import Rate
from tokensign.store.service_tables import (
    API_KEYS,
    GRANTS,
    IDENTITIES,
    PERMISSIONS,
    RATE_LIMITS,
    SERVICE_PROCESSES,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from tokensign.store import Store

__all__ = ["STALENESS", "ApiKey", "Grant", "Permissions", "Snapshot", "read_snapshot"]

STALENESS: Final = 1.0
"""Seconds after which a change in the database counts."""
_READ_SECONDS: Final = 5.0
"""That a request waits for the database before it is told that there is none."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of an API key.

    Attributes:
        principal: Whose it is.
        sha256: The hash of its secret, 32 octets.
        operations: To which it is limited; None: to none, but what is granted.
        expires_at: When it ends.
    """

    principal: str
    sha256: bytes
    operations: frozenset[str] | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Grant:
    """Something that a principal may do.

    Attributes:
        id: Its number.
        key: The key's id (`LANE/LABEL`), `LANE/*` for all of a lane, or `*` for all.
        operations: Those of `tokensign.service.grants.OPERATIONS`.
        schemes: Names of schemes, or their families; empty: all.
        rate: How much of it, or None.
        not_before: From when on, or None.
        not_after: Until when, or None.
        hours: At which hours, or None.
    """

    id: int
    key: str
    operations: frozenset[str]
    schemes: frozenset[str]
    rate: Rate | None
    not_before: datetime | None
    not_after: datetime | None
    hours: Hours | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The permissions of one version.

    Attributes:
        version: Of the tables.
        identities: Principals by kind and value of what they are known by.
        api_keys: Those that were not revoked, by their ids.
        grants: Those that were not revoked, by principal.
        limits: Rates over all, by "principal" or "key" and the name.
    """

    version: int
    identities: Mapping[tuple[str, str], str] = field(default_factory=dict)
    api_keys: Mapping[str, ApiKey] = field(default_factory=dict)
    grants: Mapping[str, Sequence[Grant]] = field(default_factory=dict)
    limits: Mapping[tuple[str, str], Rate] = field(default_factory=dict)


class Permissions:
    """The snapshot that counts now, for one event loop.

    Args:
        store: The database.

    Attributes:
        snapshot: Everything, at most `STALENESS` old after `refresh`.
        processes: How many processes serve from the database; at least 1.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fresh_until = 0.0
        self._refreshing: asyncio.Task[None] | None = None
        self.snapshot = Snapshot(-1)
        self.processes = 1

    async def refresh(self) -> None:
        """Make sure that the snapshot is as fresh as is promised.

        Raises:
            FileError: The database fails.
        """
        if time.monotonic() < self._fresh_until:
            return
        if self._refreshing is None or self._refreshing.done():  # one look for all who wait
            self._refreshing = asyncio.create_task(self._refresh())
        try:
            async with asyncio.timeout(_READ_SECONDS):
                await asyncio.shield(self._refreshing)
        except TimeoutError as error:
            raise FileError("the database does not answer", hint="see whether it is there") from error

    async def _refresh(self) -> None:
        looked = time.monotonic()
        self.snapshot, self.processes = await asyncio.to_thread(self._look)
        self._fresh_until = looked + STALENESS

    def _look(self) -> tuple[Snapshot, int]:
        with self._store.reading() as connection:
            version = connection.execute(select(PERMISSIONS.c.version)).scalar_one()
            living = select(func.count()).where(SERVICE_PROCESSES.c.alive_until >= database_time(connection))
            processes = connection.execute(living).scalar_one()
            snapshot = self.snapshot if version == self.snapshot.version else read_snapshot(connection)
        return snapshot, max(processes, 1)


def read_snapshot(connection: Connection) -> Snapshot:
    """What the database has, in a transaction of `Store.reading`."""
    grants: defaultdict[str, list[Grant]] = defaultdict(list)
    for row in connection.execute(select(GRANTS).where(GRANTS.c.revoked_at.is_(None)).order_by(GRANTS.c.id)):
        grants[row.principal].append(
            Grant(
                row.id,
                row.key,
                frozenset(row.operations.split()),
                frozenset(row.schemes.split()),
                None if row.rate is None else Rate.parse(row.rate),
                row.not_before,
                row.not_after,
                None if row.hours is None else Hours.parse(row.hours),
            )
        )
    return Snapshot(
        version=connection.execute(select(PERMISSIONS.c.version)).scalar_one(),
        identities={(row.kind, row.value): row.principal for row in connection.execute(select(IDENTITIES))},
        api_keys={
            row.id: ApiKey(
                row.principal, row.sha256, frozenset(row.operations.split()) or None, row.expires_at
            )
            for row in connection.execute(select(API_KEYS).where(API_KEYS.c.revoked_at.is_(None)))
        },
        grants=grants,
        limits={
            (row.kind, row.name): Rate.parse(row.rate) for row in connection.execute(select(RATE_LIMITS))
        },
    )
