"""Who may call a module at a moment: any number of threads, or one that takes it down and up again."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final

from tokensign.errors import ModuleError, TokenRemovedError
from tokensign.token import deadlines

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Gate"]

_LOOK: Final = 0.5  # seconds between two looks for a thread that hangs


class Gate:
    """A lock that is shared by operations and exclusive to recovery.

    A thread may pass the shared gate several times, and whoever holds it exclusively may pass it too.
    To hold it shared and then ask for it exclusively is a mistake.

    When a thread has been inside for longer than an operation may take, the module hangs: nobody else is
    let in any more, until that thread is back.

    Attributes:
        timeout: Seconds that an operation may take.

    Args:
        name: The module, for messages.
        serial: Let one thread through at a time, for a module that is not safe for threads.
        timeout: See the attribute.
    """

    def __init__(
        self,
        name: str = "",
        *,
        serial: bool = False,
        timeout: float = deadlines.OPERATION_TIMEOUT,
    ) -> None:
        self.timeout = timeout
        self._name = name
        self._deadlines = deadlines.current()
        self._lock = threading.Lock()
        self._condition = threading.Condition(self._lock)  # entered by way of the lock, which is faster
        self._inside: set[int] = set()  # their places among the deadlines
        self._waiting = 0  # for everybody to have left
        self._owner: int | None = None
        self._serial = threading.RLock() if serial else None
        self._next_look = 0.0

    def enter(self, at_least: float = 0.0) -> int:
        """Begin an operation; each `enter` needs its `leave`, which takes what is returned here.

        Args:
            at_least: Seconds that it may take even if `timeout` is shorter.

        Raises:
            ModuleError: The module hangs.
        """
        if self._serial:
            self._acquire(self._serial)
        try:
            allowed = max(self.timeout, at_least) if at_least else self.timeout
            now = time.monotonic()
            with self._lock:
                if now > self._next_look:
                    self._look()
                while self._owner is not None and self._owner != threading.get_ident():
                    self._condition.wait(_LOOK)
                    self._look()
                    now = time.monotonic()
                place = self._deadlines.start(now + allowed)
                self._inside.add(place)
                return place
        except BaseException:
            if self._serial:
                self._serial.release()
            raise

    def leave(self, place: int) -> None:
        """End an operation."""
        with self._lock:
            self._deadlines.end(place)
            self._inside.discard(place)
            if self._waiting and not self._inside:
                self._condition.notify_all()
        if self._serial:
            self._serial.release()

    @contextlib.contextmanager
    def shared(self, at_least: float = 0.0) -> Iterator[None]:
        """Do something to the module; see `enter`."""
        place = self.enter(at_least)
        try:
            yield
        finally:
            self.leave(place)

    @contextlib.contextmanager
    def exclusive(self, timeout: float) -> Iterator[None]:
        """Do something to the module while nobody else does.

        Args:
            timeout: Seconds to wait until running operations have ended.

        Raises:
            TokenRemovedError: They have not.
            ModuleError: The module hangs.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            self._waiting += 1
            try:
                while self._inside or self._owner is not None:
                    self._look()
                    if time.monotonic() >= deadline:
                        raise TokenRemovedError(
                            "the token went away, and its module is still busy", hint="try again in a moment"
                        )
                    self._condition.wait(min(_LOOK, max(0.0, deadline - time.monotonic())))
            finally:
                self._waiting -= 1
            self._owner = threading.get_ident()
            place = self._deadlines.start(time.monotonic() + self.timeout)
            self._inside.add(place)
        try:
            yield
        finally:
            with self._lock:
                self._deadlines.end(place)
                self._inside.discard(place)
                self._owner = None
                self._condition.notify_all()

    @contextlib.contextmanager
    def holding(self, lock: threading.RLock) -> Iterator[None]:
        """Hold a lock, without waiting for ever if another thread holds it and hangs in the module.

        Raises:
            ModuleError: The module hangs.
        """
        self._acquire(lock)
        try:
            yield
        finally:
            lock.release()

    @property
    def hangs(self) -> bool:
        """Whether a thread should have left by now."""
        return any(self._deadlines.is_missed(place) for place in tuple(self._inside))

    def require_no_hang(self) -> None:
        """Refuse to go on in a module that hangs.

        Raises:
            ModuleError: It does.
        """
        if self.hangs:
            raise ModuleError(
                f"the PKCS#11 module {self._name} hangs: a call did not come back in time",
                hint="look at the token and its driver, and restart this program",
            )

    def _acquire(self, lock: threading.RLock) -> None:
        while not lock.acquire(timeout=_LOOK):
            self.require_no_hang()

    def _look(self) -> None:
        """See whether a thread hangs; if none does, it need not be seen again for a while."""
        self.require_no_hang()
        self._next_look = time.monotonic() + _LOOK
