"""What the cases of the suite come to: one cell of the table each."""

from __future__ import annotations

import enum
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CannotDoError", "Case", "Cell", "State", "attempt"]


class CannotDoError(Exception):
    """The module cannot do what a case wants; the message is what the module itself said."""


class State(enum.StrEnum):
    """How a case ended."""

    PASSED = "passed"
    UNSUPPORTED = "unsupported"
    FAILED = "failed"


@dataclass(frozen=True)
class Case:
    """One thing that a program does with a token.

    Attributes:
        table: Under which heading it is told.
        row: Its name.
        run: Does it. It raises `CannotDoError` where the module cannot, and anything else where it fails.
    """

    table: str
    row: str
    run: Callable[[], None]


@dataclass(frozen=True)
class Cell:
    """The outcome of one case with one module.

    Attributes:
        table: As in `Case`.
        row: As in `Case`.
        state: How it ended.
        reason: Why it did not pass, otherwise nothing.
        seconds: How long it took.
    """

    table: str
    row: str
    state: State
    reason: str
    seconds: float


def attempt(case: Case) -> Cell:
    """Run a case to its end, whatever that is."""
    started = time.monotonic()
    state, reason = State.PASSED, ""
    try:
        case.run()
    except CannotDoError as refusal:
        state, reason = State.UNSUPPORTED, str(refusal)
    except Exception as failure:  # noqa: BLE001 - the others are still to run; the table tells of it
        place = traceback.extract_tb(failure.__traceback__)[-1]
        state = State.FAILED
        reason = f"{type(failure).__name__}: {failure} ({place.filename}:{place.lineno})"
    return Cell(case.table, case.row, state, reason, round(time.monotonic() - started, 2))
