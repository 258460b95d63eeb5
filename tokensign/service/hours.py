"""Hours of the week at which a grant holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensign.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Hours"]

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS: Final = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? )?([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")
_MINUTES: Final = 60
_DAY_MINUTES: Final = 24 * _MINUTES


@dataclass(frozen=True, slots=True)
class Hours:
    """Some hours on some days, in UTC.

    Attributes:
        days: Counted from Monday, 0.
        start: Minutes after midnight.
        end: Minutes after midnight, not included.
    """

    days: frozenset[int]
    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Hours such as "08:00-18:00", "sat 09:00-12:00" or "mon-fri 08:00-18:00".

        Raises:
            UsageError: They are none; they may not reach over midnight.
        """
        match = _HOURS.fullmatch(text.lower())
        if match is not None:
            first, last, *clock = match.groups()
            start, end = _minutes(clock[0], clock[1]), _minutes(clock[2], clock[3])
            names = {None, *_DAYS}
            if start is not None and end is not None and start < end and {first, last} <= names:
                return cls(_days(first, last), start, end)
        raise UsageError(
            f"{text!r} are no hours", hint='write "mon-fri 08:00-18:00", in UTC and within a day'
        )

    def include(self, moment: datetime) -> bool:
        """Whether a moment, in UTC, is among them."""
        return (
            moment.weekday() in self.days and self.start <= moment.hour * _MINUTES + moment.minute < self.end
        )


def _minutes(hours: str, minutes: str) -> int | None:
    total = int(hours) * _MINUTES + int(minutes)
    return total if int(minutes) < _MINUTES and total <= _DAY_MINUTES else None


def _days(first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(len(_DAYS)))
    start = _DAYS.index(first)
    end = start if last is None else _DAYS.index(last)
    count = (end - start) % len(_DAYS) + 1
    return frozenset((start + step) % len(_DAYS) for step in range(count))
