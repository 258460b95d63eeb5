from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.modules.base import write_pin_file
from tests.modules.opencryptoki import OpenCryptoki
from tests.modules.tpm import Tpm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.modules.base import RealModule, RunningModule

MODULES = (Tpm(), OpenCryptoki())
TOKENSIGN = (sys.executable, "-m", "tokensign")
TOKEN_EXIT_CODE = 3


@pytest.fixture(params=MODULES, ids=lambda module: module.name)
def module(request: pytest.FixtureRequest) -> RealModule:
    chosen: RealModule = request.param
    reason = chosen.missing()
    if reason:
        pytest.skip(f"{chosen.name} cannot be started here: {reason}")
    return chosen


@pytest.fixture
def running(module: RealModule, tmp_path: Path) -> Iterator[RunningModule]:
    with module.start(tmp_path) as started:
        yield started


def processes_of(folder: Path) -> set[int]:
    """The processes that name the folder in their command line or have their root in it."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may end meanwhile
            command = (process / "cmdline").read_bytes()
            root = (process / "root").readlink()
            if os.fsencode(folder) in command or root.is_relative_to(folder):
                found.add(int(process.name))
    return found


def test_keys_are_made_and_used_and_a_wrong_pin_is_refused(running: RunningModule) -> None:
    done = running.run([sys.executable, "-m", "tests.modules.try_token"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "wrong PIN": "refused",
        "signs_with_elliptic_curve": True,
        "signs_with_rsa": True,
        "decrypts_with_rsa": True,
        "keys": ["elliptic", "rsa-decrypt", "rsa-sign"],
    }


def test_three_wrong_pins_lock_the_token_and_it_can_be_unlocked(
    running: RunningModule, tmp_path: Path
) -> None:
    wrong = write_pin_file(tmp_path / "wrong-pin", "wrong-1")
    for _ in range(3):
        source = {"TOKENSIGN_PIN_SOURCE": f"file:{wrong}"}
        refused = running.run([*TOKENSIGN, "key", "list", "--last-try"], environment=source)
        assert refused.returncode == TOKEN_EXIT_CODE, refused.stderr
    locked = running.run([*TOKENSIGN, "key", "list"])
    assert "locked" in locked.stderr
    assert locked.returncode == TOKEN_EXIT_CODE
    running.unlock()
    assert running.run([*TOKENSIGN, "key", "list"]).returncode == 0


def test_nothing_runs_on_when_a_test_fails(module: RealModule, tmp_path: Path) -> None:
    def fail() -> None:
        with module.start(tmp_path):
            assert processes_of(tmp_path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not processes_of(tmp_path)


def test_each_start_finds_an_empty_token(module: RealModule, tmp_path: Path) -> None:
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        with module.start(folder) as running:
            made = running.run([*TOKENSIGN, "key", "generate", "alice", "--type", "ec:p256"])
            assert made.returncode == 0, made.stderr


def test_the_system_of_opencryptoki_stays_as_it_was_made(tmp_path: Path) -> None:
    module = OpenCryptoki()
    reason = module.missing()
    if reason:
        pytest.skip(f"opencryptoki cannot be started here: {reason}")
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        with module.start(folder) as running:
            assert running.run(["test", "-e", "/etc/changed"]).returncode
            assert not running.run(["touch", "/etc/changed"]).returncode


def test_no_mount_is_seen_outside(module: RealModule, tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    with module.start(tmp_path):
        assert Path("/proc/self/mountinfo").read_text() == before
