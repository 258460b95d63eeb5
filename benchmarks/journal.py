# ruff: noqa: T201 - a benchmark prints what it measured
"""Operations a second that the journal of the signing service records: intent and outcome, both on the disk.

    python -m benchmarks.journal [--database FILE|URL] [--seconds S]

Nothing is signed. Each of so many clients begins an operation, finishes it, and begins the next; those that
wait at the same time share a transaction.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from tokensign.service.journal import Begun, Journal
from tokensign.service.principals import Principal
from tokensign.store import Store

_CLIENTS = (1, 16, 64, 256)
_INTENT = {"scheme": "rsa-pkcs1-sha256", "form": "raw", "digests": ["A" * 44]}
_OUTCOME = {"results": [f"sha256:{64 * '0'}"]}


async def measure(store: Store, clients: int, seconds: float, *, keyed: bool) -> None:
    """Measure, and print a line.

    Args:
        store: The database.
        clients: How many ask at once.
        seconds: For how long.
        keyed: Whether each request has an Idempotency-Key, and its answer is kept.
    """
    alice = Principal("alice", "certificate")
    journal = Journal(store)
    await journal.start()
    waits: list[float] = []
    start, used = time.perf_counter(), time.process_time()

    async def ask(name: int) -> None:
        while (begun_at := time.perf_counter()) - start < seconds:
            key = f"{name}-{begun_at}" if keyed else None
            begun = await journal.begin(alice, "sign", "acme/contracts", _INTENT, key, bytes(32))
            assert isinstance(begun, Begun)  # noqa: S101 - no key comes twice
            await journal.finish(begun, _OUTCOME, bytes(400) if keyed else None)
            waits.append(time.perf_counter() - begun_at)

    await asyncio.gather(*map(ask, range(clients)))
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    await journal.stop()
    cuts = statistics.quantiles(waits, n=100)
    print(
        f"{clients:7} {'yes' if keyed else 'no':>5} {len(waits) / elapsed:12.0f}"
        f" {used / len(waits) * 1e6:14.0f} {cuts[49] * 1000:8.1f} {cuts[98] * 1000:8.1f}"
    )


def main() -> None:
    """Measure each number of clients, without and with keys."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.journal", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--database", help="default: a file in the folder for temporary files")
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    print("clients  keyed  operations/s  CPU us/operation  p50 ms   p99 ms")
    with tempfile.TemporaryDirectory() as folder:
        place = arguments.database or Path(folder) / "service.sqlite"
        with Store(place) as store:
            for clients in _CLIENTS:
                for keyed in (False, True):
                    asyncio.run(measure(store, clients, arguments.seconds, keyed=keyed))


if __name__ == "__main__":
    main()
