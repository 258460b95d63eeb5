"""Fixtures of the tests with modules that fail: the shim, and folders with tokens to be copied."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# The tests are loaded by path; see tests/modules/conftest.py.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.place import LETTER, Place

if TYPE_CHECKING:
    from collections.abc import Callable

SHIM_SOURCE = Path(__file__).parents[1] / "modules" / "shim" / "shim.c"


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module that fails when it is told to, built from `tests/modules/shim/shim.c`."""
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    found = subprocess.run(
        ["pkg-config", "--cflags", "p11-kit-1"], capture_output=True, text=True, check=True
    )
    warnings = ("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror")
    command = ["cc", *warnings, "-shared", "-fPIC", "-O1", *found.stdout.split(), "-o", library, SHIM_SOURCE]
    subprocess.run([*command, "-ldl", "-pthread"], check=True)
    return library


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory, user_pin: str, so_pin: str) -> Place:
    """A place to be copied."""
    place = Place(tmp_path_factory.mktemp("furnished"))
    (place.folder / "tokens").mkdir()
    place.configure()
    (place.folder / "letter.txt").write_text(LETTER)
    for name, value in (("pin", user_pin), ("so-pin", so_pin)):
        (place.folder / name).touch(mode=0o600)
        (place.folder / name).write_text(value)
    for command in (
        ("token", "init", "acme", "--so-pin-source", "file:so-pin"),
        ("key", "generate", "alice", "--type", "rsa:2048"),
        ("cert", "self-sign", "alice", "--subject", "CN=Alice", "-o", "alice.pem"),
        ("encrypt", "letter.txt", "--to", "alice.pem"),
    ):
        done = place.run(*command)
        assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def place(furnished: Place, tmp_path: Path) -> Place:
    """A place for one test."""
    return furnished.copy(tmp_path / "place")


@pytest.fixture(scope="session")
def new_place(furnished: Place, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Place]:
    """Make another place: `new_place("name")`."""
    folder = tmp_path_factory.mktemp("places")
    numbers = itertools.count()
    return lambda name: furnished.copy(folder / f"{next(numbers)}-{name}")
