"""Rates: how much in how long, and counting against them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensign.errors import ForbiddenError, RateError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

__all__ = ["Rate", "Rates"]

_RATE: Final = re.compile(r"([1-9][0-9]{0,8})/([smhd])")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a time. All of them may come at once; more come as the time goes by.

    Attributes:
        count: How many.
        seconds: In how long.
    """

    count: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Rate:
        """A rate such as 10/s, 600/m, 1000/h or 5000/d.

        Raises:
            UsageError: It is none.
        """
        match = _RATE.fullmatch(text)
        if match is None:
            raise UsageError(f"{text!r} is no rate", hint="write 10/s, 600/m, 1000/h or 5000/d")
        return cls(int(match[1]), _SECONDS[match[2]])


class Rates:
    """Counts against rates, in the memory of this process (the generic cell rate algorithm).

    Several processes each count for themselves. So in each, what was used comes back at its share of the rate
    only: over time the sum is within the rate, and less where one process gets most requests. At once, each
    of them lets as many through as the rate says.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._free_at: dict[Hashable, float] = {}  # when all of a rate would be there again

    def take(self, wanted: Sequence[tuple[Hashable, Rate]], count: int, share: float = 1.0) -> None:
        """Count against several rates; against none of them where one does not allow it.

        Args:
            wanted: The rates, each with what tells it from others.
            count: How many.
            share: The part of each rate at which this process gives back, above 0 and at most 1.

        Raises:
            ForbiddenError: It is more than a rate ever allows.
            RateError: It is more than a rate allows now.
        """
        now = self._clock()
        taken: dict[Hashable, float] = {}
        for name, rate in wanted:
            if count > rate.count:
                raise ForbiddenError(
                    f"{count} at once is more than a rate of {rate.count} in {rate.seconds:g} s allows",
                    hint="ask for fewer in one request",
                )
            interval = rate.seconds / rate.count / share
            length = rate.count * interval
            taken[name] = max(self._free_at.get(name, now), now) + count * interval
            if taken[name] > now + length + _ROUNDING:
                raise RateError(
                    f"the rate of {rate.count} in {rate.seconds:g} s is exhausted",
                    retry_after=taken[name] - now - length,
                    hint="try again later",
                )
        self._free_at.update(taken)


_ROUNDING: Final = 1e-6  # seconds by which sums of floats may be off
