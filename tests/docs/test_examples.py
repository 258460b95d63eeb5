"""The Python examples of the README and the manual run as they are written, page by page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tokensign

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(folder: Path, environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def open_desk(folder: Path) -> dict[str, str]:
    """Let SoftHSM have its tokens in a folder; the environment for what runs there."""
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\n")
    return os.environ | {
        "SOFTHSM2_CONF": f"{folder}/softhsm2.conf",
        "TOKENSIGN_PIN_SOURCE": "file:pin",
        "PYTHONPATH": str(Path(tokensign.__file__).parents[1]),
    }


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory, user_pin: str, so_pin: str) -> Path:
    """A folder to be copied: the token "acme" with Alice's key, her certificate, a contract."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "tokens").mkdir()
    (folder / "contract.pdf").write_bytes(b"%PDF-1.4\n")
    for name, value in (("pin", user_pin), ("so-pin", so_pin)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(value)
    environment = open_desk(folder)
    for command in (
        ["token", "init", "acme", "--so-pin-source", "file:so-pin"],
        ["key", "generate", "alice", "--type", "rsa:2048"],
        [
            "cert",
            "self-sign",
            "alice",
            "--subject",
            "CN=Alice",
            "--email",
            "alice@acme.example",
            "-o",
            "alice.pem",
        ],
    ):
        done = run(folder, environment, "-m", "tokensign", *command)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def desk(furnished: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python where there is what the examples take for granted."""
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    environment = open_desk(tmp_path)
    return lambda *arguments: run(tmp_path, environment, *arguments)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=lambda page: page.stem
)
def test_examples_of_a_page_run(page: Path, desk: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = desk("-c", "\n".join(BLOCK.findall(page.read_text())))
    assert done.returncode == 0, done.stderr
