"""Jobs in SQLite: the process looks for them itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

    from tokensign.service.job_records import Job
    from tokensign.service.jobs import JobWork

__all__ = ["PolledJobs"]

_log: Final = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 2.0  # from one look for jobs of other processes to the next


class PolledJobs:
    """A `tokensign.service.jobs.JobQueue` that looks into the database.

    Args:
        work: Works on a job.
        lanes: The lanes whose jobs are worked on.
    """

    def __init__(self, work: JobWork, lanes: Collection[str]) -> None:
        self.records = work.records
        self._work = work
        self._new = {lane: asyncio.Event() for lane in lanes}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """See `JobQueue.start`."""
        self._tasks = [asyncio.create_task(self._run(lane)) for lane in self._new]
        self._tasks.append(asyncio.create_task(self._work.clear_up()))

    async def stop(self) -> None:
        """See `JobQueue.stop`."""
        self._work.stop()
        for event in self._new.values():
            event.set()
        await asyncio.gather(*self._tasks)

    def defer(self, connection: Connection, job: Job) -> None:
        """See `JobQueue.defer`: the record of a job is all that is needed."""

    def added(self, job: Job) -> None:
        """See `JobQueue.added`."""
        self._new[job.lane].set()

    async def _run(self, lane: str) -> None:
        new = self._new[lane]
        while not self._work.stopping:
            new.clear()
            try:
                job = await asyncio.to_thread(self.records.take, lane)
                if job is not None:
                    await self._work.run(job)
                    continue
            except Exception as error:  # noqa: BLE001 - whatever it is, the other jobs are still to be done
                _log.warning("jobs of the lane %s wait: %s: %s", lane, type(error).__name__, error)
            if not self._work.stopping:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await new.wait()
