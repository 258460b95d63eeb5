"""Sources that ask nobody: the environment, files, credentials of systemd, descriptors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tokensign.errors import PinUnavailableError, UsageError
from tokensign.token import Pin, PinRequest, PinSource, parse_pin_source
from tokensign.token.pin import FileSource

if TYPE_CHECKING:
    from pathlib import Path

PIN = "correct horse"
ACME = PinRequest(purpose="the token acme", account="acme")


def given_by(source: PinSource) -> str:
    pin = source.get(ACME)
    assert isinstance(pin, Pin)
    return pin.reveal().decode()


def private_file(folder: Path, content: str, name: str = "pin") -> Path:
    file = folder / name
    file.touch(mode=0o600)
    file.write_text(content, newline="")
    return file


# --- the environment


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PIN", PIN)
    source = parse_pin_source("env:MY_PIN")
    assert given_by(source) == PIN
    assert repr(source) == "EnvironmentSource('MY_PIN')"


@pytest.mark.parametrize("value", [None, ""])
def test_an_unset_variable_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("MY_PIN", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_PIN", value)
    with pytest.raises(PinUnavailableError, match=r"the token acme .* MY_PIN"):
        parse_pin_source("env:MY_PIN").get(ACME)


# --- files


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_one_line_end_of_a_file_is_not_part_of_the_pin(tmp_path: Path, end: str) -> None:
    file = private_file(tmp_path, PIN + end)
    assert given_by(parse_pin_source(f"file:{file}")) == PIN


@pytest.mark.parametrize(("content", "pin"), [(f"{PIN}\n\n", f"{PIN}\n"), (f"{PIN}\r", f"{PIN}\r")])
def test_what_is_no_single_line_end_is_part_of_the_pin(tmp_path: Path, content: str, pin: str) -> None:
    assert given_by(FileSource(private_file(tmp_path, content))) == pin


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_longest_pin_is_read(tmp_path: Path, end: str) -> None:
    assert given_by(FileSource(private_file(tmp_path, "x" * 255 + end))) == "x" * 255


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o777])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = private_file(tmp_path, PIN)
    file.chmod(mode)
    with pytest.raises(PinUnavailableError, match="others than its owner") as refusal:
        FileSource(file).get(ACME)
    assert refusal.value.hint == f"chmod 600 {file}"
    assert PIN not in str(refusal.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    file = private_file(tmp_path, PIN)
    os.chown(file, 12345, -1)
    with pytest.raises(PinUnavailableError, match="belongs to another user"):
        FileSource(file).get(ACME)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no PIN"),
        ("\n", "holds no PIN"),
        ("x" * 256, "more than a PIN"),
        ("x" * 256 + "\n", "more than a PIN"),
        ("x" * 999, "more than a PIN"),
    ],
)
def test_a_file_without_a_pin_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(PinUnavailableError, match=message):
        FileSource(private_file(tmp_path, content)).get(ACME)


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(PinUnavailableError, match="not a regular file"):
        FileSource(tmp_path / "fifo").get(ACME)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    source = FileSource(tmp_path / "none")
    with pytest.raises(PinUnavailableError, match="none: No such file"):
        source.get(ACME)
    assert "none" in repr(source)


# --- credentials of systemd


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600])
def test_from_a_credential_with_the_modes_that_systemd_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    private_file(tmp_path, f"{PIN}\n", "acme.pin").chmod(mode)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    source = parse_pin_source("credential:acme.pin")
    assert given_by(source) == PIN
    assert repr(source) == "CredentialSource('acme.pin')"


@pytest.mark.parametrize("mode", [0o404, 0o460, 0o450, 0o777])
def test_a_credential_that_others_can_use_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    private_file(tmp_path, PIN).chmod(mode)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(PinUnavailableError, match="others than its owner"):
        parse_pin_source("credential:pin").get(ACME)


def test_a_credential_without_systemd_says_what_the_unit_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(PinUnavailableError, match="CREDENTIALS_DIRECTORY is not set") as refusal:
        parse_pin_source("credential:pin").get(ACME)
    assert refusal.value.hint
    assert "LoadCredential=pin:" in refusal.value.hint


def test_a_credential_that_was_not_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(PinUnavailableError, match="pin: No such file"):
        parse_pin_source("credential:pin").get(ACME)


@pytest.mark.parametrize("name", ["../pin", "/etc/pin", "a/b", ".", "..", "a\0b"])
def test_a_credential_outside_of_its_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="without a folder"):
        parse_pin_source(f"credential:{name}")


# --- file descriptors


def test_from_a_descriptor_once_and_remembered() -> None:
    reader, writer = os.pipe()
    os.write(writer, PIN.encode() + b"\n")
    os.close(writer)
    source = parse_pin_source(f"fd:{reader}")
    first = source.get(ACME)
    assert first
    first.wipe()
    assert given_by(source) == PIN
    assert repr(source) == f"DescriptorSource({reader})"
    os.close(reader)


def test_a_descriptor_that_gives_the_pin_in_pieces_is_read_to_its_end() -> None:
    reader, writer = os.pipe()
    if not os.fork():
        os.close(reader)
        for letter in PIN:
            os.write(writer, letter.encode())
        os._exit(0)
    os.close(writer)
    assert given_by(parse_pin_source(f"fd:{reader}")) == PIN
    os.close(reader)
    os.wait()


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    with pytest.raises(PinUnavailableError, match="file descriptor 987: Bad file descriptor"):
        parse_pin_source("fd:987").get(ACME)
