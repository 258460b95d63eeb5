"""Jobs in PostgreSQL: procrastinate has a queue for each lane, and processes on any host take from it.

A job is put into its queue in the transaction that records it, so there is never one without the other. What
a queue says is when to look at a job; who may work on it, and on which items, is in `job_records`.
So a job that has ended meanwhile is only taken out of its queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

import procrastinate
from sqlalchemy import func, inspect, make_url, select

from tokensign.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

    from tokensign.service.job_records import Job
    from tokensign.service.jobs import JobWork
    from tokensign.store import Store

__all__ = ["QueuedJobs"]

_log: Final = logging.getLogger(__name__)

_TASK: Final = "tokensign.sign_job"
_SCHEMA_LOCK: Final = 0x746F6B656E6A6F62  # "tokenjob"; others do not lock it by chance
_AGAIN_SECONDS: Final = 5  # after which a job that another process still has is looked at again
_LOOK_SECONDS: Final = 10.0  # from one look for jobs that nobody works on to the next
_POOL_SECONDS: Final = 5.0  # for a connection; a service that stops while the database is away waits for two


class QueuedJobs:
    """A `tokensign.service.jobs.JobQueue` in PostgreSQL.

    Args:
        work: Works on a job.
        lanes: The lanes whose jobs are worked on.
        store: The database.
    """

    def __init__(self, work: JobWork, lanes: Collection[str], store: Store) -> None:
        self.records = work.records
        self._work = work
        self._lanes = lanes
        self._store = store
        place = make_url(store.place).set(drivername="postgresql").render_as_string(hide_password=False)
        self._app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=place, timeout=_POOL_SECONDS)
        )
        self._deferring = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=place))
        retry = procrastinate.RetryStrategy(wait=_AGAIN_SECONDS)  # until it is done
        self._app.task(name=_TASK, retry=retry)(self._sign)
        self._tasks: list[asyncio.Task[None]] = []
        logger = logging.getLogger("procrastinate")  # to it, a job that goes on later has failed
        logger.addHandler(logging.NullHandler())
        logger.propagate = False

    async def start(self) -> None:
        """See `JobQueue.start`.

        Raises:
            FileError: The database fails.
        """
        await asyncio.to_thread(self._make_tables)
        await self._app.open_async()
        self._tasks = [asyncio.create_task(self._serve(lane)) for lane in self._lanes]
        self._tasks += [asyncio.create_task(self._revive()), asyncio.create_task(self._work.clear_up())]

    async def stop(self) -> None:
        """See `JobQueue.stop`."""
        self._work.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._app.close_async()

    def defer(self, connection: Connection, job: Job) -> None:
        """See `JobQueue.defer`."""
        driver = connection.connection.driver_connection
        task = self._deferring.configure_task(_TASK, queue=job.lane, connection=driver, allow_unknown=True)
        task.defer(job_id=job.id)

    def added(self, job: Job) -> None:
        """See `JobQueue.added`: PostgreSQL tells those who wait."""

    async def _serve(self, lane: str) -> None:
        """Take one job after the other from the queue of a lane; after a failure of the database, go on."""
        while not self._work.stopping:
            try:
                await self._app.run_worker_async(
                    queues=[lane], concurrency=1, install_signal_handlers=False, delete_jobs="successful"
                )
            except Exception as error:  # noqa: BLE001 - whatever it is, the jobs are still to be done
                _log.warning("jobs of the lane %s wait: %s", lane, type(error).__name__)
            await self._work.pause(_LOOK_SECONDS)

    async def _sign(self, job_id: str) -> None:
        """The task.

        Raises:
            FileError: It is not done yet; it is looked at again.
        """
        job = await asyncio.to_thread(self.records.take_one, job_id)
        if job is None:
            if not await asyncio.to_thread(self.records.is_waiting, job_id):
                return
            raise FileError(f"another process has the job {job_id}")
        if not await self._work.run(job):
            raise FileError(f"the job {job_id} goes on later")

    async def _revive(self) -> None:
        """Let jobs be taken again that nobody works on, although procrastinate says so.

        Their worker died, or it left off while the database was away, and could not tell.
        """
        manager = self._app.job_manager
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            with contextlib.suppress(procrastinate.exceptions.ConnectorException, FileError):  # it is away
                for job in await manager.list_jobs_async(task=_TASK, status="doing"):
                    job_id = str(job.task_kwargs["job_id"])
                    if not await asyncio.to_thread(self.records.is_held, job_id):
                        _log.warning("nobody works on the job %s", job_id)
                        await manager.retry_job(job)

    def _make_tables(self) -> None:
        """Make procrastinate's tables where they are not there."""
        with self._store.writing() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            if not inspect(connection).has_table("procrastinate_jobs"):
                driver = connection.connection.driver_connection
                assert driver is not None  # noqa: S101 - for the type: the connection is open
                driver.execute(procrastinate.schema.SchemaManager.get_schema())
