"""By when the threads inside PKCS#11 modules must be back, on memory that another process can watch.

A thread that hangs inside a module cannot be stopped, and may even hold the interpreter. So it is judged by
others: by other threads that want to pass the `Gate`, and on the command line by a parent process, which
shares this memory with its child.
"""

from __future__ import annotations

import mmap
import os
import time
from typing import Final

__all__ = ["GENERATION_TIMEOUT", "OPERATION_TIMEOUT", "PERSON_TIMEOUT", "Deadlines", "current", "install"]

OPERATION_TIMEOUT: Final = 60.0
"""Seconds for one operation, such as a signature or a search: a full smartcard is listed in some 20."""

GENERATION_TIMEOUT: Final = 600.0
"""Seconds for what changes a token: a smartcard makes an RSA key of 4096 bits in minutes."""

PERSON_TIMEOUT: Final = 300.0
"""Seconds for a login: with a PIN pad, somebody first has to find the PIN."""

_SLOTS: Final = 512  # a page of 4 KiB; if ever more threads are inside at a time, the rest is not watched
_UNWATCHED: Final = -1


class Deadlines:
    """A moment for each thread inside a module, on a page that stays shared with forked processes."""

    def __init__(self) -> None:
        self._moments = memoryview(mmap.mmap(-1, (_SLOTS + 1) * 8)).cast("d")  # the last is for _UNWATCHED
        self._free = list(range(_SLOTS))

    def start(self, moment: float) -> int:
        """Begin a call that must be back by a moment of the monotonic clock; what to give to `end`."""
        try:
            place = self._free.pop()
        except IndexError:
            place = _UNWATCHED
        self._moments[place] = moment
        return place

    def end(self, place: int) -> None:
        """The call is back."""
        if place != _UNWATCHED:
            self._moments[place] = 0.0
            self._free.append(place)

    def is_missed(self, place: int) -> bool:
        """Whether a call should be back by now."""
        return place != _UNWATCHED and 0.0 < self._moments[place] < time.monotonic()

    def any_missed(self, stopped: float) -> bool:
        """Whether any call should be back by now.

        Args:
            stopped: Seconds that do not count, because the process was stopped.
        """
        now = time.monotonic() - stopped
        return any(0.0 < moment < now for moment in self._moments[:_SLOTS])


_current: Deadlines | None = None


def current() -> Deadlines:
    """Those of this process."""
    global _current  # noqa: PLW0603 - one a process, as the modules are
    if _current is None:
        _current = Deadlines()
    return _current


def install(deadlines: Deadlines) -> None:
    """Let this process, which has just been forked, write down its deadlines where its parent looks."""
    global _current  # noqa: PLW0603 - as above
    _current = deadlines


def _forget_after_fork() -> None:
    global _current  # noqa: PLW0603 - the threads that are written down there are not here
    _current = None


os.register_at_fork(after_in_child=_forget_after_fork)
