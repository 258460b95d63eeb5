"""The benchmarks are not run in CI, but each of them can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "name", ["agent", "faults", "journal", "large_files", "mail", "ocsp", "service", "signing", "verifying"]
)
def test_benchmark_starts(name: str) -> None:
    command = [sys.executable, "-m", f"benchmarks.{name}", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: python -m benchmarks.{name}")


@pytest.mark.parametrize(
    "options",
    [
        ["--mails", "2", "--rounds", "1"],
        pytest.param(["--attachment", "1M"], marks=pytest.mark.full),  # seven processes
    ],
)
def test_benchmark_of_mail_runs(options: list[str]) -> None:
    command = [sys.executable, "-m", "benchmarks.mail", *options]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "decrypted and verified" in done.stdout
