# ruff: noqa: T201 - a benchmark prints what it measured
"""Several ways to do the same thing, measured in turns."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Contender", "Rates", "measure", "print_table"]


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do it.

    Attributes:
        name: What to call it.
        repeat: Does it a number of times.
    """

    name: str
    repeat: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Rates:
    """What was measured about one contender.

    Attributes:
        name: The contender.
        per_second: Its rate in each round, by processor time.
        ratios: Its rate divided by that of the first contender in the same round.
    """

    name: str
    per_second: tuple[float, ...]
    ratios: tuple[float, ...]


def measure(contenders: Sequence[Contender], *, rounds: int, seconds: float) -> list[Rates]:
    """Let all take turns, in an order that moves on by one each round.

    Args:
        contenders: The first is the one that the others are compared with.
        rounds: How often each has its turn.
        seconds: How long a turn lasts, about.
    """
    counts = {one.name: _count(one, seconds) for one in contenders}
    found: list[dict[str, float]] = []
    for number in range(rounds):
        start = number % len(contenders)
        found.append(
            {one.name: _rate(one, counts[one.name]) for one in (*contenders[start:], *contenders[:start])}
        )
    first = contenders[0].name
    return [
        Rates(
            one.name,
            tuple(rates[one.name] for rates in found),
            tuple(rates[one.name] / rates[first] for rates in found),
        )
        for one in contenders
    ]


def _count(contender: Contender, seconds: float) -> int:
    """How many fill a turn; finding it out warms everything up."""
    count = 1
    while True:
        rate = _rate(contender, count)
        if count / rate > seconds / 4:
            return max(1, round(rate * seconds))
        count *= 2


def _rate(contender: Contender, count: int) -> float:
    """Per second of processor time: all happens in this process, SoftHSM too, and nothing waits."""
    begin = time.process_time()
    contender.repeat(count)
    return count / (time.process_time() - begin)


def print_table(title: str, measured: Sequence[Rates]) -> None:
    """The median rate and ratio, and the ratio of the best turns, which a busy machine disturbs least."""
    print(f"\n{title}\n{'median':>54}{'ratio':>24}{'best':>9}")
    for rates in measured:
        rate, ratio = statistics.median(rates.per_second), statistics.median(rates.ratios)
        best = max(rates.per_second) / max(measured[0].per_second)
        print(f"  {rates.name:<40}{rate:>9,.0f} /s {1e6 / rate:>9,.1f} us {ratio:>8.1%} {best:>8.1%}")
