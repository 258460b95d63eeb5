"""PINs on the command line: tried once, typed without echo, and taken only from where they are safe."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import subprocess
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from unmeasured import UNMEASURED

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Terminal, Trace

WRONG = "not-the-pin-4711"


@pytest.fixture
def wrong_pin(terminal: Terminal) -> str:
    """The source of a wrong PIN."""
    path = terminal.write("wrong-pin", WRONG)
    path.chmod(0o600)
    return f"file:{path}"


@pytest.mark.parametrize(
    "command",
    [
        ("key", "list"),
        ("sign", "letter.txt", "--key", "alice"),
        ("sign", "letter.txt", "--key", "alice", "--key", "bob"),
        ("decrypt", "secret.p7m", "-o", "output"),
        ("token", "change-pin", "--new-pin-source", "file:pin"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_wrong_pin_is_tried_once(
    terminal: Terminal, spy: Callable[[Terminal], Trace], wrong_pin: str, command: tuple[str, ...]
) -> None:
    trace = spy(terminal)
    finished = terminal.run(*command, "--pin-source", wrong_pin, code=3, environment=trace.environment)
    assert len(trace.calls("C_Login")) + len(trace.calls("C_SetPIN")) == 1
    told = finished.error + finished.text
    assert "the token acme refused the PIN; it was tried once" in told
    assert WRONG not in told
    assert not terminal.exists("letter.txt.p7s")
    assert not terminal.exists("output")


def test_wrong_officer_pin_is_tried_once(
    terminal: Terminal, spy: Callable[[Terminal], Trace], wrong_pin: str
) -> None:
    trace = spy(terminal)
    options = ("--so-pin-source", wrong_pin, "--new-pin-source", "file:pin")
    finished = terminal.run("token", "unblock-pin", *options, code=3, environment=trace.environment)
    assert len(trace.calls("C_Login")) == 1
    assert "refused the security officer's PIN; it was tried once" in finished.error


def test_wrong_pin_shows_in_the_counter_of_the_token_until_the_right_one_comes(
    terminal: Terminal, wrong_pin: str
) -> None:
    terminal.run("key", "list", "--pin-source", wrong_pin, code=3)
    assert terminal.run("token", "info", "--json").json["pin_state"] == "count-low"
    terminal.run("key", "list")
    assert terminal.run("token", "info", "--json").json["pin_state"] == "ok"


def test_one_login_serves_several_keys(terminal: Terminal, spy: Callable[[Terminal], Trace]) -> None:
    trace = spy(terminal)
    both = ("--key", "alice", "--key", "bob")
    terminal.run("sign", "letter.txt", *both, environment=trace.environment)
    assert len(trace.calls("C_Login")) == 1


class Console:
    """A command on a pseudo terminal of its own."""

    def __init__(self, terminal: Terminal, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self._slave = slave
        self.shown = b""
        environment = terminal.environment | {"TOKENSIGN_PIN_SOURCE": "prompt"}
        self.process = subprocess.Popen(
            terminal.command(*arguments),
            cwd=terminal.folder,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: take_terminal(slave),  # noqa: PLW1509 - no threads here
        )

    def expect(self, text: bytes) -> None:
        deadline = time.monotonic() + 30
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self._read()

    def type(self, text: str) -> None:
        os.write(self.master, text.encode() + b"\r")

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def finish(self) -> str:
        code = self.process.wait(timeout=30)
        while select.select([self.master], [], [], 0.2)[0]:
            self._read()
        os.close(self.master)
        os.close(self._slave)
        return f"{self.shown.decode()}[{code}]"

    def _read(self) -> None:
        if select.select([self.master], [], [], 1)[0]:
            self.shown += os.read(self.master, 65536)


ERASED = b"\x1b[1A\x1b[2K"  # one line up, and nothing in it any more


def take_terminal(slave: int) -> None:
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


def test_pin_is_typed_without_echo_at_a_prompt_that_names_the_token(
    terminal: Terminal, user_pin: str
) -> None:
    console = Console(terminal, "sign", "letter.txt", "--key", "alice")
    console.expect(b"To sign letter.txt (33 bytes) with the key alice\r\nPIN for the token acme: ")
    assert not console.echoes
    console.type(user_pin)
    shown = console.finish()
    assert shown.endswith("[0]")
    assert user_pin not in shown
    assert terminal.exists("letter.txt.p7s")


def test_prompt_tells_how_large_the_whole_mail_is(terminal: Terminal) -> None:
    terminal.write("letter.eml", "From: alice@acme.example\nTo: bob@acme.example\n\ntext\n")
    options = ("--to", "bob.pem", "--sign-with", "alice", "-o", "secret.eml")
    console = Console(terminal, "mail", "encrypt", "letter.eml", *options)
    console.expect(b"To sign letter.eml (52 bytes) with the key alice\r\nPIN for the token acme: ")
    console.type("\x04")
    console.finish()


def test_progress_bar_of_a_large_mail_makes_room_for_the_prompt(terminal: Terminal, user_pin: str) -> None:
    body = "All of it is one line after the other.\r\n" * (1 << 18)
    terminal.write("letter.eml", f"From: alice@acme.example\r\nTo: bob@acme.example\r\n\r\n{body}")
    terminal.run("mail", "encrypt", "letter.eml", "--to", "bob.pem", "-o", "secret.eml")
    terminal.environment["TERM"] = "xterm"
    console = Console(terminal, "mail", "open", "secret.eml", "--signature-only", "-o", "opened.eml")
    console.expect(b"PIN for the token acme: ")
    before, _, behind = console.shown.rpartition(b"To open secret.eml")
    assert b"opening secret.eml" in before
    assert before.endswith(ERASED)
    console.type(user_pin)
    shown = console.finish()
    assert shown.endswith("[0]")
    assert b"MiB" not in behind
    assert (terminal.folder / "opened.eml").stat().st_size >= len(body)


def test_wrong_pin_at_the_prompt_is_not_asked_for_again(terminal: Terminal) -> None:
    console = Console(terminal, "sign", "letter.txt", "--key", "alice", "--key", "bob")
    console.expect(b"PIN for the token acme: ")
    console.type(WRONG)
    shown = console.finish()
    assert shown.endswith("[3]")
    assert shown.count("PIN for") == 1
    assert "refused the PIN; it was tried once" in shown
    assert WRONG not in shown
    assert not terminal.exists("letter.txt.p7s")


def test_interrupt_at_the_prompt_gives_the_terminal_back(terminal: Terminal) -> None:
    for name in UNMEASURED:
        terminal.environment.pop(name, None)
    console = Console(terminal, "key", "list")
    console.expect(b"PIN for the token acme: ")
    os.write(console.master, b"\x03")
    console.expect(b"interrupted")
    assert console.process.wait(timeout=30) == 130
    assert console.echoes
    assert "Traceback" not in console.finish()


def test_end_of_input_at_the_prompt_is_no_pin(terminal: Terminal) -> None:
    console = Console(terminal, "key", "list")
    console.expect(b"PIN for the token acme: ")
    os.write(console.master, b"\x04")
    shown = console.finish()
    assert "no PIN was typed for the token acme" in shown
    assert shown.endswith("[3]")


def test_new_pin_is_typed_twice(terminal: Terminal, user_pin: str) -> None:
    console = Console(terminal, "token", "change-pin")
    console.expect(b"PIN for the token acme: ")
    console.type(user_pin)
    console.expect(b"the new one: ")
    console.type("first-4711")
    console.expect(b"once more: ")
    console.type("second-4711")
    shown = console.finish()
    assert "the two PINs differ" in shown
    assert shown.endswith("[2]")
    assert "4711" not in shown
    terminal.run("key", "list")  # with the old PIN


def test_new_pin_that_is_typed_the_same_way_twice_holds(terminal: Terminal, user_pin: str) -> None:
    console = Console(terminal, "token", "change-pin")
    console.expect(b"PIN for the token acme: ")
    console.type(user_pin)
    for prompt in (b"the new one: ", b"once more: "):
        console.expect(prompt)
        console.type("new-4711")
    assert console.finish().endswith("[0]")
    terminal.run("key", "list", code=3)
    terminal.run("key", "list", "--pin-source", "env:NEW", environment={"NEW": "new-4711"})


@pytest.mark.parametrize(("answer", "code", "there"), [("y", 0, False), ("n", 2, True)])
def test_deletion_is_confirmed_on_the_terminal(
    terminal: Terminal, user_pin: str, answer: str, code: int, *, there: bool
) -> None:
    console = Console(terminal, "key", "delete", "alice")
    console.expect(b"PIN for the token acme: ")
    console.type(user_pin)
    console.expect(b"Delete the key alice (rsa:2048) for ever?")
    console.type(answer)
    assert console.finish().endswith(f"[{code}]")
    labels = [key["label"] for key in terminal.run("key", "list", "--json").json]
    assert ("alice" in labels) is there


def test_end_of_input_at_a_question_deletes_nothing(terminal: Terminal, user_pin: str) -> None:
    console = Console(terminal, "key", "delete", "alice")
    console.expect(b"PIN for the token acme: ")
    console.type(user_pin)
    console.expect(b"for ever?")
    os.write(console.master, b"\x04")
    shown = console.finish()
    assert "interrupted" in shown
    assert shown.endswith("[130]")
    terminal.run("key", "show", "alice")


def test_without_a_terminal_the_message_says_how_to_give_the_pin(terminal: Terminal) -> None:
    finished = terminal.run("key", "list", code=3, environment={"TOKENSIGN_PIN_SOURCE": None})
    assert "a PIN is needed for the token acme, and there is no terminal to ask on" in finished.error
    assert "--pin-source env:NAME, file:PATH or fd:N" in finished.error


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_pin_file_that_others_can_use_is_refused(terminal: Terminal, mode: int) -> None:
    (terminal.folder / "pin").chmod(mode)
    finished = terminal.run("key", "list", code=3)
    assert "can be used by others than its owner" in finished.error
    assert "chmod 600" in finished.error


def test_pin_is_not_in_the_arguments_of_the_process(terminal: Terminal, user_pin: str) -> None:
    reading, writing = os.pipe()
    command = terminal.command("key", "list", "--pin-source", f"fd:{reading}")
    with subprocess.Popen(
        command,
        cwd=terminal.folder,
        env=terminal.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[reading],
    ) as process:
        os.write(writing, user_pin.encode())
        while not (arguments := Path(f"/proc/{process.pid}/cmdline").read_bytes()):
            pass  # the program is just being started
        os.close(writing)
        terminal.finish(process, 0)
    os.close(reading)
    assert b"--pin-source" in arguments
    assert user_pin.encode() not in arguments


@pytest.mark.parametrize(
    ("what", "secret"), [("password", "correct horse"), ("secret key", "00112233445566778899aabbccddeeff")]
)
def test_new_secret_of_a_message_is_typed_twice_without_echo(
    terminal: Terminal, what: str, secret: str
) -> None:
    source = (f"--{what.replace(' ', '-')}-source", "prompt")
    prompt = f"{what.capitalize()} for the message"
    console = Console(terminal, "encrypt", "letter.txt", *source)
    for asked in (f"{prompt}: ", f"{prompt}, once more: "):
        console.expect(asked.encode())
        assert not console.echoes
        console.type(secret)
    shown = console.finish()
    assert shown.endswith("[0]")
    assert secret not in shown
    console = Console(terminal, "decrypt", "letter.txt.p7m", *source, "-o", "back.txt")
    console.expect(f"{prompt}: ".encode())
    console.type(secret)
    assert console.finish().endswith("[0]")
    assert terminal.read("back.txt") == terminal.read("letter.txt")


def test_password_that_is_typed_in_two_ways_encrypts_nothing(terminal: Terminal) -> None:
    console = Console(terminal, "encrypt", "letter.txt", "--password-source", "prompt")
    console.expect(b"Password for the message: ")
    console.type("correct horse")
    console.expect(b"once more: ")
    console.type("correct house")
    shown = console.finish()
    assert "the two passwords differ" in shown
    assert shown.endswith("[2]")
    assert not terminal.exists("letter.txt.p7m")


@pytest.fixture
def each_time(terminal: Terminal, module_path: Path) -> str:
    """Alice's second key, which wants its PIN for each signature."""
    login = ["--token-label", "acme", "--login", "--pin", terminal.secrets[0]]
    key = ["--label", "careful", "--id", "99", "--key-type", "rsa:2048", "--always-auth"]
    subprocess.run(
        ["pkcs11-tool", "--module", module_path, *login, "--keypairgen", *key],
        env=terminal.environment, check=True, capture_output=True,
    )  # fmt: skip
    terminal.run("cert", "self-sign", "careful", "--subject", "CN=Alice")
    return "careful"


def test_key_that_wants_its_pin_each_time_is_told_of_before_it_is_asked_for(
    terminal: Terminal, user_pin: str, each_time: str
) -> None:
    console = Console(terminal, "sign", "letter.txt", "--key", each_time)
    console.expect(b"To sign letter.txt (33 bytes) with the key careful\r\nPIN for the token acme: ")
    console.type(user_pin)
    console.expect(b"the key careful wants its PIN for each signature\r\n1 more PIN will be asked for\r\n")
    console.expect(b"This key wants its PIN for each operation.\r\nPIN for the token acme: ")
    console.type(user_pin)
    shown = console.finish()
    assert shown.endswith("[0]")
    assert shown.count("PIN for the token acme") == 2
    assert terminal.exists("letter.txt.p7s")


def test_key_that_wants_its_pin_each_time_takes_it_from_a_file_without_a_word(
    terminal: Terminal, spy: Callable[[Terminal], Trace], each_time: str
) -> None:
    trace = spy(terminal)
    finished = terminal.run("sign", "letter.txt", "--key", each_time, environment=trace.environment)
    assert "PIN" not in finished.error
    calls = [name for name, _ in trace.all_calls()]
    start = calls.index("C_SignInit")
    assert calls[start : start + 3] == ["C_SignInit", "C_Login", "C_Sign"]
    assert len(trace.calls("C_Login")) == 2


def test_pinentry_says_what_is_decrypted(terminal: Terminal, user_pin: str) -> None:
    program = shutil.which("pinentry-tty")
    if program is None:
        pytest.skip("pinentry-tty is not installed")
    terminal.environment["PINENTRY_PROGRAM"] = program
    console = Console(terminal, "decrypt", "secret.p7m", "-o", "back.txt", "--pin-source", "pinentry")
    console.expect(b"PIN for the token acme\r\nTo decrypt secret.p7m (")
    console.expect(b"PIN: ")
    while console.echoes:
        time.sleep(0.01)
    console.type(user_pin)
    assert console.finish().endswith("[0]")
    assert terminal.read("back.txt") == terminal.read("letter.txt")
