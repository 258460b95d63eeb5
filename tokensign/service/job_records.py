"""Jobs in the database: the digests of each, which of them wait, and who works on it.

A worker has a job for some seconds, which each batch prolongs. One that died has it no longer after that,
and another goes on where it was. What a worker signed counts only while it has the job, so each item is done
once. The end of a job is in the audit log, and what was not signed by then has the problem that ended it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update

from tokensign.audit.changes import record_change
from tokensign.errors import LaneBusyError
from tokensign.service.processes import database_time
from tokensign.store.service_tables import JOB_ITEMS, JOBS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection

    from tokensign.store import Store

__all__ = ["KEPT", "WAITING_MAXIMUM", "Job", "JobItem", "JobRecords", "JobState"]

WAITING_MAXIMUM: Final = 100
"""Jobs of a principal that wait at once, of at most 20,000 digests each: they fill the database, and those of
others wait behind them."""
KEPT: Final = timedelta(days=30)
"""How long a job that has ended can be asked for; the audit log has what became of it for ever."""
JobState = Literal["waiting", "done", "failed"]
_HOLD: Final = timedelta(seconds=30)  # longer than a batch may take in a lane, with its records
_WAITS: Final = and_(JOB_ITEMS.c.signature.is_(None), JOB_ITEMS.c.reason.is_(None))


@dataclass(frozen=True, slots=True)
class Job:
    """A job.

    Attributes:
        id: Names it.
        principal: Who asked for it.
        principal_kind: By what that was known.
        key: The id of the key.
        lane: That of the key.
        scheme: The scheme, by name.
        form: "raw" or "cms".
        items: How many digests it has.
        state: "waiting" until all is done.
        reason: The name of the problem that ended it, or None.
        created_at: When it was asked for.
        finished_at: When it was done or failed, or None.
    """

    id: str
    principal: str
    principal_kind: str
    key: str
    lane: str
    scheme: str
    form: str
    items: int
    state: JobState
    reason: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class JobItem:
    """One digest of a job.

    Attributes:
        position: From 0, in the order of the request.
        digest: The hash value.
        signature: The signature, or the message with it, or None.
        reason: Why there will be none, or None.
    """

    position: int
    digest: bytes
    signature: bytes | None = None
    reason: str | None = None


_OF_JOB: Final = [JOBS.c[name] for name in Job.__slots__]


class JobRecords:
    """The jobs of a database, for one process.

    Args:
        store: The database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._worker = secrets.token_hex(16)

    def add(
        self,
        terms: Mapping[str, Any],
        digests: Sequence[bytes],
        defer: Callable[[Connection, Job], None],
    ) -> Job:
        """Record a new job.

        Args:
            terms: The fields of `Job` from `id` to `form`.
            digests: In their order.
            defer: Lets it be worked on, in the same transaction.

        Raises:
            LaneBusyError: Too many jobs of the principal wait already.
            FileError: The database fails.
        """
        with self._store.writing() as connection:
            _require_room(connection, terms["principal"])
            row = {
                **terms,
                "items": len(digests),
                "state": "waiting",
                "reason": None,
                "created_at": database_time(connection),
                "finished_at": None,
            }
            connection.execute(insert(JOBS), row)
            connection.execute(
                insert(JOB_ITEMS),
                [{"job": row["id"], "position": i, "digest": one} for i, one in enumerate(digests)],
            )
            job = Job(**row)
            defer(connection, job)
        return job

    def find(self, job_id: str) -> tuple[Job, dict[str, int]] | None:
        """A job, and how many of its items are signed and how many failed; None where there is none.

        Raises:
            FileError: The database fails.
        """
        with self._store.reading() as connection:
            row = connection.execute(select(*_OF_JOB).where(JOBS.c.id == job_id)).one_or_none()
            if row is None:
                return None
            counts = select(func.count(JOB_ITEMS.c.signature), func.count(JOB_ITEMS.c.reason))
            signed, failed = connection.execute(counts.where(JOB_ITEMS.c.job == job_id)).one()
        return Job(**row._mapping), {"signed": signed, "failed": failed}  # noqa: SLF001 - SQLAlchemy's way

    def items(self, job_id: str, start: int, count: int) -> list[JobItem]:
        """Some items of a job, from a position on.

        Raises:
            FileError: The database fails.
        """
        with self._store.reading() as connection:
            return _items(connection, job_id, JOB_ITEMS.c.position >= start, count)

    def take(self, lane: str) -> Job | None:
        """The oldest job of a lane that waits and that nobody works on; this process has it then.

        Raises:
            FileError: The database fails.
        """
        return self._take(JOBS.c.lane == lane)

    def take_one(self, job_id: str) -> Job | None:
        """A certain job, if it waits and nobody works on it; this process has it then.

        Raises:
            FileError: The database fails.
        """
        return self._take(JOBS.c.id == job_id)

    def is_waiting(self, job_id: str) -> bool:
        """Whether there is still something to do for a job.

        Raises:
            FileError: The database fails.
        """
        with self._store.reading() as connection:
            return connection.execute(select(JOBS.c.state).where(JOBS.c.id == job_id)).scalar() == "waiting"

    def is_held(self, job_id: str) -> bool:
        """Whether somebody works on a job.

        Raises:
            FileError: The database fails.
        """
        with self._store.reading() as connection:
            held = JOBS.c.worker_until >= database_time(connection)
            return connection.scalar(select(JOBS.c.id).where(JOBS.c.id == job_id, held)) is not None

    def _take(self, which: ColumnElement[bool]) -> Job | None:
        with self._store.writing() as connection:
            now = database_time(connection)
            free = or_(JOBS.c.worker_until.is_(None), JOBS.c.worker_until < now)
            oldest = (
                select(JOBS.c.id)
                .where(which, JOBS.c.state == "waiting", free)
                .order_by(JOBS.c.created_at)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            row = connection.execute(
                update(JOBS)
                .where(JOBS.c.id == oldest.scalar_subquery())
                .values(worker=self._worker, worker_until=now + _HOLD)
                .returning(*_OF_JOB)
            ).one_or_none()
        return None if row is None else Job(**row._mapping)  # noqa: SLF001 - as above

    def waiting(self, job: Job, count: int) -> list[JobItem]:
        """The next items that wait.

        Raises:
            FileError: The database fails.
        """
        with self._store.reading() as connection:
            return _items(connection, job.id, _WAITS, count)

    def put(self, job: Job, results: Sequence[JobItem]) -> bool:
        """Record what came of some items, and have the job for longer.

        Returns:
            Whether this process had the job still. If not, nothing is recorded.

        Raises:
            FileError: The database fails.
        """
        rows = [{"at": one.position, "signed": one.signature, "why": one.reason} for one in results]
        with self._store.writing() as connection:
            if not self._hold(connection, job, worker_until=database_time(connection) + _HOLD):
                return False
            if rows:
                connection.execute(
                    update(JOB_ITEMS)
                    .where(JOB_ITEMS.c.job == job.id, JOB_ITEMS.c.position == bindparam("at"), _WAITS)
                    .values(signature=bindparam("signed"), reason=bindparam("why")),
                    rows,
                )
        return True

    def leave(self, job: Job) -> None:
        """Let others have the job.

        Raises:
            FileError: The database fails.
        """
        with self._store.writing() as connection:
            self._hold(connection, job, worker=None, worker_until=None)

    def finish(self, job: Job, problem: str | None = None) -> None:
        """Record that a job has ended, if this process has it still.

        Args:
            job: The job.
            problem: The name of the problem that ended it, which all have that were not signed; None: all is
                done.

        Raises:
            FileError: The database fails.
        """
        with self._store.writing() as connection:
            if self._hold(connection, job, worker_until=None):
                _end(connection, job, problem)

    def end_overdue(self, hours: float, problem: str) -> Job | None:
        """End the oldest job that was asked for so long ago, whoever has it and on whichever lane it waits.

        Returns:
            The job, or None where there is none.

        Raises:
            FileError: The database fails.
        """
        with self._store.writing() as connection:
            latest = database_time(connection) - timedelta(hours=hours)
            overdue = select(*_OF_JOB).where(JOBS.c.state == "waiting", JOBS.c.created_at <= latest)
            oldest = overdue.order_by(JOBS.c.created_at).limit(1).with_for_update(skip_locked=True)
            row = connection.execute(oldest).one_or_none()
            if row is None:
                return None
            job = Job(**row._mapping)  # noqa: SLF001 - as above
            _end(connection, job, problem)
        return job

    def forget(self) -> bool:
        """Delete a job that ended so long ago that it is not kept any more, with its signatures.

        Returns:
            Whether there was one.

        Raises:
            FileError: The database fails.
        """
        with self._store.writing() as connection:
            ended = JOBS.c.finished_at <= database_time(connection) - KEPT
            old = connection.scalars(select(JOBS.c.id).where(ended).limit(1)).one_or_none()
            connection.execute(delete(JOB_ITEMS).where(JOB_ITEMS.c.job == old))
            connection.execute(delete(JOBS).where(JOBS.c.id == old))
        return old is not None

    def _hold(self, connection: Connection, job: Job, **values: Any) -> bool:  # noqa: ANN401 - columns
        """Change a job that this process has; whether it has it."""
        own = and_(JOBS.c.id == job.id, JOBS.c.worker == self._worker, JOBS.c.state == "waiting")
        return connection.execute(update(JOBS).where(own).values(**values)).rowcount == 1


def _require_room(connection: Connection, principal: str) -> None:
    waiting = select(func.count()).where(JOBS.c.principal == principal, JOBS.c.state == "waiting")
    if connection.execute(waiting).scalar_one() >= WAITING_MAXIMUM:
        raise LaneBusyError(
            f"{WAITING_MAXIMUM} jobs of {principal} wait already", hint="ask again when one of them is done"
        )


def _items(connection: Connection, job_id: str, which: Any, count: int) -> list[JobItem]:  # noqa: ANN401 - a condition
    columns = (JOB_ITEMS.c.position, JOB_ITEMS.c.digest, JOB_ITEMS.c.signature, JOB_ITEMS.c.reason)
    chosen = select(*columns).where(JOB_ITEMS.c.job == job_id, which)
    return [JobItem(*row) for row in connection.execute(chosen.order_by(JOB_ITEMS.c.position).limit(count))]


def _end(connection: Connection, job: Job, problem: str | None) -> None:
    """End a job that waits, with all that is still to be signed of it, and record that."""
    state: JobState = "done" if problem is None else "failed"
    ended = {"state": state, "reason": problem, "finished_at": database_time(connection)}
    connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(**ended, worker_until=None))
    left = update(JOB_ITEMS).where(JOB_ITEMS.c.job == job.id, _WAITS).values(reason=problem)
    unsigned = connection.execute(left).rowcount
    details = {
        "job": job.id,
        "principal": job.principal,
        "key": job.key,
        "result": problem or state,
        "items": job.items,
        "unsigned": unsigned,
    }
    record_change(connection, "job ended", details)
