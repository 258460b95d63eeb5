"""Many processes that use one token at the same moment."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.place import clean_environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.place import Place

PROCESSES = 20
PROGRAM = """
import sys
from tokensign.algorithms import default_scheme
from tokensign.token import open_key, open_token
print("ready", flush=True)
sys.stdin.readline()
with open_token(sys.argv[1], "acme", "env:TOKEN_PIN") as token:
    key = open_key(token, "alice")
    key.sign(b"message", default_scheme(key.public_key))
print("signed", flush=True)
"""


@pytest.mark.parametrize("_", [0, *(pytest.param(number, marks=pytest.mark.full) for number in range(1, 6))])
def test_twenty_processes_that_log_in_at_once_all_sign_and_send_the_pin_once(
    _: int, place: Place, shim: Path, module_path: Path, user_pin: str
) -> None:
    """SoftHSM rewrites a file in C_Login, and whoever starts in that moment sees no token, or half a one."""
    processes = []
    for number in range(PROCESSES):
        environment = place.shimmed(shim, module_path) | {
            "SHIM_LOG": str(place.folder / f"calls-{number}"),
            "TOKEN_PIN": user_pin,
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, shim],
                env=clean_environment() | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    ends = [process.communicate(timeout=60) for process in processes]
    assert [end for end in ends if end != ("signed\n", "")] == []
    for number in range(PROCESSES):
        calls = (place.folder / f"calls-{number}").read_text()
        assert calls.count("C_Login 1") == 1
