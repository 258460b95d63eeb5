"""Rates, counted by a clock of the test; and hours of the week."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tokensign.errors import ForbiddenError, RateError, UsageError
from tokensign.service.hours import Hours
from tokensign.service.rates import Rate, Rates


class Clock:
    """Seconds that a test lets go by."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


TEN = Rate.parse("10/s")


def test_what_was_used_comes_back_as_the_time_goes_by(clock: Clock) -> None:
    rates = Rates(clock)
    rates.take([("alice", TEN)], 10)
    with pytest.raises(RateError) as refused:
        rates.take([("alice", TEN)], 3)
    assert refused.value.retry_after == pytest.approx(0.3)
    clock.now += refused.value.retry_after
    rates.take([("alice", TEN)], 3)
    with pytest.raises(RateError):
        rates.take([("alice", TEN)], 1)
    clock.now += 60
    rates.take([("alice", TEN)], 10)  # and no more than that comes back


def test_more_than_a_rate_ever_allows_is_not_worth_waiting_for(clock: Clock) -> None:
    with pytest.raises(ForbiddenError, match="11 at once"):
        Rates(clock).take([("alice", TEN)], 11)


def test_what_one_rate_refuses_counts_against_no_other(clock: Clock) -> None:
    rates = Rates(clock)
    rates.take([("key", TEN)], 10)
    with pytest.raises(RateError):
        rates.take([("alice", TEN), ("key", TEN)], 5)
    rates.take([("alice", TEN)], 10)


def test_rates_are_counted_apart(clock: Clock) -> None:
    rates = Rates(clock)
    for name in ("alice", "bob"):
        rates.take([(name, TEN)], 10)


def test_processes_together_keep_to_the_rate(clock: Clock) -> None:
    processes = [Rates(clock) for _ in range(2)]
    done = 0
    for _ in range(400):
        clock.now += 0.05
        for one in processes:
            try:
                one.take([("alice", TEN)], 1, share=1 / 2)
            except RateError:
                continue
            done += 1
    assert done == pytest.approx(20 * 10 + 2 * 10, abs=4)  # twenty seconds, and what both may give at once


@pytest.mark.parametrize(
    ("text", "rate"), [("600/m", Rate(600, 60)), ("1000/h", Rate(1000, 3600)), ("5/d", Rate(5, 86400))]
)
def test_rates_are_written_in_words(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate


@pytest.mark.parametrize("text", ["", "10", "0/s", "10/w", "-1/s", "1.5/s", "10/ s", "1e9/s", "9999999999/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no rate"):
        Rate.parse(text)


MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("08:00-18:00", [(1, 8, 0), (7, 17, 59)], [(1, 7, 59), (1, 18, 0)]),
        ("mon-fri 08:00-18:00", [(1, 8, 0), (5, 17, 59)], [(6, 12, 0), (7, 12, 0)]),
        ("Sat 00:00-24:00", [(6, 0, 0), (6, 23, 59)], [(5, 23, 59), (7, 0, 0)]),
        ("fri-mon 10:00-11:00", [(5, 10, 0), (6, 10, 30), (7, 10, 59), (1, 10, 0)], [(2, 10, 0), (4, 10, 0)]),
    ],
)
def test_hours_include_what_they_say(
    hours: str, inside: list[tuple[int, int, int]], outside: list[tuple[int, int, int]]
) -> None:
    parsed = Hours.parse(hours)
    for expected, moments in ((True, inside), (False, outside)):
        for day, hour, minute in moments:
            moment = MONDAY.replace(day=22 + day, hour=hour, minute=minute)
            assert parsed.include(moment) is expected


@pytest.mark.parametrize(
    "text", ["", "8:00-18:00", "18:00-08:00", "08:00-08:00", "08:60-09:00", "00:00-24:01", "moo 08:00-09:00",
             "mon- 08:00-09:00", "mon-fri", "mon-fri 08:00"],
)  # fmt: skip
def test_what_are_no_hours_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="are no hours"):
        Hours.parse(text)
