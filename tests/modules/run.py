"""Runs a command against a real PKCS#11 module, which is started for it and taken down after it.

    python -m tests.modules.run NAME -- COMMAND [ARGUMENT]...

The command finds the token through TOKENSIGN_MODULE, TOKENSIGN_TOKEN and TOKENSIGN_PIN_SOURCE, and may pull
it out with `tests.modules.control`. For example::

    python -m tests.modules.run piv -- tokensign key list
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.modules import control
from tests.modules.base import NotStartedError, inherited
from tests.modules.registry import MODULES

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE_ERROR = 2
CANNOT_START = 69  # EX_UNAVAILABLE of sysexits.h


def run(name: str, command: Sequence[str]) -> int:
    """Start a module, run a command, take the module down; the command's exit code."""
    reason = MODULES[name].missing()
    if reason:
        _complain(f"{name} cannot be started here: {reason}")
        return CANNOT_START
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder, contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(MODULES[name].start(Path(folder)))
        except NotStartedError as error:
            _complain(f"{name} did not start: {error}")
            return CANNOT_START
        variables = inherited() | running.variables | stack.enter_context(control.serve(running))
        return subprocess.run(running.command(command), env=variables, check=False).returncode


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(arguments: Sequence[str]) -> int:
    """The command line; its exit code is the command's, or 69 where the module does not start."""
    match arguments:
        case [name, "--", _, *_] if name in MODULES:
            return run(name, arguments[2:])
        case _:
            _complain(f"usage: python -m tests.modules.run {{{'|'.join(MODULES)}}} -- COMMAND")
            return USAGE_ERROR


if __name__ == "__main__":
    os.umask(0o077)  # PIN files and token folders are for this user alone
    sys.exit(main(sys.argv[1:]))
