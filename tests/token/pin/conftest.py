"""A program on a terminal of its own, at which the tests of PINs type."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import textwrap
import time
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TIMEOUT: Final = 60.0  # seconds until a program must have written or ended


class Console:
    """A Python program on a pseudo terminal, which is its controlling terminal.

    Args:
        script: The program.
        arguments: Its arguments.
        environment: Variables besides those of this process; None for one that it shall not have.
    """

    def __init__(
        self, script: str, *arguments: str, environment: Mapping[str, str | None] | None = None
    ) -> None:
        self._master, self._slave = pty.openpty()
        self.before = termios.tcgetattr(self._slave)
        self.shown = b""
        self._seen = 0
        variables = os.environ | {"TERM": "xterm", "LC_ALL": "C.UTF-8"} | dict(environment or {})
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), *arguments],
            env={name: value for name, value in variables.items() if value is not None},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(self._slave, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads here
        )

    def close(self) -> None:
        """End the program, if it still runs, and the terminal."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        os.close(self._master)
        os.close(self._slave)

    def expect(self, text: str) -> None:
        """Wait until the terminal shows a text after what was waited for before."""
        deadline = time.monotonic() + TIMEOUT
        while text.encode() not in self.shown[self._seen :]:
            assert time.monotonic() < deadline, self.shown
            self._read(0.5)
        self._seen = self.shown.index(text.encode(), self._seen) + len(text.encode())

    def type(self, text: str) -> None:
        """Type, after the program has switched the echo off."""
        deadline = time.monotonic() + TIMEOUT
        while self.echoes:
            assert time.monotonic() < deadline, self.shown
            time.sleep(0.01)
        os.write(self._master, text.encode())

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    @property
    def modes(self) -> list[object]:
        """The terminal's modes as they are now."""
        return list(termios.tcgetattr(self._slave))

    def finish(self) -> str:
        """What the program printed, apart from the terminal, when it has ended."""
        output, _ = self.process.communicate(timeout=TIMEOUT)
        while self._read(0.1):
            pass
        return output.decode()

    def _read(self, timeout: float) -> bool:
        if not select.select([self._master], [], [], timeout)[0]:
            return False
        self.shown += os.read(self._master, 65536)
        return True


@pytest.fixture
def console() -> Iterator[Callable[..., Console]]:
    """Run a Python program on a terminal: `console(script, *arguments, environment={...})`."""
    opened: list[Console] = []

    def start(script: str, *arguments: str, environment: Mapping[str, str | None] | None = None) -> Console:
        opened.append(Console(script, *arguments, environment=environment))
        return opened[-1]

    yield start
    for entry in opened:
        entry.close()
