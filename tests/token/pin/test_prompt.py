from __future__ import annotations

import signal
import sys
import textwrap
from subprocess import PIPE, run
from typing import TYPE_CHECKING

import pytest
from unmeasured import UNMEASURED

from tokensign.token import PromptSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.token.pin.conftest import Console

ASK = """
    import sys
    from tokensign.errors import TokensignError
    from tokensign.token import PinRequest, PromptSource
    request = PinRequest(
        purpose="the token acme\\x1b[2J", action="sign a\\nb.txt (1,234 bytes)", new="new" in sys.argv
    )
    try:
        print(PromptSource().get(request).reveal())
    except TokensignError as error:
        print(error)
"""


def test_without_a_terminal_the_prompt_says_how_to_give_the_pin() -> None:
    script = """
        from tokensign.errors import PinUnavailableError
        from tokensign.token import PinRequest, PromptSource
        try:
            PromptSource().get(PinRequest(purpose="the token acme"))
        except PinUnavailableError as error:
            print(error, "/", error.hint)
    """
    done = run(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=PIPE, capture_output=True, text=True, check=True, start_new_session=True,
    )  # fmt: skip
    assert done.stdout.startswith("a PIN is needed for the token acme, and there is no terminal")
    assert "--pin-source env:NAME" in done.stdout


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("correct horse\n", "b'correct horse'\n"),
        ("corr\x7fect\n", "b'corect'\n"),
        ("grün\n", f"{'grün'.encode()!r}\n"),
        ("four\x04\x04", "b'four'\n"),
        ("x" * 255 + "\n", f"b'{'x' * 255}'\n"),
        ("x" * 256 + "\n", "a PIN has 1 to 255 bytes\n"),
        ("x" * 999 + "\n", "a PIN has 1 to 255 bytes\n"),
    ],
    ids=["plain", "corrected", "utf-8", "no-enter", "longest", "too-long", "far-too-long"],
)
def test_what_is_typed_is_read_without_echo(
    console: Callable[..., Console], typed: str, expected: str
) -> None:
    terminal = console(ASK)
    terminal.expect("PIN for the token acme\N{REPLACEMENT CHARACTER}[2J: ")
    terminal.type(typed)
    assert terminal.finish() == expected
    assert terminal.modes == terminal.before
    assert typed.strip().encode() not in terminal.shown


@pytest.mark.parametrize("typed", ["\x04", "\n"])
def test_nothing_typed_is_no_pin(console: Callable[..., Console], typed: str) -> None:
    terminal = console(ASK)
    terminal.expect(": ")
    terminal.type(typed)
    assert terminal.finish().startswith("no PIN was typed for the token acme")


def test_the_prompt_says_what_the_pin_is_for_in_lines_that_names_cannot_break(
    console: Callable[..., Console],
) -> None:
    terminal = console(ASK)
    terminal.expect("To sign a\N{REPLACEMENT CHARACTER}b.txt (1,234 bytes)\r\nPIN for the token acme")
    terminal.type("1234\n")
    terminal.finish()
    assert b"\x1b" not in terminal.shown


@pytest.mark.parametrize(
    ("again", "expected"), [("new pin\n", "b'new pin'\n"), ("new bin\n", "the two PINs differ\n")]
)
def test_a_new_pin_is_typed_twice(console: Callable[..., Console], again: str, expected: str) -> None:
    terminal = console(ASK, "new")
    terminal.expect("[2J: ")
    terminal.type("new pin\n")
    terminal.expect("[2J, once more: ")
    terminal.type(again)
    assert terminal.finish() == expected


def test_what_was_typed_before_the_prompt_is_no_pin(console: Callable[..., Console]) -> None:
    script = "input('go? ')\n" + textwrap.dedent(ASK)
    terminal = console(script)
    terminal.process.stdin.write(b"\n")  # type: ignore[union-attr]  # it is a pipe
    terminal.process.stdin.flush()  # type: ignore[union-attr]  # as above
    terminal.expect("[2J: ")
    terminal.type("1234\n")
    assert terminal.finish().endswith("b'1234'\n")


def test_an_interrupt_gives_the_terminal_back(console: Callable[..., Console]) -> None:
    terminal = console(ASK, environment=UNMEASURED)
    terminal.expect("[2J: ")
    terminal.type("12\x03")
    assert "KeyboardInterrupt" in terminal.finish()
    assert terminal.process.returncode == -signal.SIGINT
    assert terminal.modes == terminal.before


def test_a_prompt_shows_nothing_of_itself() -> None:
    assert repr(PromptSource()) == "PromptSource()"
