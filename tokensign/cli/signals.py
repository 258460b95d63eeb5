"""The signals that end a command: a word about each, and no half-written file."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

import click

from tokensign.cli.output import print_error

if TYPE_CHECKING:
    from types import FrameType

__all__ = [
    "ENDING",
    "NOTHING_LEFT",
    "SignalError",
    "catch_signals",
    "say_no_lost_signal",
    "signal_behind",
    "tell_the_end",
]

ENDING: Final = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "the terminal is gone",
}
"""The signals that end a command in good order, and what is said."""

NOTHING_LEFT: Final = "no file is half-written; run it again"
"""The hint with it."""

_LOOK: Final = 1.0  # seconds between two looks whether the ending goes on, which takes less as a rule

_caught: list[signal.Signals] = []  # those that are not ignored, one list a process


class SignalError(BaseException):
    """A signal came that ends the process; raised wherever it is, so that temporary files go away."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


def catch_signals() -> None:
    """Let the signals raise `SignalError`, but for those that are ignored, as nohup has SIGHUP."""
    _caught[:] = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    for number in _caught:
        signal.signal(number, _end)


def say_no_lost_signal() -> None:
    """Say nothing of a `SignalError` that the interpreter drops, as in its callbacks: it is raised again."""
    tell = sys.unraisablehook

    def notice(lost: sys.UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, SignalError):
            tell(lost)

    sys.unraisablehook = notice


def signal_behind(error: BaseException) -> signal.Signals | None:
    """The signal for whose `SignalError` an error stands: the interpreter wraps some in a RuntimeError."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, SignalError):
            return behind.number
        behind = behind.__cause__
    return None


def tell_the_end(number: signal.Signals, *, as_json: bool) -> int:
    """Say that a signal ended the command; returns the exit code."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    for other in _caught:
        signal.signal(other, signal.SIG_IGN)
    if sys.stderr is not None and sys.stderr.isatty():
        click.echo(err=True)  # after the ^C, or the prompt, that stands there
    return print_error(
        ENDING[number],
        NOTHING_LEFT,
        128 + number,
        as_json=as_json,
        kind="Interrupted",
    )


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    for other in _caught:  # impatience, or the same signal by way of the parent, shall not spoil the ending
        signal.signal(other, _spare)
    signal.signal(signal.SIGALRM, lambda *_: _look(number))
    signal.setitimer(signal.ITIMER_REAL, _LOOK, _LOOK)
    raise SignalError(signal.Signals(number))


def _spare(_number: int, _frame: FrameType | None) -> None:
    """Do nothing; unlike SIG_IGN, no program that is started inherits it."""


def _look(number: int) -> None:
    """Let the signal come again, where the ending does not go on.

    Python drops exceptions in destructors and in callbacks, such as those of its import system, and libraries
    drop all of them in places ("except: pass"). A signal that comes there would be lost, and each later one.
    """
    handled = sys.exc_info()[1]
    while handled is not None:
        if isinstance(handled, SignalError):
            return
        handled = handled.__context__
    for other in _caught:
        if signal.getsignal(other) is _spare:
            signal.signal(other, _end)
    os.kill(os.getpid(), number)
