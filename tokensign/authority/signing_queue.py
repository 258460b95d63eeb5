"""How many private-key operations strangers may have waiting for a token."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SIGNING_THREADS", "WAITING_MAXIMUM", "BusyError", "SigningQueue"]

SIGNING_THREADS: Final = 4  # tokens do one operation at a time, or a few
WAITING_MAXIMUM: Final = 64  # a slow card does one or two a second: who comes later is told so at once

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class BusyError(Exception):
    """So much waits for the token that nothing more is taken on; it never leaves this package."""


class SigningQueue:
    """Runs what blocks in threads, and no more of it than WAITING_MAXIMUM at once; of one event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(SIGNING_THREADS, thread_name_prefix="signing")
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether `run` would refuse."""
        return self._waiting >= WAITING_MAXIMUM

    async def run(
        self,
        function: Callable[_Parameters, _Result],
        *arguments: _Parameters.args,
        **options: _Parameters.kwargs,
    ) -> _Result:
        """Call a function in a thread.

        Raises:
            BusyError: Too many wait already.
        """
        if self.is_full:
            raise BusyError
        self._waiting += 1
        call = self._threads.submit(function, *arguments, **options)
        waited_for = asyncio.wrap_future(call)
        waited_for.add_done_callback(self._count_down)
        return await asyncio.shield(waited_for)  # who asked may go away; the token works on all the same

    def close(self) -> None:
        """Wait for what runs, and forget what waits."""
        self._threads.shutdown(cancel_futures=True)

    def _count_down(self, done: asyncio.Future[_Result]) -> None:
        self._waiting -= 1
        if not done.cancelled():
            done.exception()  # somebody has seen it, or nobody waits any more
