"""The parent process of a command that loads a module: it outlives the module, and nothing outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.place import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.place import Place

SIGN = ("sign", "letter.txt", "--key", "alice", "-o", "output")
MIDDLE = 40  # a call after the output was opened, in a sign


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_alive(process: int) -> bool:
    """Whether a process runs, and is not one that has ended and nobody waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def hanging(place: Place, shim: Path, module_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A `sign` whose module hangs, and has a minute for it."""
    environment = place.shimmed(shim, module_path, at=MIDDLE, fault="hang")
    with subprocess.Popen(
        [sys.executable, "-m", "tokensign", *SIGN],
        env=clean_environment() | environment,
        cwd=place.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_until(lambda: place.log.exists() and len(place.calls()) == MIDDLE)
        assert place.leftovers()
        yield process
        process.kill()


def test_crash_is_told_as_json(place: Place, shim: Path, module_path: Path) -> None:
    environment = place.shimmed(shim, module_path, at=MIDDLE, fault="crash")
    done = place.run(*SIGN, "--json", environment=environment)
    assert done.returncode == 3
    told = json.loads(done.stdout)["error"]
    assert told["type"] == "ModuleError"
    assert told["exit_code"] == 3
    assert "SIGSEGV" in told["message"]
    assert str(shim) in told["message"]
    assert done.stderr.splitlines()[0] == f"error: {told['message']}"


def test_crash_dumps_no_core(place: Place, shim: Path, module_path: Path) -> None:
    environment = place.shimmed(shim, module_path, at=MIDDLE, fault="abort")
    before = set(place.folder.iterdir())
    place.run(*SIGN, environment=environment)
    assert {path.name for path in set(place.folder.iterdir()) - before} == {"calls"}


def test_crash_after_the_result_is_no_failure(place: Place, module_path: Path, tmp_path: Path) -> None:
    """Some modules crash when the process ends."""
    source = tmp_path / "late.c"
    source.write_text("#include <stdlib.h>\n__attribute__((destructor)) static void end(void) { abort(); }\n")
    library = tmp_path / "late.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    program = (
        f"import ctypes, sys; sys.argv = ['tokensign', *{SIGN!r}, '--module', {str(module_path)!r}]\n"
        "from tokensign.cli import main\n"
        f"ctypes.CDLL({str(library)!r})\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment() | place.environment,
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (place.folder / "output").exists()
    assert "signed by" in done.stderr
    assert "crashed" not in done.stderr
    assert done.returncode == 0


def test_time_for_an_operation_is_set_in_the_configuration(
    place: Place, shim: Path, module_path: Path
) -> None:
    (place.folder / "config.toml").write_text("token-timeout = 1\n")
    environment = place.shimmed(shim, module_path, at=MIDDLE, fault="hang")
    begun = time.monotonic()
    done = place.run(*SIGN, "--config", "config.toml", environment=environment)
    assert done.returncode == 3
    assert "hangs" in done.stderr
    assert "token-timeout" in done.stderr
    assert time.monotonic() - begun < 45


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf"])
def test_time_that_is_no_time_is_refused(place: Place, value: str) -> None:
    done = place.run(*SIGN, environment={"TOKENSIGN_TOKEN_TIMEOUT": value})
    assert done.returncode == 2
    assert f"the token timeout {value} is no number of seconds" in done.stderr


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "the terminal is gone"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_signal_ends_a_command_whose_module_hangs(
    hanging: subprocess.Popen[str], place: Place, number: signal.Signals, code: int, word: str
) -> None:
    (child,) = children(hanging.pid)
    hanging.send_signal(number)
    _, error = hanging.communicate(timeout=60)
    assert hanging.returncode == code
    assert error.splitlines() == [f"error: {word}", "hint: no file is half-written; run it again"]
    assert place.leftovers() == []
    assert not (place.folder / "output").exists()
    assert not is_alive(child)


def test_quit_ends_both(hanging: subprocess.Popen[str], place: Place) -> None:
    (child,) = children(hanging.pid)
    hanging.send_signal(signal.SIGQUIT)
    _, error = hanging.communicate(timeout=60)
    assert hanging.returncode == 128 + signal.SIGQUIT
    assert "SIGQUIT" in error
    assert place.leftovers() == []
    assert not is_alive(child)


def test_child_that_is_killed_is_told(hanging: subprocess.Popen[str], place: Place) -> None:
    (child,) = children(hanging.pid)
    os.kill(child, signal.SIGKILL)
    _, error = hanging.communicate(timeout=60)
    assert hanging.returncode == 128 + signal.SIGKILL
    assert "the process was killed (SIGKILL)" in error
    assert place.leftovers() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_child_does_not_outlive_its_parent(hanging: subprocess.Popen[str]) -> None:
    (child,) = children(hanging.pid)
    hanging.kill()
    hanging.wait(60)
    wait_until(lambda: not is_alive(child))


def test_stopping_and_continuing_reaches_both(hanging: subprocess.Popen[str]) -> None:
    def state(process: int) -> str:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]

    (child,) = children(hanging.pid)
    hanging.send_signal(signal.SIGTSTP)
    wait_until(lambda: state(hanging.pid) == "T")
    hanging.send_signal(signal.SIGCONT)
    wait_until(lambda: state(hanging.pid) == "S")
    wait_until(lambda: state(child) == "S")


def test_commands_without_a_module_have_no_parent(place: Place) -> None:
    program = (
        "import os, sys; sys.argv = ['tokensign', 'inspect', 'letter.txt.p7m']; before = os.getpid()\n"
        "from tokensign.cli import main\n"
        "try: main()\n"
        "finally: assert os.getpid() == before; print('same process')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=clean_environment() | place.environment,
        cwd=place.folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "same process" in done.stdout
