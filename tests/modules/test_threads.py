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


SECONDS = 60


@pytest.mark.full
@pytest.mark.parametrize("name", MODULES)
def test_eight_threads_sign_without_an_error(
    start_module: Callable[[str], RunningModule],
    record_property: Callable[[str, object], None],
    name: str,
) -> None:
    command = [sys.executable, "-m", "tests.modules.threads", str(SECONDS)]
    done = start_module(name).run(command, timeout=SECONDS + COMMAND_TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")
    record_property("tally", f"{name}, 8 threads for {SECONDS} s: {done.stdout.strip()}")
