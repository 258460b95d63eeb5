"""The terminal of the person who runs this, whatever standard input and output are."""

from __future__ import annotations

import contextlib
import os
import select
import termios
from typing import TYPE_CHECKING, Final

from tokensign.token.pin.value import PIN_MAXIMUM_SIZE, Pin

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Terminal", "terminal"]

_TERMINAL: Final = "/dev/tty"
_LOCAL_MODES: Final = 3  # the place of c_lflag in what termios gives
_LOOK: Final = 0.25  # seconds between two looks whether a signal came: a person feels no delay


class Terminal:
    """A terminal that is open.

    Args:
        descriptor: Its file descriptor.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tell(self, text: str) -> None:
        """Write text as it is."""
        os.write(self._descriptor, text.encode(errors="replace"))

    @contextlib.contextmanager
    def unchanged(self) -> Iterator[None]:
        """Put its modes back after the block, whatever another program left."""
        before = termios.tcgetattr(self._descriptor)
        try:
            yield
        finally:
            with contextlib.suppress(OSError, termios.error):  # it may be gone meanwhile
                if termios.tcgetattr(self._descriptor) != before:
                    termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, before)

    def read_secret(self, prompt: str) -> Pin | None:
        """A line that is typed without echo, into memory that is overwritten; None where nothing is typed.

        Raises:
            PinUnavailableError: It is longer than a PIN can be.
        """
        with self.unchanged():
            silent = termios.tcgetattr(self._descriptor)
            silent[_LOCAL_MODES] &= ~termios.ECHO
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, silent)
            self.tell(prompt)
            try:
                return self._read_line()
            finally:
                with contextlib.suppress(OSError):  # as above
                    self.tell("\n")

    def _read_line(self) -> Pin | None:
        buffer = bytearray(PIN_MAXIMUM_SIZE + 2)
        size = 0
        try:
            with memoryview(buffer) as view:
                while size < len(buffer) and b"\n" not in buffer:
                    self._wait_for_input()
                    count = os.readv(self._descriptor, [view[size:]])
                    if not count:
                        break
                    size += count
                end = buffer.find(b"\n") if b"\n" in buffer else size
                return Pin(view[:end]) if end else None
        finally:
            buffer[:] = bytes(len(buffer))

    def _wait_for_input(self) -> None:
        """Wait until a read does not block.

        A signal that comes just before a read begins does not end it: Python has noted the signal, handles it
        after the read, and so ^C would have to be typed twice.
        """
        while not select.select([self._descriptor], [], [], _LOOK)[0]:
            pass


@contextlib.contextmanager
def terminal() -> Iterator[Terminal]:
    """The controlling terminal.

    Raises:
        OSError: There is none.
    """
    descriptor = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        yield Terminal(descriptor)
    finally:
        os.close(descriptor)
