"""The modules, started for the tests, and tokensign run against them in processes of its own."""

from __future__ import annotations

import contextlib
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# The tests are loaded by path; what they import from `tests.modules` also runs without pytest.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.modules import control
from tests.modules.base import COMMAND_TIMEOUT
from tests.modules.registry import MODULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import CompletedProcess

    from tests.modules.base import RunningModule

PRELUDE = """
    import os
    from tests.modules.control import Control
    from tokensign.algorithms import KeySpec, default_scheme
    from tokensign.errors import PinError, TokenError, TokenRemovedError
    from tokensign.keys import Pkcs1Transport
    from tokensign.token import *

    module = load_module(os.environ["TOKENSIGN_MODULE"])

    def opened(pin=os.environ["TOKENSIGN_PIN_SOURCE"], **options):
        return open_token(module, os.environ["TOKENSIGN_TOKEN"], pin, **options)

    def sign(key, message=b"message"):
        return key.sign(message, default_scheme(key.public_key))
"""


@pytest.fixture(scope="session")
def start_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], RunningModule]]:
    """A module by its name, started at its first use; skips where it cannot be."""
    started: dict[str, RunningModule] = {}
    with contextlib.ExitStack() as stack:

        def start(name: str) -> RunningModule:
            if name not in started:
                if reason := MODULES[name].missing():
                    pytest.skip(f"{name}: {reason}")
                started[name] = stack.enter_context(MODULES[name].start(tmp_path_factory.mktemp(name)))
            return started[name]

        yield start


@pytest.fixture(scope="session")
def tokensign() -> Callable[..., CompletedProcess[str]]:
    """Run the command line against a module: `tokensign(running, "key", "list")`."""

    def run(
        running: RunningModule, *arguments: str, timeout: float = COMMAND_TIMEOUT
    ) -> CompletedProcess[str]:
        return running.run([sys.executable, "-m", "tokensign", *arguments], timeout=timeout)

    return run


@pytest.fixture(scope="session")
def python() -> Callable[[RunningModule, str], str]:
    """Run some lines with the library against a module, after PRELUDE; gives what they print."""

    def run(running: RunningModule, lines: str) -> str:
        program = textwrap.dedent(PRELUDE) + textwrap.dedent(lines)
        with control.serve(running) as variables:
            done = running.run([sys.executable, "-c", program], environment=variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run
