"""What the real PKCS#11 modules of the tests have in common.

A `RealModule` starts all that its module needs, in a private folder, and takes it down again. What it starts
is a `RunningModule`: the library, the environment in which to load it, and one token with its PINs. A module
is loaded once a process, with the environment of that process; so what uses it runs in processes of its own::

    with Softhsm().start(folder) as running:
        running.run([sys.executable, "-m", "tokensign", "key", "list"])

`python -m tests.modules.run NAME -- COMMAND` does the same by hand.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from tests import launcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

__all__ = [
    "ENDS_WITH_PARENT",
    "REPOSITORY",
    "CannotError",
    "NotStartedError",
    "RealModule",
    "RunningModule",
    "process",
    "wait_for",
    "write_pin_file",
]

REPOSITORY: Final = Path(__file__).parents[2]
COMMAND_TIMEOUT: Final = 120.0  # seconds for a command; the slowest, key generation on a TPM, takes some
START_TIMEOUT: Final = 20.0  # seconds until a process that was started must answer
ENDS_WITH_PARENT: Final = ("setpriv", "--pdeathsig", "KILL")
"""Runs a command that the system kills when its parent is killed."""
_STOP_TIMEOUT: Final = 5.0  # seconds for a process to end before it is killed
_PAUSE: Final = 0.02  # seconds between two looks at what is waited for


class NotStartedError(Exception):
    """What a module needs did not start, or not in time."""


class CannotError(Exception):
    """The module cannot do what was asked of it, such as losing its token."""


@dataclass(kw_only=True)
class RunningModule:
    """A module that can be loaded, with one token that is set up.

    Attributes:
        path: The library.
        environment: The variables to set before it is loaded.
        token_label: The name of the token.
        user_pin: The user's PIN.
        so_pin: The security officer's PIN, or what the token has in its place.
        pin_file: A private file with the user's PIN.
    """

    path: Path
    environment: dict[str, str]
    token_label: str
    user_pin: str
    so_pin: str
    pin_file: Path

    removable: ClassVar[bool] = False
    """Whether `remove` and `insert` work."""

    def unlock(self) -> None:
        """Put the user's PIN right again and its counter back, after tests with wrong PINs.

        Raises:
            CannotError: The module has no way to.
        """
        raise CannotError(f"{type(self).__name__} does not unlock a PIN")

    def remove(self) -> None:
        """Pull the token out, and wait until the module's world has noticed.

        Raises:
            CannotError: It cannot be removed.
        """
        raise CannotError(f"{type(self).__name__} does not lose its token")

    def remove_at(self, command: str) -> None:
        """Let the token go when it gets a certain command next, which then has no answer.

        Args:
            command: Its name in `counts`.

        Raises:
            CannotError: It does not see its commands.
        """
        raise CannotError(f"{type(self).__name__} does not see when {command} comes")

    def insert(self) -> None:
        """Put the same token back in, and wait until it can be used.

        Raises:
            CannotError: It cannot be removed.
        """
        raise CannotError(f"{type(self).__name__} does not lose its token")

    def counts(self) -> Counter[str]:
        """What the token itself counted since it was started, by name; nothing where it does not count."""
        return Counter()

    @property
    def variables(self) -> dict[str, str]:
        """All that a process needs in its environment to use the token with tokensign."""
        return {
            **self.environment,
            "TOKENSIGN_MODULE": str(self.path),
            "TOKENSIGN_TOKEN": self.token_label,
            "TOKENSIGN_PIN_SOURCE": f"file:{self.pin_file}",
        }

    def command(self, command: Sequence[str]) -> list[str]:
        """The command that runs another one where the module lives, such as inside a chroot."""
        return list(command)

    def run(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = COMMAND_TIMEOUT,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command where the module lives, to its end, with `variables` set.

        Args:
            command: The program and its arguments.
            environment: More variables, which win.
            stdin: The command's input.
            timeout: Seconds after which it is killed.

        Raises:
            subprocess.TimeoutExpired: It did not end in time.
        """
        return launcher.run(
            self.command(command),
            environment=inherited() | self.variables | dict(environment or {}),
            stdin=stdin,
            timeout=timeout,
        )


class RealModule(ABC):
    """A module that the tests can start. One object can start it any number of times."""

    name: ClassVar[str]
    """How it is called on command lines and in tables."""

    @abstractmethod
    def missing(self) -> str | None:
        """What this machine lacks to start it, in words, or None."""

    @abstractmethod
    def start(self, folder: Path) -> AbstractContextManager[RunningModule]:
        """Start all that the module needs and set a token up; take all down at the end.

        Args:
            folder: An empty private folder.

        Raises:
            NotStartedError: Something did not start.
        """


def inherited() -> dict[str, str]:
    """This process's environment without a choice of token, and with the package of this repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOKENSIGN_")}
    return kept | {"PYTHONPATH": str(REPOSITORY), "LC_ALL": "C.UTF-8"}


def write_pin_file(path: Path, pin: str) -> Path:
    """Write a PIN into a file that only its owner can read; its path."""
    path.touch(mode=0o600)
    path.write_text(f"{pin}\n")
    return path


def wait_for(condition: Callable[[], object], what: str, timeout: float = START_TIMEOUT) -> None:
    """Wait until something is so.

    Raises:
        NotStartedError: It was not in time.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise NotStartedError(f"{what}: not within {timeout:g} s")
        time.sleep(_PAUSE)


@contextlib.contextmanager
def process(
    command: Sequence[str],
    *,
    log: Path,
    ready: Callable[[], object],
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the background, which ends with the block, or with this process at the latest.

    Args:
        command: The program and its arguments. It must not put itself into the background.
        log: A file for what it prints.
        ready: Tells whether it can be used.
        environment: More variables for it.
        descriptors: Open files that it inherits.

    Raises:
        NotStartedError: It ended, or was not ready in time. The message has the end of the log.
    """
    with log.open("wb") as output:
        started = subprocess.Popen(
            [*ENDS_WITH_PARENT, *command],
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=descriptors,
        )
    try:
        _wait_until_ready(started, command[0], log, ready)
        yield started
    finally:
        started.terminate()
        try:
            started.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def _wait_until_ready(
    started: subprocess.Popen[bytes], name: str, log: Path, ready: Callable[[], object]
) -> None:
    """Wait until a process can be used, or has ended.

    Raises:
        NotStartedError: It ended, or was not ready in time.
    """
    try:
        wait_for(lambda: started.poll() is not None or ready(), f"{name} is not ready")
        reason = f"{name} ended with {started.returncode}"
    except NotStartedError as error:
        reason = str(error)
    else:
        if started.returncode is None:
            return
    raise NotStartedError(f"{reason}: {log.read_text(errors='replace')[-500:]}")
