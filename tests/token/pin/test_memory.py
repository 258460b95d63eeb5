"""What is left of a PIN in the memory of a process, which its parent reads while it lives."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.token.pin.conftest import Console

PIN: Final = "zebra-7913-quagga"
HOLD: Final = """
    import gc, sys
    from tokensign.token import PinRequest, parse_pin_source

    def say(text):
        print(text, flush=True)
        sys.stdin.readline()

    pin = parse_pin_source(sys.argv[1]).get(PinRequest(purpose="the token acme"))
    say("held")
    pin.wipe()
    gc.collect()
    say("wiped")
"""
LOG_IN: Final = """
    import gc, sys
    from tokensign.token import open_token

    def say(text):
        print(text, flush=True)
        sys.stdin.readline()

    with open_token(sys.argv[2], sys.argv[3], sys.argv[1]) as token:
        token.log_in()
        say("held")
    gc.collect()
    say("wiped")
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the memory of a process")


def occurrences(pid: int, secret: bytes) -> int:
    """How many times the writable memory of a process holds some octets."""
    found = 0
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            area = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if not area or "[vvar" in line:
                continue
            start, end = (int(number, 16) for number in area.groups())
            memory.seek(start)
            found += memory.read(end - start).count(secret)
    return found


def go_on(terminal: Console, said: str) -> None:
    """Wait for the process to say where it is, and look while it waits; the caller lets it go on."""
    assert terminal.process.stdout
    assert terminal.process.stdout.readline() == f"{said}\n".encode()


def let_go(terminal: Console) -> None:
    assert terminal.process.stdin
    terminal.process.stdin.write(b"\n")
    terminal.process.stdin.flush()


@pytest.fixture
def pin_file(tmp_path: Path) -> Path:
    file = tmp_path / "acme.pin"
    file.touch(mode=0o600)
    file.write_text(f"{PIN}\n")
    return file


def held_then_wiped(terminal: Console) -> tuple[int, int]:
    counts = []
    for state in ("held", "wiped"):
        go_on(terminal, state)
        counts.append(occurrences(terminal.process.pid, PIN.encode()))
        let_go(terminal)
    assert terminal.finish() == ""
    return counts[0], counts[1]


@pytest.mark.parametrize("source", ["file:{path}", "credential:acme.pin", "fd:9"])
def test_nothing_is_left_of_a_pin_that_was_read(
    console: Callable[..., Console], pin_file: Path, source: str
) -> None:
    opening = f"import os\nos.dup2(os.open({str(pin_file)!r}, os.O_RDONLY), 9)\n"
    terminal = console(
        opening + textwrap.dedent(HOLD),
        source.format(path=pin_file),
        environment={"CREDENTIALS_DIRECTORY": str(pin_file.parent)},
    )
    held, wiped = held_then_wiped(terminal)
    assert (held, wiped) == (1, 0)


@pytest.mark.parametrize("source", ["prompt", "pinentry"])
def test_nothing_is_left_of_a_pin_that_was_typed(console: Callable[..., Console], source: str) -> None:
    program = shutil.which("pinentry-tty")
    if source == "pinentry" and program is None:
        pytest.skip("pinentry-tty is not installed")
    terminal = console(HOLD, source, environment={"PINENTRY_PROGRAM": program or ""})
    terminal.expect(": ")
    terminal.type(f"{PIN}\n")
    assert held_then_wiped(terminal) == (1, 0)


def test_nothing_is_left_of_a_pin_after_the_token_was_closed(
    console: Callable[..., Console],
    new_token: Callable[..., str],
    module_path: Path,
    pin_file: Path,
    user_pin: str,
) -> None:
    pin_file.write_text(user_pin)
    terminal = console(LOG_IN, f"file:{pin_file}", str(module_path), new_token())
    counts = []
    for state in ("held", "wiped"):
        go_on(terminal, state)
        counts.append(occurrences(terminal.process.pid, user_pin.encode()))
        let_go(terminal)
    assert terminal.finish() == ""
    assert counts[0] >= 1
    assert counts[1] == 0


def test_the_environment_keeps_its_pin(console: Callable[..., Console]) -> None:
    """So the manual warns of it."""
    held, wiped = held_then_wiped(console(HOLD, "env:ACME", environment={"ACME": PIN}))
    assert held > wiped > 0


def test_what_is_searched_for_is_found() -> None:
    secret = os.urandom(16)
    assert occurrences(os.getpid(), secret) >= 1
