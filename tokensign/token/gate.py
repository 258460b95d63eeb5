"""Who may call a module at a moment: any number of threads, or one that takes it down and up again."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from tokensign.errors import TokenRemovedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Gate"]


class Gate:
    """A lock that is shared by operations and exclusive to recovery.

    A thread may pass the shared gate several times, and whoever holds it exclusively may pass it too.
    To hold it shared and then ask for it exclusively is a mistake.

    Args:
        serial: Let one thread through at a time, for a module that is not safe for threads.
    """

    def __init__(self, *, serial: bool = False) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._inside = 0
        self._waiting = 0  # for everybody to have left
        self._owner: int | None = None
        self._serial = threading.RLock() if serial else None

    def enter(self) -> None:
        """Begin an operation; each `enter` needs its `leave`."""
        if self._serial:
            self._serial.acquire()
        with self._condition:
            while self._owner is not None and self._owner != threading.get_ident():
                self._condition.wait()
            self._inside += 1

    def leave(self) -> None:
        """End an operation."""
        with self._condition:
            self._inside -= 1
            if self._waiting and not self._inside:
                self._condition.notify_all()
        if self._serial:
            self._serial.release()

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Do something to the module."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    @contextlib.contextmanager
    def exclusive(self, timeout: float) -> Iterator[None]:
        """Do something to the module while nobody else does.

        Args:
            timeout: Seconds to wait until running operations have ended.

        Raises:
            TokenRemovedError: They have not.
        """
        deadline = time.monotonic() + timeout
        with self._condition:
            self._waiting += 1
            try:
                while self._inside or self._owner is not None:
                    if not self._condition.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                        raise TokenRemovedError(
                            "the token went away, and its module is still busy", hint="try again in a moment"
                        )
            finally:
                self._waiting -= 1
            self._owner = threading.get_ident()
        try:
            yield
        finally:
            with self._condition:
                self._owner = None
                self._condition.notify_all()
