from __future__ import annotations

import contextlib
import copy
import os
import pickle
import sys
import textwrap
from subprocess import PIPE, Popen, run
from typing import TYPE_CHECKING

import pytest

from tokensign.errors import PinUnavailableError, UsageError
from tokensign.token.pin import FileSource, Pin, PromptSource, parse_pin_source, pin_source_of
from tokensign.uri import KeyUri

if TYPE_CHECKING:
    from pathlib import Path

PIN = "correct horse"


def test_a_pin_is_hidden_wherever_it_is_shown() -> None:
    pin = Pin(PIN)
    assert pin.reveal() == PIN.encode()
    assert pin.get("anything") is pin
    for shown in (repr(pin), str(pin), f"{pin}", f"{[pin]!r}"):
        assert PIN not in shown
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not copied or stored"):
            attempt(pin)


def test_a_wiped_pin_is_gone() -> None:
    pin = Pin(PIN)
    pin.wipe()
    with pytest.raises(PinUnavailableError, match="forgotten"):
        pin.reveal()


@pytest.mark.parametrize("value", ["", "x" * 256])
def test_what_cannot_be_a_pin_is_refused(value: str) -> None:
    with pytest.raises(PinUnavailableError):
        Pin(value)


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PIN", PIN)
    source = parse_pin_source("env:MY_PIN")
    assert source.get("x").reveal() == PIN.encode()
    assert PIN not in repr(source)


@pytest.mark.parametrize("value", [None, ""])
def test_an_unset_variable_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("MY_PIN", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_PIN", value)
    with pytest.raises(PinUnavailableError, match=r"the token acme .* MY_PIN"):
        parse_pin_source("env:MY_PIN").get("the token acme")


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_one_line_end_of_a_file_is_not_part_of_the_pin(tmp_path: Path, end: str) -> None:
    file = private_file(tmp_path, PIN + end)
    assert parse_pin_source(f"file:{file}").get("x").reveal() == PIN.encode()


def test_further_line_ends_are_part_of_the_pin(tmp_path: Path) -> None:
    assert FileSource(private_file(tmp_path, PIN + "\n\n")).get("x").reveal() == PIN.encode() + b"\n"


def private_file(folder: Path, content: str) -> Path:
    file = folder / "pin"
    file.touch(mode=0o600)
    file.write_text(content, newline="")
    return file


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o777])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = private_file(tmp_path, PIN)
    file.chmod(mode)
    with pytest.raises(PinUnavailableError, match="others than its owner") as refusal:
        FileSource(file).get("x")
    assert refusal.value.hint == f"chmod 600 {file}"
    assert PIN not in str(refusal.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    file = private_file(tmp_path, PIN)
    os.chown(file, 12345, -1)
    with pytest.raises(PinUnavailableError, match="belongs to another user"):
        FileSource(file).get("x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no PIN"),
        ("\n", "holds no PIN"),
        ("x" * 256, "more than a PIN"),
        ("x" * 999, "more than a PIN"),
    ],
)
def test_a_file_without_a_pin_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(PinUnavailableError, match=message):
        FileSource(private_file(tmp_path, content)).get("x")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(PinUnavailableError, match="not a regular file"):
        FileSource(tmp_path / "fifo").get("x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    source = FileSource(tmp_path / "none")
    with pytest.raises(PinUnavailableError, match="none: No such file"):
        source.get("x")
    assert "none" in repr(source)


def test_from_a_descriptor_once_and_remembered() -> None:
    reader, writer = os.pipe()
    os.write(writer, PIN.encode() + b"\n")
    os.close(writer)
    source = parse_pin_source(f"fd:{reader}")
    first = source.get("x")
    first.wipe()
    assert source.get("x").reveal() == PIN.encode()
    assert repr(source) == f"DescriptorSource({reader})"
    os.close(reader)


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    with pytest.raises(PinUnavailableError, match="file descriptor 987: Bad file descriptor"):
        parse_pin_source("fd:987").get("x")


@pytest.mark.parametrize("kind", ["keyring:x", "credential:x", "pinentry", "pad"])
def test_sources_of_later_versions_say_so(kind: str) -> None:
    with pytest.raises(UsageError, match="not in this version"):
        parse_pin_source(kind)


@pytest.mark.parametrize("text", ["1234", "env:", "file:", "fd:x", "fd:", "fd:-1", "prompt:now", ""])
def test_a_source_that_is_not_understood_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_pin_source(text)
    assert "1234" not in str(refusal.value)


def test_a_uri_names_a_file(pin_file: Path, user_pin: str) -> None:
    for form in (f"file:{pin_file}", f"file://{pin_file}"):
        source = pin_source_of(KeyUri(pin_source=form))
        assert source is not None
        assert source.get("x").reveal() == user_pin.encode()
    assert pin_source_of(KeyUri()) is None


@pytest.mark.parametrize("source", ["|/bin/pin", "file:relative", "1234", "http://x/"])
def test_other_sources_of_a_uri_are_refused(source: str) -> None:
    with pytest.raises(UsageError, match="only pin-source=file"):
        pin_source_of(KeyUri(pin_source=source))


def test_a_pin_in_a_uri_is_refused() -> None:
    with pytest.raises(UsageError, match="shows the PIN"):
        pin_source_of(KeyUri(pin_value=PIN))


def test_without_a_terminal_the_prompt_says_how_to_give_the_pin() -> None:
    script = """
        from tokensign.errors import PinUnavailableError
        from tokensign.token import parse_pin_source
        try:
            parse_pin_source("prompt").get("the token acme")
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
    ("typed", "expected"), [(b"correct horse\n", "correct horse"), (b"\x04", "no PIN was typed")]
)
def test_on_a_terminal_the_prompt_does_not_echo(typed: bytes, expected: str) -> None:
    master, slave = os.openpty()
    script = f"""
        import os
        os.setsid()
        os.open({os.ttyname(slave)!r}, os.O_RDWR)  # becomes the controlling terminal
        from tokensign.errors import PinUnavailableError
        from tokensign.token import PromptSource
        try:
            print(PromptSource().get("the token acme\\x1b[2J").reveal().decode())
        except PinUnavailableError as error:
            print(error)
    """
    with Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=PIPE, text=True) as child:
        shown = b""
        while b": " not in shown:
            shown += os.read(master, 100)
        os.write(master, typed)
        assert child.stdout
        assert expected in child.stdout.read()
    os.set_blocking(master, False)
    with contextlib.suppress(BlockingIOError):
        shown += os.read(master, 1000)
    assert shown.startswith("PIN for the token acme\N{REPLACEMENT CHARACTER}[2J: ".encode())
    assert b"horse" not in shown
    os.close(master)
    os.close(slave)


def test_sources_show_what_they_are() -> None:
    assert repr(PromptSource()) == "PromptSource()"
    assert repr(parse_pin_source("env:A")) == "EnvironmentSource('A')"
