"""The real pinentry, on a terminal at which the test types."""

from __future__ import annotations

import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tokensign.errors import PinUnavailableError
from tokensign.token import PinRequest, parse_pin_source
from tokensign.token.pin import confirm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.token.pin.conftest import Console

ASK = """
    import sys
    from tokensign.errors import TokensignError
    from tokensign.token import PinRequest, parse_pin_source
    request = PinRequest(
        purpose="the token acme\\nOK", action="sign 100%41.txt (1,234 bytes) with the key alice\\x1b[2J",
        note="One try is left.", new="new" in sys.argv,
    )
    try:
        print(parse_pin_source("pinentry").get(request).reveal())
    except TokensignError as error:
        print(error, "/", error.hint)
"""


@pytest.fixture
def on_terminal(console: Callable[..., Console]) -> Callable[..., Console]:
    """Ask with pinentry-tty: `on_terminal("new")`."""
    program = shutil.which("pinentry-tty")
    if program is None:
        pytest.skip("pinentry-tty is not installed")
    return lambda *arguments: console(ASK, *arguments, environment={"PINENTRY_PROGRAM": program})


def test_pinentry_says_what_the_pin_is_for_and_gives_what_is_typed(
    on_terminal: Callable[..., Console],
) -> None:
    terminal = on_terminal()
    lines = (
        "PIN for the token acme\N{REPLACEMENT CHARACTER}OK",
        "To sign 100%41.txt (1,234 bytes) with the key alice\N{REPLACEMENT CHARACTER}[2J",
        "One try is left.",
    )
    terminal.expect("\r\n".join(lines))
    terminal.expect("PIN: ")
    terminal.type("50% grün\n")
    assert terminal.finish() == f"{'50% grün'.encode()!r}\n"
    assert b"50%" not in terminal.shown
    assert b"\x1b[2J" not in terminal.shown
    assert terminal.modes == terminal.before


def test_a_new_pin_is_typed_twice_in_pinentry(on_terminal: Callable[..., Console]) -> None:
    terminal = on_terminal("new")
    terminal.expect("PIN: ")
    terminal.type("4711\n")
    terminal.expect("Once more: ")
    terminal.type("4712\n")
    terminal.expect("The two PINs differ")
    terminal.expect("PIN: ")
    terminal.type("4713\n")
    terminal.expect("Once more: ")
    terminal.type("4713\n")
    assert terminal.finish() == "b'4713'\n"


@pytest.mark.parametrize(
    ("typed", "reason"),
    [("\x04", "it was cancelled in pinentry"), ("\n", "nothing was typed in pinentry")],
    ids=["cancelled", "nothing"],
)
def test_no_pin_in_pinentry_is_told(on_terminal: Callable[..., Console], typed: str, reason: str) -> None:
    terminal = on_terminal()
    terminal.expect("PIN: ")
    terminal.type(typed)
    assert f": {reason} / run it again" in terminal.finish()


def test_an_interrupt_ends_pinentry_and_gives_the_terminal_back(on_terminal: Callable[..., Console]) -> None:
    terminal = on_terminal()
    terminal.expect("PIN: ")
    terminal.type("12\x03")
    assert "KeyboardInterrupt" in terminal.finish()
    assert terminal.process.returncode == -signal.SIGINT
    assert terminal.modes == terminal.before
    with pytest.raises(ProcessLookupError):
        os.killpg(terminal.process.pid, 0)


@pytest.mark.parametrize(("typed", "answer"), [("a", "True"), ("r", "False")])
def test_a_person_confirms_in_pinentry(console: Callable[..., Console], typed: str, answer: str) -> None:
    program = shutil.which("pinentry-tty")
    if program is None:
        pytest.skip("pinentry-tty is not installed")
    script = """
        from tokensign.token.pin import confirm
        print(confirm("/bin/x wants to sign\\nOK", ["on the token 50%"]))
    """
    terminal = console(script, environment={"PINENTRY_PROGRAM": program})
    terminal.expect("/bin/x wants to sign\N{REPLACEMENT CHARACTER}OK\r\non the token 50%")
    terminal.type(typed)
    assert terminal.finish() == f"{answer}\n"


def test_without_pinentry_nothing_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINENTRY_PROGRAM", "/nowhere/pinentry")
    with pytest.raises(PinUnavailableError, match="nobody can be asked"):
        confirm("sign", [])


def test_the_form_of_curses_is_filled_in(console: Callable[..., Console]) -> None:
    program = shutil.which("pinentry-curses")
    if program is None:
        pytest.skip("pinentry-curses is not installed")
    terminal = console(ASK, environment={"PINENTRY_PROGRAM": program})
    terminal.expect("<Cancel>")
    terminal.type("4711\r")
    assert terminal.finish() == "b'4711'\n"


def test_a_pinentry_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINENTRY_PROGRAM", "/nonexistent/pinentry")
    with pytest.raises(PinUnavailableError, match="does not start: No such file") as refusal:
        parse_pin_source("pinentry").get(PinRequest(purpose="the token acme"))
    assert refusal.value.hint == "install pinentry, or name it with PINENTRY_PROGRAM"


def test_gnupg_says_which_pinentry_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path / "of gnupg", "echo OK; while read line; do echo 'ERR 99 chosen'; done")
    program(tmp_path / "gpgconf", f"echo 'gpg:OpenPGP:/bin/gpg'; echo 'pinentry:Entry:{tmp_path}/of%20gnupg'")
    program(tmp_path / "pinentry", "echo ERR 1 not this one")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("PINENTRY_PROGRAM", raising=False)
    with pytest.raises(PinUnavailableError, match="cancelled"):
        parse_pin_source("pinentry").get(PinRequest(purpose="the token acme"))
    program(tmp_path / "gpgconf", "exit 2")
    with pytest.raises(PinUnavailableError, match="not this one"):
        parse_pin_source("pinentry").get(PinRequest(purpose="the token acme"))


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
