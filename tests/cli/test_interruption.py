"""What is left when a command is stopped in the middle: a word about it, and no file."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from unmeasured import UNMEASURED

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tests.cli.conftest import Finished, Terminal

SIGNALS = {
    signal.SIGINT: (130, "interrupted"),
    signal.SIGTERM: (143, "terminated"),
    signal.SIGHUP: (129, "the terminal is gone"),
}
GIGABYTE = 1 << 30
MEGABYTE = 1 << 20
PATIENCE = 60.0  # seconds until a command has begun its work

every_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


@pytest.fixture
def terminal(terminal: Terminal) -> Terminal:
    """A shell whose commands can be interrupted anywhere."""
    for name in UNMEASURED:
        terminal.environment.pop(name, None)
    return terminal


def sparse(terminal: Terminal, name: str, size: int) -> None:
    """A large file that takes no room."""
    with (terminal.folder / name).open("wb") as file:
        file.truncate(size)


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "the process ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.001)


def stop(terminal: Terminal, process: subprocess.Popen[bytes], number: signal.Signals) -> Finished:
    code, word = SIGNALS[number]
    process.send_signal(number)
    finished = terminal.finish(process, code)
    assert finished.error.splitlines() == [f"error: {word}", "hint: no file is half-written; run it again"]
    assert finished.output == b""
    return finished


def writes(terminal: Terminal) -> bool:
    """Whether a temporary file has content already."""
    return any(path.stat().st_size for path in terminal.leftovers())


@every_signal
def test_stopped_signing_leaves_no_file(terminal: Terminal, number: signal.Signals) -> None:
    reading, writing = os.pipe()  # the PIN never comes, so the command waits with its output open
    arguments = ("letter.txt", "--key", "alice", "--pin-source", f"fd:{reading}")
    with terminal.start("sign", *arguments, pass_fds=[reading]) as process:
        wait_until(terminal.leftovers, process)
        stop(terminal, process, number)
    os.close(reading)
    os.close(writing)
    assert not terminal.exists("letter.txt.p7s")


@every_signal
def test_stopped_encrypting_leaves_no_file(terminal: Terminal, number: signal.Signals) -> None:
    sparse(terminal, "large", 2 * GIGABYTE)
    with terminal.start("encrypt", "large", "--to", "bob.pem") as process:
        wait_until(lambda: writes(terminal), process)
        stop(terminal, process, number)
    assert not terminal.exists("large.p7m")


def test_stopped_decrypting_leaves_no_file(terminal: Terminal) -> None:
    sparse(terminal, "large", 256 * MEGABYTE)
    terminal.run("encrypt", "large", "--to", "bob.pem")
    with terminal.start("decrypt", "large.p7m", "-o", "back") as process:
        wait_until(lambda: writes(terminal), process)
        stop(terminal, process, signal.SIGINT)
    assert not terminal.exists("back")


@every_signal
@pytest.mark.parametrize(
    "command", [("sign", "--key", "alice"), ("decrypt",)], ids=lambda command: command[0]
)
def test_stopped_reading_a_pipe_leaves_no_file(
    terminal: Terminal, command: tuple[str, ...], number: signal.Signals
) -> None:
    pipe = terminal.folder / "pipe"
    os.mkfifo(pipe)
    with terminal.start(*command, "pipe", "-o", "output") as process, pipe.open("wb") as writer:
        writer.write(bytes(MEGABYTE))  # more than a pipe holds, so the command has read some of it
        stop(terminal, process, number)
    assert not terminal.exists("output")


def test_interruption_keeps_the_file_that_was_there(terminal: Terminal) -> None:
    terminal.write("large.p7m", "an old one")
    sparse(terminal, "large", 2 * GIGABYTE)
    with terminal.start("encrypt", "large", "--to", "bob.pem", "--force") as process:
        wait_until(lambda: writes(terminal), process)
        stop(terminal, process, signal.SIGINT)
    assert terminal.read("large.p7m") == b"an old one"


def test_second_interrupt_does_not_spoil_the_ending(terminal: Terminal) -> None:
    sparse(terminal, "large", 2 * GIGABYTE)
    with terminal.start("encrypt", "large", "--to", "bob.pem") as process:
        wait_until(lambda: writes(terminal), process)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        finished = terminal.finish(process, 143)
    assert "terminated" in finished.error


def test_hangup_is_ignored_under_nohup(terminal: Terminal) -> None:
    reading, writing = os.pipe()
    arguments = ("letter.txt", "--key", "alice", "--pin-source", f"fd:{reading}")
    with terminal.start("sign", *arguments, prefix=["nohup"], pass_fds=[reading]) as process:
        wait_until(terminal.leftovers, process)
        process.send_signal(signal.SIGHUP)
        os.write(writing, terminal.read("pin"))
        os.close(writing)
        terminal.finish(process, 0)
    os.close(reading)
    assert terminal.exists("letter.txt.p7s")


def test_interruption_is_told_as_json(terminal: Terminal) -> None:
    reading, writing = os.pipe()
    arguments = ("letter.txt", "--key", "alice", "--pin-source", f"fd:{reading}", "--json")
    with terminal.start("sign", *arguments, pass_fds=[reading]) as process:
        wait_until(terminal.leftovers, process)
        process.send_signal(signal.SIGINT)
        finished = terminal.finish(process, 130)
    os.close(reading)
    os.close(writing)
    assert finished.json["error"]["type"] == "Interrupted"
