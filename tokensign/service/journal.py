"""The journal: each use of a key is on record before it begins, and its outcome before it leaves.

Many requests share one transaction: while one is written to the disk, and for a moment after it, those that
come gather for the next. So a commit, which the disk makes slow, is paid once for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from tokensign.audit.leaves import encode_leaf, timestamp
from tokensign.errors import FileError, TokensignError, UsageError
from tokensign.service.journal_entries import Begun, Intent, Outcome, Replay, outcome_leaf
from tokensign.service.journal_records import JournalRecords
from tokensign.service.processes import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokensign.service.principals import Principal
    from tokensign.store import Store

__all__ = ["ANSWER_SIZE_MAXIMUM", "Begun", "Journal", "Replay"]

ANSWER_SIZE_MAXIMUM: Final = 1 << 20
"""Octets of an answer that is remembered: a hundred detached signatures with certificates have fewer."""
RECORD_SECONDS: Final = 10.0
"""That a request waits for its record: for a database that was started again, not for one that is gone."""
_TOGETHER: Final = 500  # in a transaction, so that none is long
_GATHER_SECONDS: Final = 0.00025
"""Between two transactions, for each operation that runs. A transaction costs half a millisecond of processor
time, whatever it holds: a service with much to do gains by larger ones, and one with little does not wait."""
_GATHER_MAXIMUM: Final = 0.005
"""Seconds: a tenth of the time that so many operations wait for their token anyway."""
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An intent or outcome that is to be recorded."""

    entry: Intent | Outcome
    recorded: asyncio.Future[Begun | Replay | None]
    give_up_at: float


class Journal:
    """The journal of this process, for one event loop.

    Args:
        store: The database.
        lease_seconds: After which other processes take this one for dead when it does not show itself.
    """

    def __init__(self, store: Store, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._records = JournalRecords(store, lease_seconds)
        self._waiting: deque[_Waiting] = deque()
        self._recording: list[_Waiting] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._interval = lease_seconds / 3  # two may fail before the lease ends
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")

    async def start(self) -> None:
        """Resolve what dead processes left behind, and begin to record.

        Raises:
            FileError: The database fails.
        """
        await self._in_thread(self._records.keep_up)
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._keep_up())]

    async def stop(self) -> None:
        """Record what waits, and end. What is not finished by then has an unknown outcome."""
        self._stopping = True
        self._wake.set()
        for task in self._tasks[1:]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._alarm is not None:
            self._alarm.cancel()
        with contextlib.suppress(FileError):  # then the lease ends by itself
            await self._in_thread(self._records.close)
        self._thread.shutdown()

    async def begin(
        self,
        principal: Principal,
        operation: str,
        key_id: str | None,
        intent: Mapping[str, Any],
        idempotency_key: str | None = None,
        body_hash: bytes = b"",
    ) -> Begun | Replay:
        """Reserve an operation and record its intent; both are on the disk when this returns.

        Args:
            principal: Who asks.
            operation: What for.
            key_id: With which key, or None.
            intent: All else about it: values that I-JSON has, no secret.
            idempotency_key: What the request has, or None.
            body_hash: SHA-256 of the request, to which that is bound.

        Returns:
            What to `finish`; or the answer that the same request had before.

        Raises:
            ConflictError: The same request is still running.
            MismatchError: Another request had the Idempotency-Key.
            UsageError: The Idempotency-Key is none, or the intent has other values.
            FileError: It cannot be recorded, so it must not be done.
        """
        if idempotency_key is not None and not _IDEMPOTENCY_KEY.fullmatch(idempotency_key):
            raise UsageError(
                "an Idempotency-Key has 1 to 255 printable ASCII characters without blanks",
                hint="use a random one, such as a UUID",
            )
        leaf = encode_leaf(
            {
                "kind": "intent",
                "at": timestamp(),
                "principal": {"name": principal.name, "kind": principal.kind},
                "operation": operation,
                "key": key_id,
                "idempotency_key": idempotency_key,
                "intent": dict(intent),
            }
        )
        result = await self._put(Intent(principal.name, idempotency_key, body_hash, leaf))
        assert result is not None  # noqa: S101 - for the type: only outcomes have no result
        return result

    async def finish(
        self, begun: Begun, outcome: Mapping[str, Any], response: bytes | None = None, status: int = 200
    ) -> None:
        """Record what became of an operation; it is on the disk when this returns, and may be released then.

        Args:
            begun: The operation.
            outcome: What became of it: values that I-JSON has, no secret.
            response: What the same request with the same Idempotency-Key gets later. None: such a request is
                done again, as is right after failures.
            status: The HTTP status of that.

        Raises:
            FileError: It cannot be recorded, so nothing of it may be released.
        """
        if response is not None and len(response) > ANSWER_SIZE_MAXIMUM:
            response = None
        await self._put(Outcome(begun, outcome_leaf(begun.id, outcome), status, response))

    def abandon(self, begun: Begun, reason: str) -> None:
        """Record that an operation ended without an outcome, as soon as that can be done; does not wait."""
        leaf = outcome_leaf(begun.id, {"result": "abandoned", "reason": reason})
        self._put(Outcome(begun, leaf, 0, None)).add_done_callback(_log_failure)

    def _put(self, entry: Intent | Outcome) -> asyncio.Future[Begun | Replay | None]:
        loop = asyncio.get_running_loop()
        recorded: asyncio.Future[Begun | Replay | None] = loop.create_future()
        if self._stopping:
            recorded.set_exception(FileError("the service stops"))
            return recorded
        waiting = _Waiting(entry, recorded, loop.time() + RECORD_SECONDS)
        self._waiting.append(waiting)
        self._wake.set()
        if self._alarm is None:
            self._alarm = loop.call_at(waiting.give_up_at, self._give_up)
        return recorded

    def _give_up(self) -> None:
        """Answer those who have waited for too long; the next alarm is for the oldest of the others."""
        loop = asyncio.get_running_loop()
        self._alarm = None
        for one in chain(self._recording, self._waiting):
            if one.give_up_at > loop.time():
                self._alarm = loop.call_at(one.give_up_at, self._give_up)
                return
            if not one.recorded.done():
                one.recorded.set_exception(_late())

    async def _write(self) -> None:
        while self._waiting or not self._stopping:
            await self._wake.wait()
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
            if not self._waiting and not self._stopping:
                self._wake.clear()
            if group:
                await self._record(group)
                await asyncio.sleep(min(_GATHER_SECONDS * self._records.running, _GATHER_MAXIMUM))

    async def _record(self, group: list[_Waiting]) -> None:
        self._recording = group
        intents = [one for one in group if isinstance(one.entry, Intent)]
        outcomes = [one for one in group if isinstance(one.entry, Outcome)]
        try:
            begun, finished = await self._in_thread(
                self._records.record, [one.entry for one in intents], [one.entry for one in outcomes]
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told, and others come
            if not isinstance(error, TokensignError):
                _log.error("a bug in the journal", exc_info=error)
            for one in group:
                self._tell(one, _unrecorded(error))
            return
        for one, result in zip(intents + outcomes, begun + finished, strict=True):
            self._tell(one, result)

    def _tell(self, waiting: _Waiting, result: Begun | Replay | Exception | None) -> None:
        if waiting.recorded.done():  # nobody waits any more
            if isinstance(result, Begun):
                self.abandon(result, "request cancelled")
        elif isinstance(result, Exception):
            waiting.recorded.set_exception(result)
        else:
            waiting.recorded.set_result(result)

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._in_thread(self._records.keep_up)
                while await self._in_thread(self._records.forget):
                    pass  # what waits is recorded in between
            except TokensignError as error:
                _log.warning("the journal: %s", error)

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:  # noqa: ANN401 - whatever it returns
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def _unrecorded(error: Exception) -> FileError:
    if isinstance(error, FileError):
        return FileError(error.message, hint=error.hint)
    return FileError(
        f"nothing can be recorded: {error}", hint="`tokensign audit verify` tells whether the log is damaged"
    )


def _late() -> FileError:
    return FileError(
        f"nothing could be recorded for {RECORD_SECONDS:g} seconds",
        hint="see whether the database is there and its disk has room",
    )


def _log_failure(recorded: asyncio.Future[Begun | Replay | None]) -> None:
    error = None if recorded.cancelled() else recorded.exception()
    if error is not None:
        _log.warning("an operation that was given up: %s", error)
