"""One worker process of a lane, as the event loop sees it: its start, its calls, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from tokensign.errors import LaneDownError, MalformedError, ModuleError, PinError, TokenRemovedError
from tokensign.lane_protocol import Listing, Messages, answer_of, call_message, framed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.errors import TokenError, TokensignError
    from tokensign.lane_protocol import KeyListing, Operation
    from tokensign.service.lane_settings import LaneSettings

__all__ = ["LaneProcess"]

_Results = list["bytes | TokensignError"]

_START_SECONDS: Final = 60.0  # until a worker must have listed its keys: a full smartcard takes some 20
_END_SECONDS: Final = 5.0  # that a worker has to log out, and to be gone when it was killed
_PROMPT: Final = 4  # calls in a worker up to which one more is sent at once, so that it never runs dry
_WAITING_PART: Final = 0.5  # of the deadline that a call may wait; the rest is for the operation


@dataclass(slots=True)
class _Waiting:
    """A call that was sent.

    Attributes:
        answer: What waits for it.
        answer_by: When the worker hangs if there is none.
        items: How many results it has.
    """

    answer: asyncio.Future[_Results]
    answer_by: float
    items: int


class LaneProcess(asyncio.Protocol):
    """A worker process that is there. `start` makes it.

    Attributes:
        pid: Its number.
        keys: The keys that it listed.
        trouble: Why it is not to be called: its token was pulled out, or it has ended; None when it may.
        retired: Whether it ends because it is going to be replaced.
        ended: Why it ended, as soon as it has.
    """

    keys: Sequence[KeyListing]
    ended: asyncio.Future[str]
    _transport: asyncio.WriteTransport

    def __init__(self, settings: LaneSettings, process: asyncio.subprocess.Process) -> None:
        self.pid = process.pid
        self.retired = False
        self.trouble: TokenError | None = None
        self._settings = settings
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._messages = Messages()
        self._first: asyncio.Future[bytes] = self._loop.create_future()
        self._calls: dict[int, _Waiting] = {}
        self._number = 0
        self._outgoing: list[bytes] = []
        self._look_at: asyncio.TimerHandle | None = None
        self._is_over = False
        self._verdict = ""  # why it is over

    @classmethod
    async def start(cls, settings: LaneSettings) -> Self:
        """Start a worker, and wait until it has logged in and listed its keys.

        Raises:
            PinError: It gets no PIN, or the token refuses it.
            TokenError: The token or its module fails.
            LaneDownError: The process ends, or does not answer.
            OSError: The system does not start it.
        """
        spawned = asyncio.ensure_future(cls._spawn(settings))
        try:
            self = await asyncio.shield(spawned)
        except asyncio.CancelledError:
            self = await spawned
            await self._end("the lane is stopped")
            raise
        try:
            async with asyncio.timeout(_START_SECONDS):
                self.keys = Listing.read(await self._first)
        except TimeoutError:
            await self._end(f"it was not ready within {_START_SECONDS:.0f} s")
            raise self._gone(self._verdict) from None
        except BaseException:
            await self._end("it did not start")
            raise
        return self

    @classmethod
    async def _spawn(cls, settings: LaneSettings) -> Self:
        """Start a worker, and tell it what it is to do."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "tokensign.token.lane"),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        transport, self = await loop.create_unix_connection(lambda: cls(settings, process), sock=ours)
        self._transport = transport
        self.ended = loop.create_task(self._watch())
        token = {
            "module": str(settings.module),
            "token": settings.token,
            "pin_source": settings.pin_source,
        }
        transport.write(framed(json.dumps(token).encode()))
        return self

    @property
    def waiting(self) -> int:
        """Calls that are not answered yet."""
        return len(self._calls)

    def call(
        self, operation: Operation, key: bytes, parameter: bytes, items: Sequence[bytes]
    ) -> asyncio.Future[_Results]:
        """Let the worker do something.

        Args:
            operation: What.
            key: The name of the key.
            parameter: What the operation says.
            items: Octets on each of which it is done.

        Returns:
            The result of each item. It is there by the deadline of the lane, or raises LaneDownError.

        Raises:
            LaneDownError: The worker has ended.
        """
        if self._is_over:
            raise self._gone(self._verdict)
        now = time.monotonic()
        self._number = (self._number + 1) & 0xFFFFFFFF
        begin_by = now + self._settings.deadline * _WAITING_PART
        waiting = _Waiting(self._loop.create_future(), now + self._settings.deadline, len(items))
        self._calls[self._number] = waiting
        self._outgoing.append(call_message(self._number, operation, begin_by, key, parameter, items))
        if len(self._calls) <= _PROMPT:
            self._send()
        elif len(self._outgoing) == 1:  # what else comes in this turn of the loop goes with it
            self._loop.call_soon(self._send)
        if self._look_at is None:
            self._look_at = self._loop.call_at(waiting.answer_by, self._look)
        return waiting.answer

    def kill(self, verdict: str) -> None:
        """End it now; what it held is answered with LaneDownError.

        Args:
            verdict: Why, in words that follow "its worker was killed, because".
        """
        if self._is_over:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._give_up(f"its worker was killed, because {verdict}")

    async def retire(self) -> None:
        """As `close`, for a worker that is going to be replaced; it is not called any more."""
        self.retired = True
        self.trouble = self._gone("it is started again")
        await self.close()

    async def close(self) -> None:
        """Let it answer what it holds and log out; it is killed where that takes too long."""
        answers = [one.answer for one in self._calls.values()]
        if answers:
            await asyncio.wait(answers)  # the watch over the deadlines goes on
        self._transport.close()
        await asyncio.wait([self.ended], timeout=_END_SECONDS)
        await self._end("it did not end by itself")

    async def _end(self, verdict: str) -> None:
        """Kill it and wait for its end; one that waits for a device may take longer, and is left alone."""
        self.kill(verdict)
        await asyncio.wait([self.ended], timeout=_END_SECONDS)

    # --- what the event loop calls

    def data_received(self, data: bytes) -> None:
        """Take answers."""
        try:
            for content in self._messages.feed(data):
                if self._first.done():
                    self._take(*answer_of(content))
                else:
                    self._first.set_result(content)
        except (MalformedError, KeyError):
            self.kill("it answered what nobody understands")

    def _take(self, number: int, results: _Results) -> None:
        waiting = self._calls[number]
        if len(results) != waiting.items:
            raise MalformedError("the answer has another number of results than the call has items")
        del self._calls[number]
        for result in results:
            if isinstance(result, TokenRemovedError | ModuleError | PinError):
                self.trouble = result
        if not waiting.answer.done():  # nobody waits any more
            waiting.answer.set_result(results)

    def _send(self) -> None:
        if self._outgoing:
            self._transport.write(b"".join(self._outgoing))
            self._outgoing.clear()

    def _look(self) -> None:
        """Kill a worker that hangs. Calls are answered in their order, so that the oldest tells."""
        oldest = next(iter(self._calls.values()), None)
        self._look_at = None
        if oldest is None:
            return
        if oldest.answer_by <= time.monotonic():
            self.kill(f"it did not answer within {self._settings.deadline:g} s")
        else:
            self._look_at = self._loop.call_at(oldest.answer_by, self._look)

    async def _watch(self) -> str:
        """Wait for the end of the process; why it ended."""
        code = await self._process.wait()
        if not self._is_over:
            self._give_up(_ending(code))
        return self._verdict

    def _give_up(self, verdict: str) -> None:
        """Answer what the worker held: whether or not it is there, it is not listened to any more."""
        self._is_over, self._verdict = True, verdict
        self._transport.abort()
        if self._look_at is not None:
            self._look_at.cancel()
        error = self.trouble = self._gone(verdict)
        if not self._first.done():
            self._first.set_exception(error)
            self._first.exception()  # it is known, also where nobody waits for it any more
        for waiting in self._calls.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
        self._calls.clear()

    def _gone(self, verdict: str) -> LaneDownError:
        return LaneDownError(f"the lane {self._settings.name} went down: {verdict}", retry_after=1)


def _ending(code: int) -> str:
    if code >= 0:
        return f"its worker ended with the exit code {code}"
    try:
        return f"its worker was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"its worker was killed by the signal {-code}"
