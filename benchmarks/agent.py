"""Signatures through an agent beside those of a key that this process opened itself.

    python -m benchmarks.agent [--seconds S] [--rounds N]

Ready hash values are signed, by one thread and by four. Rates are of elapsed time, because two processes
work.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.identities import USER_PIN, certified_key, throwaway_token
from tokensign.agent.client import AgentClient
from tokensign.algorithms import default_scheme

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.keys import Signer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agent", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn (default: 1)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    arguments = parser.parse_args()
    with throwaway_token() as token:
        specs = ("rsa:2048", "ec:p256")
        own = {spec: certified_key(token, spec) for spec in specs}
        with _agent() as agent:
            for spec in specs:
                keys: dict[str, Signer] = {"in process": own[spec], "agent": agent.open_key(spec)}
                for threads in (1, 4):
                    rates: dict[str, list[float]] = {name: [] for name in keys}
                    for _ in range(arguments.rounds):
                        for name, key in keys.items():
                            rates[name].append(_rate(key, threads, arguments.seconds))
                    for name, measured in rates.items():
                        rate = statistics.median(measured)
                        print(f"{spec:9} {threads} threads  {name:11} {rate:8,.0f}/s")  # noqa: T201


@contextlib.contextmanager
def _agent() -> Iterator[AgentClient]:
    """An agent in a process of its own, as the command line starts it."""
    command = [sys.executable, "-m", "tokensign", "agent"]
    with tempfile.TemporaryDirectory() as folder:
        pin = Path(folder) / "pin"
        pin.touch(mode=0o600)
        pin.write_text(USER_PIN)
        environment = os.environ | {"XDG_RUNTIME_DIR": folder, "TOKENSIGN_PIN_SOURCE": f"file:{pin}"}
        started = subprocess.run(
            [*command, "start", "--json"], env=environment, stdout=subprocess.PIPE, check=True
        )
        try:
            path = Path(json.loads(started.stdout)["socket"])
            with AgentClient.reach(path) or sys.exit("the agent is gone") as agent:
                yield agent
        finally:
            subprocess.run([*command, "stop", "--quiet"], env=environment, check=True)


def _rate(key: Signer, threads: int, seconds: float) -> float:
    """Signatures a second."""
    scheme = default_scheme(key.public_key)
    digest = scheme.digest.new(b"content").digest()
    counts = [0] * threads
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < end:
            key.sign_digest(digest, scheme)
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
