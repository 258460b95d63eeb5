"""What the journal does in a transaction: record intents and outcomes, and clear up after the dead.

The audit tree is locked first, so that all processes of the service come here one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, delete, insert, select, tuple_, update

from tokensign.audit.log import AuditAppender
from tokensign.errors import ConflictError, FileError, MismatchError
from tokensign.service.journal_entries import Begun, Replay, outcome_leaf
from tokensign.service.processes import LEASE_SECONDS, Lease, database_time
from tokensign.store.service_tables import OPERATIONS, SERVICE_PROCESSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Row

    from tokensign.errors import TokensignError
    from tokensign.service.journal_entries import IdempotencyKey, Intent, Outcome
    from tokensign.store import Store

__all__ = ["REMEMBERED", "JournalRecords"]

REMEMBERED: Final = timedelta(hours=24)
"""How long an Idempotency-Key counts; clients retry for minutes."""
_CLEARED_AT_ONCE: Final = 1000  # rows, so that no transaction is long
_COLUMNS: Final = OPERATIONS.c
_THIS: Final = _COLUMNS.intent == bindparam("number")
_INSERT: Final = insert(OPERATIONS)
_DROP: Final = delete(OPERATIONS).where(_THIS)
_KEEP: Final = (
    update(OPERATIONS)
    .where(_THIS)
    .values(state=bindparam("new_state"), status=bindparam("new_status"), answer=bindparam("new_answer"))
)


@dataclass(slots=True)
class _Reserved:
    """A row with an Idempotency-Key, as it is or will be in the database."""

    intent: int
    body_hash: bytes
    state: str
    status: int | None = None
    answer: bytes | None = None


class JournalRecords:
    """The journal of one process, for one thread.

    Args:
        store: The database.
        lease_seconds: After which others take this process for dead.
    """

    def __init__(self, store: Store, lease_seconds: float = LEASE_SECONDS) -> None:
        self._store = store
        self._lease = Lease(lease_seconds)
        self._running: dict[int, IdempotencyKey | None] = {}

    @property
    def running(self) -> int:
        """How many operations have begun here and are not finished."""
        return len(self._running)

    def record(
        self, intents: Sequence[Intent], outcomes: Sequence[Outcome]
    ) -> tuple[list[Begun | Replay | TokensignError], list[TokensignError | None]]:
        """Record all that, in one transaction.

        Returns:
            For each intent, that it has begun, or the answer or error instead; for each outcome, None or the
            error for which it must not be released.

        Raises:
            FileError: The database fails, and nothing of it may go on.
        """
        lost: set[int] = set()
        first: dict[int, Outcome] = {}
        for one in outcomes:
            first.setdefault(one.begun.id, one)  # a second outcome of an operation is none
        try:
            with self._store.writing() as connection:
                appender = AuditAppender(connection)
                if not self._lease.is_held(connection):
                    lost = set(self._running)
                    self._lease.take(connection)
                finished = [
                    one for number, one in first.items() if number in self._running and number not in lost
                ]
                self._finish(connection, appender, finished)
                begun = self._begin(connection, appender, intents)
                appender.flush()
        finally:  # also where nobody knows whether it was committed: `keep_up` finds what nobody runs
            for number in lost.union(first):
                self._running.pop(number, None)
        for intent, result in zip(intents, begun, strict=True):
            if isinstance(result, Begun):
                self._running[result.id] = intent.reservation
        recorded = set(map(id, finished))
        return begun, [None if id(one) in recorded else _lost() for one in outcomes]

    def keep_up(self) -> None:
        """Renew the lease, and record what dead processes left behind. Every few seconds.

        Raises:
            FileError: The database fails.
        """
        with self._store.writing() as connection:
            appender = AuditAppender(connection)
            if not self._lease.is_held(connection):
                self._running.clear()
                self._lease.take(connection)
            self._lease.renew(connection)
            for row, reason in self._orphans(connection):
                appender.append(outcome_leaf(row.intent, {"result": "unknown", "reason": reason}))
                self._end(connection, row)
            appender.flush()

    def forget(self) -> bool:
        """Delete some of the rows whose Idempotency-Keys do not count any more.

        Returns:
            Whether there may be more.

        Raises:
            FileError: The database fails.
        """
        with self._store.writing() as connection:
            old = (
                select(_COLUMNS.intent)
                .where(_COLUMNS.state != "begun", _COLUMNS.begun_at < database_time(connection) - REMEMBERED)
                .limit(_CLEARED_AT_ONCE)
            )
            deleted = connection.execute(delete(OPERATIONS).where(_COLUMNS.intent.in_(old)))
            return deleted.rowcount == _CLEARED_AT_ONCE

    def close(self) -> None:
        """End the lease; whatever still runs here is taken for dead.

        Raises:
            FileError: The database fails.
        """
        with self._store.writing() as connection:
            self._lease.give_up(connection)

    def _finish(self, connection: Connection, appender: AuditAppender, outcomes: Iterable[Outcome]) -> None:
        done: list[dict[str, object]] = []
        kept: list[dict[str, object]] = []
        for one in outcomes:
            appender.append(one.leaf)
            if self._running[one.begun.id] is None:
                done.append({"number": one.begun.id})
            else:
                state = "failed" if one.answer is None else "finished"
                kept.append(
                    {
                        "number": one.begun.id,
                        "new_state": state,
                        "new_status": one.status,
                        "new_answer": one.answer,
                    }
                )
        if done:
            connection.execute(_DROP, done)
        if kept:
            connection.execute(_KEEP, kept)

    def _begin(
        self, connection: Connection, appender: AuditAppender, intents: Sequence[Intent]
    ) -> list[Begun | Replay | TokensignError]:
        now = database_time(connection)
        reserved = self._reserved(connection, [one.reservation for one in intents if one.reservation], now)
        results: list[Begun | Replay | TokensignError] = []
        replaced: list[int] = []
        rows: list[dict[str, object]] = []
        for one in intents:
            earlier = reserved.get(one.reservation) if one.reservation else None
            if earlier is not None:
                decided = _decide(earlier, one)
                if decided is not None:
                    results.append(decided)
                    continue
                replaced.append(earlier.intent)
            number = appender.append(one.leaf)
            if one.reservation:
                reserved[one.reservation] = _Reserved(number, one.body_hash, "begun")
            rows.append(
                {
                    "intent": number,
                    "process": self._lease.process,
                    "principal": one.principal,
                    "idempotency_key": one.idempotency_key,
                    "body_sha256": one.body_hash if one.reservation else None,
                    "state": "begun",
                    "begun_at": now,
                }
            )
            results.append(Begun(number))
        if replaced:
            connection.execute(delete(OPERATIONS).where(_COLUMNS.intent.in_(replaced)))
        if rows:
            connection.execute(_INSERT, rows)
        return results

    @staticmethod
    def _reserved(
        connection: Connection, keys: Sequence[IdempotencyKey], now: datetime
    ) -> dict[IdempotencyKey, _Reserved]:
        if not keys:
            return {}
        pair = tuple_(_COLUMNS.principal, _COLUMNS.idempotency_key)
        found = connection.execute(select(OPERATIONS).where(pair.in_(keys)))
        return {
            (row.principal, row.idempotency_key): _Reserved(
                row.intent, row.body_sha256, _state(row, now), row.status, row.answer
            )
            for row in found
        }

    def _orphans(self, connection: Connection) -> list[tuple[Row[Any], str]]:
        """Operations that nobody runs any more, each with the reason."""
        begun = select(OPERATIONS).where(_COLUMNS.state == "begun").order_by(_COLUMNS.intent)
        begun = begun.limit(_CLEARED_AT_ONCE)
        living = select(SERVICE_PROCESSES.c.id)
        dead = connection.execute(begun.where(_COLUMNS.process.not_in(living))).all()
        own = connection.execute(begun.where(_COLUMNS.process == self._lease.process)).all()
        stray = [row for row in own if row.intent not in self._running]
        return [(row, "process died") for row in dead] + [(row, "could not be recorded") for row in stray]

    @staticmethod
    def _end(connection: Connection, row: Row[Any]) -> None:
        this = _COLUMNS.intent == row.intent
        if row.idempotency_key is None:
            connection.execute(delete(OPERATIONS).where(this))
        else:
            connection.execute(update(OPERATIONS).where(this).values(state="failed"))


def _state(row: Row[Any], now: datetime) -> str:
    """What is too old does not count, whether it was forgotten already or not."""
    return "old" if row.state != "begun" and row.begun_at < now - REMEMBERED else str(row.state)


def _decide(earlier: _Reserved, intent: Intent) -> Replay | TokensignError | None:
    """What becomes of a request whose Idempotency-Key was used before; None: it is run."""
    if earlier.state == "old":
        return None
    if earlier.body_hash != intent.body_hash:
        return MismatchError(
            "this Idempotency-Key came with another request before", hint="make a new key for each request"
        )
    match earlier.state:
        case "begun":
            return ConflictError(
                "the request with this Idempotency-Key is still running", hint="ask again in some seconds"
            )
        case "finished":
            return Replay(earlier.status or 200, earlier.answer or b"")
        case _:
            return None


def _lost() -> FileError:
    return FileError(
        "the operation was over, or was taken for dead, before this outcome was recorded",
        hint="see why this process was slow; the same request may be sent again",
    )
