"""Signing the audit log again and again, with a key behind a lane."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from tokensign.audit.checkpoint import make_checkpoint
from tokensign.errors import TokensignError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.keys import Signer
    from tokensign.store import Store

__all__ = ["Checkpoints"]

_log: Final = logging.getLogger(__name__)


class Checkpoints:
    """Makes a checkpoint each time that some seconds have gone by and the log grew.

    Args:
        store: The database.
        signer: The key that signs them, for another thread than that of the event loop; raises
            `TokensignError` where it is not there now.
        seconds: From one to the next.
    """

    def __init__(self, store: Store, signer: Callable[[], Signer], seconds: float) -> None:
        self._store = store
        self._signer = signer
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End. What came since the latest checkpoint is in the first one after the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await asyncio.to_thread(lambda: make_checkpoint(self._store, self._signer()))
            except TokensignError as error:
                _log.warning("no checkpoint of the audit log was made: %s", error)
