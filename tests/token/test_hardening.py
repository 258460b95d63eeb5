"""The memory of the agent, seen from a process that was hardened, and from one of the same user beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")

HARDENED = """
import ctypes, resource, sys
from tokensign.token.hardening import harden
locked = harden()
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE), locked, flush=True)
sys.stdin.read()
"""
PEEK = """
import sys
try:
    open(f"/proc/{sys.argv[1]}/mem", "rb").close()
except PermissionError:
    print("refused")
else:
    print("read")
"""


def start(*prefix: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", HARDENED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_no_core_is_dumped() -> None:
    with start() as process:
        output, _ = process.communicate("", timeout=30)
    dumpable, soft, hard, _ = output.split()
    assert (dumpable, soft, hard) == ("0", "0", "0")


@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes another user, whom its rights do not help")
def test_another_process_of_the_same_user_does_not_read_its_memory() -> None:
    nobody = (shutil.which("setpriv") or "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    with start(*nobody) as hardened, subprocess.Popen([*nobody, "sleep", "60"]) as ordinary:
        assert hardened.stdin
        assert hardened.stdout
        assert hardened.stdout.readline().split()[3] in {"True", "False"}
        answers = [
            subprocess.run(
                [*nobody, sys.executable, "-c", PEEK, str(process.pid)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            for process in (hardened, ordinary)
        ]
        ordinary.kill()
        hardened.stdin.close()
    assert answers == ["refused", "read"]


def test_memory_is_locked_where_there_is_no_limit() -> None:
    if os.geteuid():
        pytest.skip("needs RLIMIT_MEMLOCK without a limit")
    with start() as process:
        output, _ = process.communicate("", timeout=30)
    assert output.split()[3] == "True"
