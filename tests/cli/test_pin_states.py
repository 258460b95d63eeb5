"""Tokens whose PINs are in a state that SoftHSM does not have, and tokens with a PIN pad.

SoftHSM is loaded through `tests/modules/pad.c`, which sets the flags of its tokens.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.cli.conftest import Terminal

SOURCE = Path(__file__).parents[1] / "modules" / "pad.c"
FINAL_TRY, LOCKED, TO_BE_CHANGED, COUNT_LOW = "20000", "40000", "80000", "10000"  # CKF_USER_PIN_...
SO_FINAL_TRY, SO_LOCKED = "200000", "400000"  # CKF_SO_PIN_...
PIN_EXPIRED = "a3"  # CKR_PIN_EXPIRED


@pytest.fixture(scope="session")
def pad_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("pad") / "pad.so"
    include = next(Path("/usr/include").glob("p11-kit-1"), None)
    if shutil.which("cc") is None or include is None:
        pytest.skip("a C compiler and the headers of p11-kit are needed: cc, libp11-kit-dev")
    options = ["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{include}"]
    subprocess.run(["cc", *options, "-o", str(library), str(SOURCE), "-ldl"], check=True)
    return library


class Pad:
    """A token with a PIN pad, or with other flags."""

    def __init__(self, terminal: Terminal, library: Path, softhsm: Path) -> None:
        self._log = terminal.folder / "pad.log"
        self._pins = terminal.folder / "pad.pins"
        self.terminal = terminal
        terminal.environment.update(
            TOKENSIGN_MODULE=str(library),
            PAD_MODULE=str(softhsm),
            PAD_LOG=str(self._log),
            PAD_PINS=str(self._pins),
        )

    def types(self, *pins: str) -> None:
        """What the person types on the pad in the next command."""
        self._pins.write_text("".join(f"{pin}\n" for pin in pins))
        self._log.unlink(missing_ok=True)

    def shows(self, flags: str) -> None:
        self.terminal.environment["PAD_FLAGS"] = flags
        self._log.unlink(missing_ok=True)

    @property
    def calls(self) -> Sequence[str]:
        """The calls that took a PIN, and where it was typed."""
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def pad(terminal: Terminal, pad_library: Path, module_path: Path) -> Pad:
    return Pad(terminal, pad_library, module_path)


@pytest.fixture
def bare_pad(bare_terminal: Terminal, pad_library: Path, module_path: Path) -> Pad:
    return Pad(bare_terminal, pad_library, module_path)


# --- the PIN pad


@pytest.mark.parametrize("source", [None, "pad"])
def test_the_pin_is_typed_on_the_pad(pad: Pad, user_pin: str, source: str | None) -> None:
    pad.types(user_pin)
    pad.terminal.run("sign", "letter.txt", "--key", "alice", environment={"TOKENSIGN_PIN_SOURCE": source})
    assert pad.calls == ["C_Login 1 pad"]
    pad.terminal.run("verify", "letter.txt.p7s", "--content", "letter.txt", "--trust", "ca.pem")


def test_a_source_that_is_named_is_taken_although_there_is_a_pad(pad: Pad) -> None:
    pad.terminal.run("key", "list")
    assert pad.calls == ["C_Login 1 host"]


def test_a_wrong_pin_on_the_pad_is_tried_once(pad: Pad) -> None:
    pad.types("wrong", "wrong", "wrong")
    finished = pad.terminal.run("key", "list", "--pin-source", "pad", code=3)
    assert "the token acme refused the PIN; it was tried once" in finished.error
    assert pad.calls == ["C_Login 1 pad"]


def test_the_pin_is_changed_on_the_pad(pad: Pad, user_pin: str) -> None:
    pad.types(user_pin, "typed anew")
    pad.terminal.run("token", "change-pin", "--pin-source", "pad")
    assert pad.calls == ["C_SetPIN pad", "C_SetPIN pad"]
    pad.terminal.run("key", "list", "--pin-source", "env:NEW", environment={"NEW": "typed anew"})


def test_half_a_change_on_the_pad_is_refused_before_anything_is_tried(pad: Pad) -> None:
    finished = pad.terminal.run("token", "change-pin", "--new-pin-source", "pad", code=2)
    assert "both typed on the token's PIN pad, or neither" in finished.error
    assert pad.calls == []


def test_the_pin_is_unblocked_on_the_pad(pad: Pad, so_pin: str) -> None:
    pad.types(so_pin, "typed anew")
    pad.terminal.run("token", "unblock-pin")
    assert pad.calls == ["C_Login 0 pad", "C_InitPIN pad"]
    pad.terminal.run("key", "list", "--pin-source", "env:NEW", environment={"NEW": "typed anew"})


def test_the_officers_pin_is_changed_on_the_pad(pad: Pad, so_pin: str) -> None:
    pad.types(so_pin, so_pin, "typed anew")
    pad.terminal.run("token", "change-pin", "--so")
    assert pad.calls == ["C_Login 0 pad", "C_SetPIN pad", "C_SetPIN pad"]


def test_a_token_is_set_up_on_the_pad(bare_pad: Pad, so_pin: str, user_pin: str) -> None:
    bare_pad.types(so_pin, so_pin, user_pin)
    bare_pad.terminal.run("token", "init", "acme", environment={"TOKENSIGN_PIN_SOURCE": None})
    assert bare_pad.calls == ["C_InitToken pad", "C_Login 0 pad", "C_InitPIN pad"]
    bare_pad.terminal.run("key", "list")


def test_the_pad_is_told_of(pad: Pad) -> None:
    told = pad.terminal.run("token", "info", "--json").json
    assert told["protected_authentication_path"] is True


# --- the last try


LOGGING_IN = (
    ("key", "list"),
    ("sign", "letter.txt", "--key", "alice"),
    ("decrypt", "secret.p7m", "-o", "back.txt"),
    ("token", "change-pin", "--new-pin-source", "file:pin"),
)


@pytest.mark.parametrize("command", LOGGING_IN, ids=" ".join)
def test_the_last_try_is_refused_unless_it_is_asked_for(pad: Pad, command: tuple[str, ...]) -> None:
    pad.shows(FINAL_TRY)
    finished = pad.terminal.run(*command, code=3)
    assert "has one try left, and a wrong one locks it; it was not tried" in finished.error
    assert "add --last-try" in finished.error
    assert pad.calls == []
    pad.terminal.run("--last-try", *command)
    assert pad.calls[0] in {"C_Login 1 host", "C_SetPIN host"}


@pytest.mark.parametrize(
    "command",
    [
        ("token", "unblock-pin", "--so-pin-source", "file:so-pin", "--new-pin-source", "file:pin"),
        ("token", "change-pin", "--so", "--so-pin-source", "file:so-pin", "--new-pin-source", "file:so-pin"),
    ],
    ids=["unblock-pin", "change-pin"],
)
def test_the_officers_last_try_is_refused_unless_it_is_asked_for(pad: Pad, command: tuple[str, ...]) -> None:
    pad.shows(SO_FINAL_TRY)
    finished = pad.terminal.run(*command, code=3)
    assert "the security officer PIN of the token acme has one try left" in finished.error
    assert pad.calls == []
    pad.terminal.run(*command, "--last-try")
    assert pad.calls[0] == "C_Login 0 host"


@pytest.mark.parametrize("extra", [(), ("--last-try",)], ids=["plain", "last-try"])
@pytest.mark.parametrize(
    ("flags", "command", "message", "hint"),
    [
        (LOCKED, ("key", "list"), "the user PIN of the token acme is locked", "token unblock-pin"),
        (SO_LOCKED, ("token", "unblock-pin"), "security officer PIN of the token acme is locked", "own tool"),
    ],
    ids=["user", "officer"],
)
def test_a_locked_pin_is_not_even_asked_for(
    pad: Pad, flags: str, command: tuple[str, ...], message: str, hint: str, extra: tuple[str, ...]
) -> None:
    pad.shows(flags)
    finished = pad.terminal.run(*command, *extra, code=3, environment={"TOKENSIGN_PIN_SOURCE": "env:NOT_SET"})
    assert message in finished.error
    assert hint in finished.error
    assert pad.calls == []


# --- other states


def test_an_expired_pin_says_how_it_is_changed(pad: Pad) -> None:
    finished = pad.terminal.run("key", "list", code=3, environment={"PAD_LOGIN": PIN_EXPIRED})
    assert "the PIN of the token acme has expired, or must be changed before it is used" in finished.error
    assert "tokensign token change-pin" in finished.error
    assert pad.calls == ["C_Login 1 host"]


@pytest.mark.parametrize(
    ("flags", "state", "words"),
    [
        (COUNT_LOW, "count-low", "a wrong one was given since the last right one"),
        (FINAL_TRY, "final-try", "one try is left, and a wrong one locks it"),
        (LOCKED, "locked", "locked"),
        (TO_BE_CHANGED, "to-be-changed", "must be changed"),
    ],
)
def test_the_state_is_told_in_words_and_for_programs(pad: Pad, flags: str, state: str, words: str) -> None:
    pad.shows(flags)
    assert words in pad.terminal.run("token", "info").text
    assert pad.terminal.run("token", "info", "--json").json["pin_state"] == state
