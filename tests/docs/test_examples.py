"""The Python examples of the README and the manual run as they are written, page by page."""

from __future__ import annotations

import os
import re
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


@pytest.fixture
def desk(tmp_path: Path, user_pin: str, so_pin: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """What the examples take for granted: the token "acme" with Alice's key, her certificate, a contract."""
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    (tmp_path / "contract.pdf").write_bytes(b"%PDF-1.4\n")
    for name, value in (("pin", user_pin), ("so-pin", so_pin)):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_text(value)
    environment = os.environ | {
        "SOFTHSM2_CONF": f"{tmp_path}/softhsm2.conf",
        "TOKENSIGN_PIN_SOURCE": "file:pin",
        "PYTHONPATH": str(Path(tokensign.__file__).parents[1]),
    }
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
        done = run(tmp_path, environment, "-m", "tokensign", *command)
        assert done.returncode == 0, done.stderr
    return lambda *arguments: run(tmp_path, environment, *arguments)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=lambda page: page.stem
)
def test_examples_of_a_page_run(page: Path, desk: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = desk("-c", "\n".join(BLOCK.findall(page.read_text())))
    assert done.returncode == 0, done.stderr
