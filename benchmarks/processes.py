"""What whole processes cost: processor time and peak memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Cost", "FailedError", "octets", "run"]

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took.

    Attributes:
        seconds: Processor time, user and system.
        peak: Octets of resident memory at most.
    """

    seconds: float
    peak: int


class FailedError(Exception):
    """A process ended with an error; the text is the first line of what it said."""


def octets(size: str) -> int:
    """A size as the command line has it, such as "64M" or "4G"."""
    return int(size[:-1]) * _UNITS[size[-1].upper()]


def run(command: Sequence[object]) -> Cost:
    """Run one process to its end, from a small one: a child begins with the peak memory of who started it.

    Raises:
        FailedError: It failed.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FailedError(f"{command[0]}: {done.stderr.strip().partition(chr(10))[0]}")
    seconds, peak = done.stdout.split()
    return Cost(float(seconds), int(peak) * (1 if sys.platform == "darwin" else 1024))


_LAUNCHER = """
import os, sys
null = os.open(os.devnull, os.O_RDWR)
out = os.dup(1)
os.dup2(null, 1)
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
os.write(out, f"{usage.ru_utime + usage.ru_stime} {usage.ru_maxrss}".encode())
sys.exit(os.waitstatus_to_exitcode(status))
"""
