"""The signals that end a command: a word about each, and no half-written file."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

import click

from tokensign.cli.output import print_error

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["ENDING", "NOTHING_LEFT", "SignalError", "catch_signals", "tell_the_end"]

ENDING: Final = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated",
    signal.SIGHUP: "the terminal is gone",
}
"""The signals that end a command in good order, and what is said."""

NOTHING_LEFT: Final = "no file is half-written; run it again"
"""The hint with it."""


class SignalError(BaseException):
    """A signal came that ends the process; raised wherever it is, so that temporary files go away."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


def catch_signals() -> None:
    """Let the signals raise `SignalError`, but for those that are ignored, as nohup has SIGHUP."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def tell_the_end(number: signal.Signals, *, as_json: bool) -> int:
    """Say that a signal ended the command; returns the exit code."""
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
    for other in ENDING:  # impatience, or the same signal by way of the parent, shall not spoil the ending
        signal.signal(other, signal.SIG_IGN)
    raise SignalError(signal.Signals(number))
