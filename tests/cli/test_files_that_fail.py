"""Inputs that cannot be read and outputs that cannot be written: a clear word, code 5, nothing half-done."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Terminal

SIGN = ("sign", "letter.txt", "--key", "alice")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.fixture
def unprivileged() -> tuple[str, ...]:
    """What runs a command so that permissions of files hold, also for root."""
    if os.geteuid() != 0:
        return ()
    if not shutil.which("setpriv"):
        pytest.skip("root reads every file, and there is no setpriv to make it otherwise")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@pytest.mark.parametrize("form", ["der", "pem", "smime"])
@pytest.mark.parametrize(
    "command",
    [("sign", "--key", "alice", "--attached"), ("encrypt", "--to", "bob.pem"), ("compress",)],
    ids=lambda it: it[0],
)
def test_full_disk_leaves_no_file(
    terminal: Terminal, small_disk: Path, command: tuple[str, ...], form: str
) -> None:
    terminal.write("large", os.urandom(2 << 20))
    finished = terminal.run(*command, "large", "--form", form, "-o", "small/output", code=5)
    assert finished.error == "error: cannot write small/output: No space left on device\n"
    assert list(small_disk.iterdir()) == []


def test_full_disk_leaves_no_decrypted_file(terminal: Terminal, small_disk: Path) -> None:
    terminal.write("large", os.urandom(2 << 20))
    terminal.run("encrypt", "large", "--to", "bob.pem")
    finished = terminal.run("decrypt", "large.p7m", "-o", "small/output", code=5)
    assert finished.error == "error: cannot write small/output: No space left on device\n"
    assert list(small_disk.iterdir()) == []


def test_full_folder_of_temporary_files_is_named_as_such(terminal: Terminal, small_disk: Path) -> None:
    environment = {"TMPDIR": str(small_disk)}
    with terminal.start(*SIGN[:1], "-", *SIGN[2:], stdin=subprocess.PIPE, environment=environment) as process:
        finished = terminal.finish(process, 5, given=os.urandom(12 << 20))
    assert finished.error.splitlines() == [
        "error: cannot write a temporary file: No space left on device",
        "hint: make room, or set TMPDIR to a folder that has some",
    ]


@pytest.mark.parametrize(
    "command",
    [
        ("sign", "nowhere", "--key", "alice"),
        ("sign", "letter.txt", "--key", "alice", "--chain", "nowhere"),
        ("sign", "letter.txt", "--key", "alice", "--add-to", "nowhere", "-o", "output"),
        ("verify", "nowhere", "--signature-only"),
        ("verify", "letter.txt", "--content", "nowhere", "--trust", "nowhere"),
        ("verify", "letter.txt", "--trust", "ca.pem", "--crl", "nowhere"),
        ("encrypt", "nowhere", "--to", "bob.pem"),
        ("encrypt", "letter.txt", "--to", "nowhere"),
        ("decrypt", "nowhere", "-o", "output"),
        ("compress", "nowhere"),
        ("decompress", "nowhere", "-o", "output"),
        ("certs", "nowhere", "-o", "output"),
        ("certs", "ca.pem", "--crl", "nowhere", "-o", "output"),
        ("sign", "letter.txt", "--key", "alice", "--countersign", "nowhere", "-o", "output"),
        ("inspect", "nowhere"),
        ("cert", "import", "nowhere"),
    ],
    ids=" ".join,
)
def test_missing_input_is_named(terminal: Terminal, command: tuple[str, ...]) -> None:
    before = sorted(terminal.folder.rglob("*"))
    finished = terminal.run(*command, code=5)
    assert finished.error == "error: cannot read nowhere: No such file or directory\n"
    assert sorted(terminal.folder.rglob("*")) == before


def test_unreadable_input_is_named(terminal: Terminal, unprivileged: tuple[str, ...]) -> None:
    (terminal.folder / "letter.txt").chmod(0)
    finished = terminal.run(*SIGN, code=5, prefix=unprivileged)
    assert finished.error == "error: cannot read letter.txt: Permission denied\n"


def test_input_that_fails_while_it_is_read_is_named_and_not_the_output(terminal: Terminal) -> None:
    finished = terminal.run("sign", "/proc/self/mem", "--key", "alice", "-o", "output", code=5)
    assert finished.error == "error: cannot read /proc/self/mem: Invalid argument\n"
    assert not terminal.exists("output")


def test_folder_that_refuses_new_files_is_told(terminal: Terminal, unprivileged: tuple[str, ...]) -> None:
    locked = terminal.folder / "locked"
    locked.mkdir(mode=0o500)
    finished = terminal.run(*SIGN, "-o", "locked/output", code=5, prefix=unprivileged)
    assert finished.error == "error: cannot write locked/output: Permission denied\n"


def test_missing_folder_of_the_output_is_told(terminal: Terminal) -> None:
    finished = terminal.run(*SIGN, "-o", "nowhere/output", code=5)
    assert finished.error == "error: cannot write nowhere/output: No such file or directory\n"


def test_output_that_exists_is_kept(terminal: Terminal) -> None:
    terminal.write("letter.txt.p7s", "precious")
    finished = terminal.run(*SIGN, code=5)
    assert "letter.txt.p7s exists already" in finished.error
    assert "--force" in finished.error
    assert terminal.read("letter.txt.p7s") == b"precious"


def test_output_that_fails_keeps_the_one_that_was_there(terminal: Terminal) -> None:
    terminal.run("encrypt", "letter.txt", "--to", "alice.pem", "-o", "for-alice.p7m")
    terminal.write("output", "precious")
    terminal.run("decrypt", "for-alice.p7m", "--key", "bob", "-o", "output", "--force", code=4)
    assert terminal.read("output") == b"precious"


@pytest.mark.parametrize(
    "command",
    [
        ("--help",),
        ("key", "list", "--help"),
        ("key", "list"),
        ("key", "list", "--json"),
        ("sign", "letter.txt", "--key", "alice", "-o", "-"),
        ("sing",),
    ],
    ids=" ".join,
)
def test_reader_that_went_away_ends_it_without_a_word(terminal: Terminal, command: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    expected = 2 if command == ("sing",) else 141
    finished = terminal.run(*command, code=expected, stdout=writing)
    os.close(writing)
    assert expected == 2 or finished.error == ""


def test_broken_standard_error_ends_it_too(terminal: Terminal) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    terminal.run("sing", code=141, stderr=writing)
    os.close(writing)


def test_large_result_into_head_stops_quietly(terminal: Terminal) -> None:
    terminal.write("large", os.urandom(4 << 20))
    terminal.run("encrypt", "large", "--to", "bob.pem")
    with terminal.start("decrypt", "large.p7m", "-o", "-", "-q") as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.stdout.close()
        finished = terminal.finish(process, 141)
    assert finished.error == ""


@pytest.mark.parametrize("content", ["token = ", "tokne = 'acme'", "trust = 'ca.pem'", b"token = '\xff'"])
def test_broken_configuration_stops_every_command_that_needs_it(
    terminal: Terminal, content: str | bytes
) -> None:
    terminal.write("broken.toml", content)
    finished = terminal.run("key", "list", "--config", "broken.toml", code=2)
    assert "broken.toml" in finished.error


def test_unreadable_configuration_is_named(terminal: Terminal, unprivileged: tuple[str, ...]) -> None:
    terminal.write("locked.toml", "").chmod(0)
    finished = terminal.run("key", "list", "--config", "locked.toml", code=2, prefix=unprivileged)
    assert finished.error == "error: the configuration file locked.toml cannot be read: Permission denied\n"
