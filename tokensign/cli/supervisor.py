"""A parent process that outlives a PKCS#11 module: modules crash and hang, and take their process with them.

Just before a command loads a module, the process forks: the child goes on with the command, and the parent
waits for it. It passes signals on, sees by `tokensign.token.deadlines` whether the child hangs inside the
module, removes the temporary files of a child that could not do it, and says what happened. A thread in the
same process could not: it dies in a crash, and Python handles no signal while the main thread hangs.

Parent and child share the standard streams and the terminal, so that nothing else changes.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokensign import files
from tokensign.cli.output import print_error
from tokensign.cli.signals import ENDING, NOTHING_LEFT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from tokensign.token.deadlines import Deadlines

__all__ = ["disable", "enable", "supervise", "tell_exit_code"]

_EXIT_TOKEN: Final = 3  # that of tokensign.errors.ModuleError
_EXIT_BUG: Final = 70
_FAULTS: Final = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
_LOOK: Final = 0.25  # seconds between two looks whether the child hangs
_GRACE: Final = 5.0  # seconds that a child has for its ending after a signal, or after it told its exit code
_REAP: Final = 2.0  # seconds until a killed child must be gone; one that waits for a device may take longer
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PIPE_SIZE: Final = 1 << 16

_enabled = False
_journal: int | None = None  # in a child: where it tells the parent what it needs to know


def enable() -> None:
    """Let `supervise` fork; for the program itself, not for others that call its functions."""
    global _enabled  # noqa: PLW0603 - one a process
    _enabled = True


def disable() -> None:
    """Let `supervise` do nothing; for a process that goes on in the background by itself."""
    global _enabled  # noqa: PLW0603 - as above
    _enabled = False


def supervise(modules: Sequence[Path], *, as_json: bool) -> None:
    """Fork, the first time a process asks for it. The child returns; the parent never does.

    Args:
        modules: The PKCS#11 modules that are about to be loaded, for messages.
        as_json: Whether errors are also told as a JSON document.
    """
    from tokensign.token import deadlines

    global _journal, _enabled  # noqa: PLW0603 - one a process
    if not _enabled:
        return
    _enabled = False
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # or both processes would write what waits there
    shared = deadlines.Deadlines()
    reading, writing = os.pipe()
    parent = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _Parent.PASSED_ON)
    child = os.fork()
    if child:
        os.close(writing)
        code = _EXIT_BUG
        try:
            waiting = _Parent(child, reading, shared, modules, as_json=as_json)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            code = waiting.wait()
        finally:
            os._exit(code)  # without an ending of its own: what is open here is the child's to end
    os.close(reading)
    _end_with(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the memory of a crashed module holds the PIN
    _journal = writing
    deadlines.install(shared)
    files.watch_outputs(_announce)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def tell_exit_code(code: int) -> None:
    """Tell the parent, if there is one, that all is done, whatever the module does when the process ends."""
    if _journal is not None:
        os.write(_journal, b"=%d\0" % code)


def _announce(path: Path) -> None:
    if _journal is not None:
        os.write(_journal, b"+%s\0" % os.fsencode(path.absolute()))


def _end_with(parent: int) -> None:
    """Let this process be killed when its parent ends, where the system can."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before that
            os._exit(128 + signal.SIGKILL)


class _Parent:
    """The process that waits.

    Args:
        child: The one that works.
        journal: What it tells: a temporary file before it makes it, its exit code when all is done.
        deadlines: When its threads must be out of the module.
        modules: The modules.
        as_json: As for `supervise`.
    """

    PASSED_ON = (*ENDING, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT)

    def __init__(
        self, child: int, journal: int, deadlines: Deadlines, modules: Sequence[Path], *, as_json: bool
    ) -> None:
        self._child = child
        self._journal = journal
        self._deadlines = deadlines
        self._module = " or ".join(map(str, modules))
        self._as_json = as_json
        self._told = b""
        self._leftovers = files.unfinished_outputs()
        self._ending: signal.Signals | None = None
        self._latest = float("inf")  # when the child must have ended
        self._looked = time.monotonic()
        self._stopped = 0.0  # seconds in which nobody could work
        for number in self.PASSED_ON:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._pass_on)

    def wait(self) -> int:
        """Wait for the child to end; the exit code."""
        hangs = False
        while (status := self._look()) is None:
            self._looked = time.monotonic()
            hangs = self._exit_code is None and self._deadlines.any_missed(self._stopped)
            if hangs or self._looked > self._latest:
                status = self._kill()
                break
        if self._exit_code is not None:
            return self._exit_code
        if os.WIFEXITED(status):
            return os.WEXITSTATUS(status)
        self._remove_leftovers()
        if self._ending is not None:
            number = self._ending
            return self._tell(ENDING[number], NOTHING_LEFT, 128 + number)
        if hangs:
            return self._tell(
                f"the PKCS#11 module {self._module} hangs: a call did not come back in time",
                "look at the token and its driver; token-timeout in the configuration gives it more time",
            )
        number = signal.Signals(os.WTERMSIG(status))
        if number in _FAULTS:
            return self._tell(
                f"the process crashed ({number.name}) while it used the PKCS#11 module {self._module}",
                "no file is half-written; update the module, or report the crash to those who make it",
            )
        return self._tell(f"the process was killed ({number.name})", None, 128 + number)

    def _look(self) -> int | None:
        """Wait a little for news of the child; its status when it has ended."""
        if select.select([self._journal], [], [], _LOOK)[0]:
            news = os.read(self._journal, _PIPE_SIZE)
            self._told += news
            if not news:
                return os.waitpid(self._child, 0)[1]
            if self._exit_code is not None:
                self._latest = min(self._latest, time.monotonic() + _GRACE)
        pid, status = os.waitpid(self._child, os.WNOHANG)
        return status if pid else None

    @property
    def _exit_code(self) -> int | None:
        return next((int(entry[1:]) for entry in self._entries() if entry.startswith(b"=")), None)

    def _entries(self) -> list[bytes]:
        return self._told.split(b"\0")[:-1]

    def _kill(self) -> int:
        os.kill(self._child, signal.SIGKILL)
        end = time.monotonic() + _REAP
        while time.monotonic() < end:
            if os.waitpid(self._child, os.WNOHANG)[0]:
                break
            time.sleep(0.01)
        with contextlib.suppress(BlockingIOError):
            os.set_blocking(self._journal, False)
            self._told += os.read(self._journal, _PIPE_SIZE)
        return int(signal.SIGKILL)

    def _remove_leftovers(self) -> None:
        told = (Path(os.fsdecode(entry[1:])) for entry in self._entries() if entry.startswith(b"+"))
        for path in (*self._leftovers, *told):
            with contextlib.suppress(OSError):
                path.unlink()

    def _tell(self, message: str, hint: str | None, code: int = _EXIT_TOKEN) -> int:
        kind = "ModuleError" if code == _EXIT_TOKEN else "Interrupted"
        with contextlib.suppress(OSError):  # nobody listens any more
            print_error(message, hint, code, as_json=self._as_json, kind=kind)
            if sys.stdout is not None:
                sys.stdout.flush()
        return code

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        """A signal came; from a terminal, the child has got it too, and takes it once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, number)
        if number in ENDING and self._ending is None:
            self._ending = signal.Signals(number)
            self._latest = min(self._latest, time.monotonic() + _GRACE)
        elif number == signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)
        elif number == signal.SIGCONT:  # its calls were stopped, too
            self._stopped += time.monotonic() - self._looked
