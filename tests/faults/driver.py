"""Runs many commands of the command line, each in a process of its own, without importing anything each time.

The jobs come on standard input, a JSON document a line; the outcomes go to standard output likewise, in the
order in which the commands end. What a command prints goes to the files `stdout` and `stderr` in its folder.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from tokensign.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_A_TIME = 32  # most of them wait for a module that hangs, so more than there are cores
IMPORTED = ("tokensign.cli.sign", "tokensign.cli.decrypt", "tokensign.cli.supervisor", "tokensign.token")


def become(job: dict[str, Any]) -> NoReturn:
    """Be the process of a command."""
    os.setsid()  # no terminal, and a group of its own
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    for descriptor, name in ((0, os.devnull), (1, "stdout"), (2, "stderr")):
        opened = os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, descriptor)
    sys.argv = ["tokensign", *job["arguments"]]
    code: object = 70
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    finally:
        os._exit(code if isinstance(code, int) else 70)


def run(jobs: Iterator[dict[str, Any]]) -> None:
    """Run all, some at a time, and tell how each ends."""
    running: dict[int, tuple[dict[str, Any], float]] = {}
    waiting = True
    while waiting or running:
        job = next(jobs, None) if waiting and len(running) < AT_A_TIME else None
        waiting = waiting and (job is not None or len(running) >= AT_A_TIME)
        if job is not None:
            pid = os.fork()
            if not pid:
                become(job)
            running[pid] = job, time.monotonic()
            if len(running) < AT_A_TIME:
                continue
        if running:
            pid, status = os.wait()
            job, started = running.pop(pid)
            outcome = {
                "number": job["number"],
                "code": os.waitstatus_to_exitcode(status),
                "seconds": time.monotonic() - started,
            }
            sys.stdout.write(json.dumps(outcome) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # so that the memory stays shared with what is forked
    run(json.loads(line) for line in sys.stdin)
