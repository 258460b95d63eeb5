"""A log that strangers cannot fill."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tokensign.authority import log_limit
from tokensign.authority.log_limit import SPOKEN_MAXIMUM, RepeatFilter

if TYPE_CHECKING:
    import pytest


def written(lines: RepeatFilter, text: str) -> bool:
    return lines.filter(logging.LogRecord("x", logging.ERROR, "x", 1, "no answer: %s", (text,), None))


def test_same_line_is_written_once_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(log_limit.time, "monotonic", lambda: now)
    lines = RepeatFilter()
    assert [written(lines, text) for text in ("a", "a", "b", "a")] == [True, False, True, False]
    now += log_limit.REPEAT_SECONDS
    assert [written(lines, text) for text in ("a", "a")] == [True, False]


def test_it_remembers_only_so_much() -> None:
    lines = RepeatFilter()
    assert all(written(lines, str(number)) for number in range(SPOKEN_MAXIMUM + 1))
    assert not written(lines, str(SPOKEN_MAXIMUM))
    assert written(lines, "0")
