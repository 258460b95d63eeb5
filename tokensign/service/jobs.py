"""Working on a job: batch after batch, between the requests of those who wait for an answer.

Each batch is recorded in the audit log like a request. A lane that is down or busy is waited for, but not
for ever: a job has so many hours. A grant that was revoked ends it, too. What was done before a death is not
done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from typing import TYPE_CHECKING, Final, Protocol, cast

from tokensign.errors import KeyNotFoundError, LaneError, TokensignError
from tokensign.service.job_records import JobItem
from tokensign.service.lane_settings import BATCH_MAXIMUM
from tokensign.service.principals import Principal
from tokensign.service.problems import EXPIRED, FORBIDDEN, kind_of
from tokensign.service.signing import scheme_of, sign_cms, sign_raw

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tokensign.service.grants import Grants
    from tokensign.service.job_records import Job, JobRecords
    from tokensign.service.journal import Begun, Journal
    from tokensign.service.lanes import Lanes
    from tokensign.service.permissions import Permissions

__all__ = ["JobQueue", "JobWork"]

_log: Final = logging.getLogger(__name__)

_PATIENCE: Final = 1.0  # seconds until a lane that was busy or down is asked again
_OVERDUE_SECONDS: Final = 60.0  # from one look for jobs whose hours are over to the next


class JobQueue(Protocol):
    """What lets the jobs of the lanes of this process be worked on."""

    records: JobRecords

    async def start(self) -> None:
        """Begin, also with what an earlier process left."""
        ...

    async def stop(self) -> None:
        """End after the batches that are being signed; the rest waits in the database."""
        ...

    def defer(self, connection: Connection, job: Job) -> None:
        """Let a job be worked on; called in the transaction that records it."""
        ...

    def added(self, job: Job) -> None:
        """Called after that transaction."""
        ...


class JobWork:
    """Works on jobs, one batch after the other.

    Args:
        records: The jobs.
        lanes: Sign.
        journal: Records each batch.
        permissions: What the database has, made fresh for each batch.
        grants: Decide by it.
        hours: After which a job ends, whatever of it is signed.
    """

    def __init__(
        self,
        records: JobRecords,
        lanes: Lanes,
        journal: Journal,
        permissions: Permissions,
        grants: Grants,
        hours: float,
    ) -> None:
        self.records = records
        self._lanes = lanes
        self._journal = journal
        self._permissions = permissions
        self._grants = grants
        self._hours = hours
        self._stopping = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether no further batch is begun."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Let `run` return after the batch that is being signed."""
        self._stopping.set()

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than until `stop`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def run(self, job: Job) -> bool:
        """Work on a job that this process has taken.

        Returns:
            Whether there is nothing left to do for this process.

        Raises:
            FileError: The database fails.
        """
        while not self.stopping:
            items = await asyncio.to_thread(self.records.waiting, job, BATCH_MAXIMUM)
            if not items:
                await asyncio.to_thread(self.records.finish, job)
                return True
            principal = Principal(job.principal, job.principal_kind)  # type: ignore[arg-type] # as it was recorded
            await self._permissions.refresh()
            if not self._grants.allows(principal, job.key, "jobs", job.scheme):
                await asyncio.to_thread(self.records.finish, job, FORBIDDEN.name)
                return True
            results = await self._sign(principal, job, items) if self._is_up(job) else []
            if not await asyncio.to_thread(self.records.put, job, results):
                _log.warning("the job %s has ended, or another process has it", job.id)
                return True
            if not results:
                await self.pause(_PATIENCE)
        await asyncio.to_thread(self.records.leave, job)
        return False

    async def clear_up(self) -> None:
        """End jobs whose hours are over, also of lanes that no process has any more; forget old ones.

        Until `stop`.
        """
        while not self.stopping:
            try:
                while job := await asyncio.to_thread(self.records.end_overdue, self._hours, EXPIRED.name):
                    _log.warning("the job %s of the lane %s was not done in time", job.id, job.lane)
                while not self.stopping and await asyncio.to_thread(self.records.forget):
                    pass
            except Exception as error:  # noqa: BLE001 - whatever it is, it is looked again
                _log.warning("jobs are not looked through: %s: %s", type(error).__name__, error)
            await self.pause(_OVERDUE_SECONDS)

    def _is_up(self, job: Job) -> bool:
        """Whether it is worth a record to ask the lane."""
        return self._lanes.states()[job.lane].status == "up" and bool(self._lanes.keys().get(job.key))

    async def _sign(self, principal: Principal, job: Job, items: list[JobItem]) -> list[JobItem]:
        """What came of some items, on record; nothing where the lane could not be asked."""
        digests = b"".join(item.digest for item in items)
        intent = {
            "job": job.id,
            "first": items[0].position,
            "items": len(items),
            "scheme": job.scheme,
            "form": job.form,
            "digests": f"sha256:{hashlib.sha256(digests).hexdigest()}",
        }
        begun = cast("Begun", await self._journal.begin(principal, "jobs", job.key, intent))
        recorded = False
        try:
            try:
                signed = await self._signatures(job, items)
            except (LaneError, KeyNotFoundError):  # the key comes back with its lane
                signed = []
            except TokensignError as error:
                signed = [error] * len(items)
            await self._journal.finish(begun, _recorded(signed))
            recorded = True
        finally:
            if not recorded:
                self._journal.abandon(begun, "not finished")
        return [
            JobItem(item.position, item.digest, one)
            if isinstance(one, bytes)
            else JobItem(item.position, item.digest, None, kind_of(one).name)
            for item, one in zip(items, signed, strict=False)  # none where the lane could not be asked
            if not isinstance(one, LaneError)
        ]

    async def _signatures(self, job: Job, items: list[JobItem]) -> list[bytes | TokensignError]:
        key = self._lanes.keys().get(job.key)
        if key is None:
            raise KeyNotFoundError(f"there is no key {job.key}")
        scheme = scheme_of(key, job.scheme)
        digests = [item.digest for item in items]
        if job.form == "cms":
            return await sign_cms(key, scheme, digests)
        return await sign_raw(key, scheme, digests)


def _recorded(signed: list[bytes | TokensignError]) -> dict[str, object]:
    """What the audit log has of the results of a batch: how many, and a hash over them in their order."""
    state = hashlib.sha256()
    for one in signed:
        state.update(hashlib.sha256(one).digest() if isinstance(one, bytes) else bytes(state.digest_size))
    made = sum(isinstance(one, bytes) for one in signed)
    return {"made": made, "failed": len(signed) - made, "sha256": state.hexdigest()}
