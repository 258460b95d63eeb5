"""Keep the memory of this process, in which the PIN is, out of files and away from other processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from typing import Final

__all__ = ["end_with_parent", "harden"]

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PR_SET_DUMPABLE: Final = 4  # prctl(2)
_MCL_CURRENT: Final = 1  # mlockall(2)
_MCL_FUTURE: Final = 2
_MCL_ONFAULT: Final = 4  # only what is used of a mapping: the stacks of threads are large


def harden() -> bool:
    """No core dump, no debugger of the same user, and no swap where the system lets us.

    All memory is locked or none: under a limit (RLIMIT_MEMLOCK, often 8 MiB) the interpreter would soon get
    no more of it, and end.

    Returns:
        Whether the memory is locked.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # neither ptrace nor /proc/PID/mem for the same user
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() and most != resource.RLIM_INFINITY:
        return False
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, most))
    failed: int = library.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    return not failed


def end_with_parent() -> None:
    """Let this process be killed when the thread that started it ends, where the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
