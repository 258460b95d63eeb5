"""One lane: the workers of a token. They are started again when they end, and latched when a PIN is wrong."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Final

from tokensign.errors import LaneBusyError, LaneDownError, PinError, TokensignError
from tokensign.lane_protocol import Operation
from tokensign.service.lane_keys import LaneKey, key_id
from tokensign.service.lane_process import LaneProcess
from tokensign.service.lane_settings import LaneState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from tokensign.lane_protocol import KeyListing
    from tokensign.service.lane_settings import LaneSettings

__all__ = ["Lane"]

_log: Final = logging.getLogger(__name__)

_REBUILD_SECONDS: Final = 30.0
"""Seconds between two rebuilds of a worker after the first, which is at once: a module that crashes again and
again is not to take a processor, nor a card its wear."""

_PROBE_SECONDS: Final = 2.0
"""Seconds between two looks whether a worker lives and its token is there: one command to a card."""


class Lane:
    """The workers of one token.

    Attributes:
        settings: What it was told.
        loop: The event loop in which it was started.

    Args:
        settings: What it is told.
        keys: Where it puts its keys, by their ids; shared by all lanes.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, settings: LaneSettings, keys: dict[str, LaneKey]) -> None:
        self.settings = settings
        self._keys = keys
        self._workers: list[LaneProcess] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._turn = asyncio.Lock()  # one worker starts at a time: a wrong PIN is tried once, not by each
        self._may_start = asyncio.Event()
        self._attempted = asyncio.Event()
        self._latch = ""  # why
        self._reason = ""  # of the last end, or failed start
        self._back_at = 0.0  # the moment of the next start
        self._restarts = 0
        self._stopping = False

    async def start(self) -> None:
        """Start the workers; return when the first is there, or failed."""
        self.loop = asyncio.get_running_loop()
        self._may_start.set()
        self._tasks = [self.loop.create_task(self._keep()) for _ in range(self.settings.workers)]
        self._tasks.append(self.loop.create_task(self._probe()))
        await self._attempted.wait()

    async def stop(self, *, graceful: bool) -> None:
        """End the workers; see `Lanes.stop`."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        workers, self._workers = self._workers, []
        if not graceful:
            for worker in workers:
                worker.kill("the service is being stopped")
        await asyncio.gather(*(worker.close() for worker in workers))

    async def unlatch(self) -> None:
        """Start again after a PIN was put right; return when the first worker is there, or failed."""
        if self._latch:
            self._latch = ""
            self._attempted.clear()
            self._may_start.set()
            await self._attempted.wait()

    async def reload(self) -> None:
        """Replace the workers, one after the other; see `Lanes.reload`."""
        if self._latch:
            await self.unlatch()
            return
        for worker in list(self._workers):
            if not self._may_start.is_set():  # the PIN is wrong now
                return
            self._attempted.clear()
            await worker.retire()
            await self._attempted.wait()

    @property
    def state(self) -> LaneState:
        """How it is, as it was last noticed."""
        able = [worker for worker in self._workers if worker.trouble is None]
        figures = (len(self._workers), sum(worker.waiting for worker in self._workers), self._restarts)
        if self._latch:
            return LaneState("latched", self._latch, None, *figures)
        if able and not self._stopping:
            return LaneState("up", "", None, *figures)
        if not self._attempted.is_set():
            return LaneState("starting", "the lane is starting", 1, *figures)
        return LaneState("down", self._why_down(), self._retry_after(), *figures)

    def call(
        self, operation: Operation, key: bytes, parameter: bytes, items: Sequence[bytes]
    ) -> Awaitable[list[bytes | TokensignError]]:
        """Let the worker with the least to do do something; see `LaneProcess.call`.

        Raises:
            LaneBusyError: The queue is full.
            LaneDownError: There is no worker that could.
        """
        able = [worker for worker in self._workers if worker.trouble is None]
        if not able or self._stopping:
            state = self.state
            raise LaneDownError(
                f"the lane {self.settings.name} is {state.status}: {state.reason}",
                retry_after=state.retry_after,
            )
        if sum(worker.waiting for worker in able) >= self.settings.queue:
            raise LaneBusyError(
                f"{self.settings.queue} calls wait in the lane {self.settings.name} already",
                hint="try again in a moment",
            )
        least = able[0] if len(able) == 1 else min(able, key=lambda worker: worker.waiting)
        return least.call(operation, key, parameter, items)

    # --- the life of the workers

    async def _keep(self) -> None:
        """Keep one worker there, until this is cancelled."""
        rebuilt = -math.inf
        while True:
            await self._may_start.wait()
            worker = await self._started()
            if worker is not None:
                self._reason = await asyncio.shield(worker.ended)
                self._workers.remove(worker)
                if worker.retired:
                    continue
                _log.warning("the lane %s: %s", self.settings.name, self._reason)
            self._back_at = max(time.monotonic(), rebuilt + _REBUILD_SECONDS)
            if self._may_start.is_set():
                await asyncio.sleep(self._back_at - time.monotonic())
                rebuilt = self._back_at
                self._restarts += 1

    async def _started(self) -> LaneProcess | None:
        """A new worker, or None where it failed."""
        async with self._turn:
            if not self._may_start.is_set():
                return None
            try:
                worker = await LaneProcess.start(self.settings)
            except PinError as error:
                self._refuse(error)
                return None
            except (TokensignError, OSError) as error:  # the system may have no more processes or descriptors
                self._reason = str(error)
                _log.warning("the lane %s does not start: %s", self.settings.name, error)
                return None
            else:
                self._workers.append(worker)
                self._list(worker.keys)
                name, keys = self.settings.name, len(worker.keys)
                _log.info("the lane %s: the worker %d is up; keys: %d", name, worker.pid, keys)
                return worker
            finally:
                self._attempted.set()

    def _list(self, listings: Sequence[KeyListing]) -> None:
        """Tell the keys anew: certificates may have been imported meanwhile."""
        name = self.settings.name
        there = {key_id(name, listing): LaneKey(self, listing) for listing in listings}
        for gone in [one.id for one in self._keys.values() if one.lane == name and one.id not in there]:
            del self._keys[gone]
        self._keys.update(there)

    def _refuse(self, error: PinError) -> None:
        """Latch: no PIN is tried again, and no worker left that might."""
        self._latch = error.message
        self._may_start.clear()
        _log.error("the lane %s is latched: %s", self.settings.name, error)
        for worker in self._workers:
            worker.kill("a PIN was refused")

    async def _probe(self) -> None:
        """See again and again whether the workers live, and whether a token that went away is back."""
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            await asyncio.gather(*(self._look_at(worker) for worker in self._workers))

    async def _look_at(self, worker: LaneProcess) -> None:
        if worker.waiting:  # its calls tell
            return
        before = worker.trouble
        try:
            (result,) = await worker.call(Operation.PROBE, b"", b"", (b"",))
        except LaneDownError:  # it was killed
            return
        if isinstance(result, PinError):
            self._refuse(result)
        elif isinstance(result, bytes) and not worker.retired:
            worker.trouble = None
            if before is not None:
                _log.info("the lane %s: the token is back", self.settings.name)
        elif before is None:
            _log.warning("the lane %s: %s", self.settings.name, result)

    def _why_down(self) -> str:
        if self._stopping:
            return "the service is being stopped"
        trouble = [worker.trouble for worker in self._workers if worker.trouble]
        return trouble[0].message if trouble else self._reason

    def _retry_after(self) -> int:
        if self._workers:
            return math.ceil(_PROBE_SECONDS)
        return max(1, math.ceil(self._back_at - time.monotonic()))
