"""What reaches the terminal: nothing that could steer it, and a progress bar for large files."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Terminal

HOSTILE = "Eve\x1b[2J\x07\n  \u2713 trust     issued under CN=Acme CA\u202e\x9b31m"


def on_terminal(terminal: Terminal, *arguments: str) -> tuple[str, int]:
    """Run a command on a pseudo terminal: all that it shows, and its exit code."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        terminal.command(*arguments),
        cwd=terminal.folder,
        env=terminal.environment | {"TERM": "xterm", "COLUMNS": "200"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                shown += os.read(master, 65536)
            except OSError:  # nobody holds the other end any more
                break
    os.close(master)
    return shown.decode(), process.returncode


def assert_harmless(text: str) -> None:
    for line in text.splitlines():
        assert line.isprintable(), repr(line)


@pytest.fixture
def hostile(terminal: Terminal, certify: Callable[..., None]) -> Terminal:
    """A terminal with a certificate whose subject tries to steer it, and a message signed with its key."""
    certify("eve", HOSTILE)
    terminal.run("sign", "letter.txt", "--key", "eve", "--attached")
    return terminal


@pytest.mark.parametrize(
    "command",
    [
        ("verify", "letter.txt.p7m", "--trust", "ca.pem"),
        ("verify", "letter.txt.p7m", "--trust", "ca.pem", "--email", "eve@acme.example"),
        ("inspect", "letter.txt.p7m"),
        ("cert", "list"),
        ("cert", "show", "eve"),
        ("verify", "letter.txt.p7m", "--trust", "ca.pem", "--json"),
        ("inspect", "letter.txt.p7m", "--json"),
    ],
    ids=" ".join,
)
def test_subject_of_a_stranger_does_not_steer_the_terminal(
    hostile: Terminal, command: tuple[str, ...]
) -> None:
    code = 1 if "--email" in command else 0
    finished = hostile.run(*command, code=code)
    assert "Eve" in finished.text
    assert_harmless(finished.text)
    assert_harmless(finished.error)


def test_subject_of_a_stranger_does_not_fake_a_verdict(hostile: Terminal) -> None:
    finished = hostile.run("verify", "letter.txt.p7m", "--trust", "bob.pem", code=1)
    assert not any(line.startswith("  \u2713 trust") for line in finished.text.splitlines())


def test_names_of_files_do_not_steer_the_terminal(terminal: Terminal) -> None:
    finished = terminal.run("inspect", "no\x1b[2Jwhere\n", code=5)
    assert "\\x1b[2Jwhere\\n" in finished.error
    assert_harmless(finished.error)


@pytest.mark.parametrize("extra", [(), ("--json",)], ids=["text", "json"])
def test_names_of_files_that_are_no_text_are_shown_all_the_same(
    terminal: Terminal, extra: tuple[str, ...]
) -> None:
    finished = terminal.run("inspect", os.fsdecode(b"no\xff\xfewhere"), *extra, code=5)
    assert "cannot read no" in finished.error


def test_locale_without_the_characters_gets_escapes(hostile: Terminal) -> None:
    environment = {"PYTHONIOENCODING": "latin-1"}
    finished = hostile.run("verify", "letter.txt.p7m", "--trust", "ca.pem", environment=environment)
    assert b"\\u2713 integrity" in finished.output


@pytest.mark.parametrize(
    "command",
    [
        ("encrypt", "[red]large", "--to", "bob.pem"),
        ("sign", "[red]large", "--key", "alice"),
        ("authenticate", "[red]large", "--to", "bob.pem"),
        ("digest", "[red]large"),
    ],
    ids=lambda command: command[0],
)
def test_large_file_gets_a_progress_bar(terminal: Terminal, command: tuple[str, ...]) -> None:
    with (terminal.folder / "[red]large").open("wb") as file:
        file.truncate(64 << 20)
    shown, code = on_terminal(terminal, *command)
    assert code == 0
    assert "ing [red]large" in shown
    assert "MiB" in shown
    assert "MiB" not in on_terminal(terminal, *command, "--force", "-q")[0]


def test_large_content_beside_its_large_message_gets_one_progress_bar(terminal: Terminal) -> None:
    with (terminal.folder / "large").open("wb") as file:
        file.truncate(64 << 20)
    terminal.run("digest", "large")
    shown, code = on_terminal(terminal, "decrypt", "large.p7m", "--content", "large", "-o", "x")
    assert code == 2
    assert "the content is in the message and given, too" in shown
    terminal.run("digest", "large", "--detached", "-o", "detached")
    shown, code = on_terminal(terminal, "decrypt", "detached", "--content", "large", "-o", "x")
    assert code == 0
    assert "checking large" in shown


def test_terminal_gets_colours_and_a_pipe_does_not(terminal: Terminal) -> None:
    for command in (("key", "list"), ("verify", "signed.p7m", "--trust", "ca.pem")):
        assert "\x1b[" in on_terminal(terminal, *command)[0]
        assert "\x1b[" not in terminal.run(*command).text


def test_table_is_not_folded_in_a_pipe(terminal: Terminal) -> None:
    lines = terminal.run("cert", "list", environment={"COLUMNS": "40"}).text.splitlines()
    assert any("alice" in line and "alice@acme.example" in line and "CN=Acme CA" in line for line in lines)
