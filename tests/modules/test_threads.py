"""Eight threads on one token, with each module."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.modules.base import COMMAND_TIMEOUT
from tests.modules.registry import MODULES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.modules.base import RunningModule


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", MODULES)
def test_eight_threads_sign_without_an_error(
    start_module: Callable[[str], RunningModule],
    record_property: Callable[[str, object], None],
    name: str,
    seconds: int,
) -> None:
    command = [sys.executable, "-m", "tests.modules.threads", str(seconds)]
    done = start_module(name).run(command, timeout=seconds + COMMAND_TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")
    record_property("tally", f"{name}, 8 threads for {seconds} s: {done.stdout.strip()}")
