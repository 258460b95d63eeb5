"""Eight threads that sign at the same time, for every module that is loaded with locking.

    counts = sign_in_threads(keys, seconds=60)

Or as a program, with all keys of a running module that sign, or two that it makes::

    python -m tests.modules.run softhsm -- python -m tests.modules.threads 60
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from tokensign.algorithms import KeySpec, KeyUsage, default_scheme
from tokensign.token import generate_key, list_keys, open_key, open_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.token import TokenKey

__all__ = ["sign_in_threads"]

THREADS: Final = 8
_SPECS: Final = ("ec:p256", "rsa:2048")
_START_TIMEOUT: Final = 30.0  # seconds until all threads are there


def sign_in_threads(keys: Sequence[TokenKey], seconds: float) -> Counter[str]:
    """Sign with some keys in eight threads; the number of signatures by the key's type.

    Args:
        keys: The keys, which the threads share.
        seconds: How long.

    Raises:
        BaseExceptionGroup: What the threads raised, if any did.
    """
    counts = [0] * THREADS
    failures: list[BaseException] = []
    together = threading.Barrier(THREADS)

    def work(number: int) -> None:
        key = keys[number % len(keys)]
        scheme = default_scheme(key.public_key)
        try:
            together.wait(_START_TIMEOUT)
            end = time.monotonic() + seconds
            while time.monotonic() < end and not failures:
                key.sign(b"message", scheme)
                counts[number] += 1
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise BaseExceptionGroup("threads failed", failures)
    total: Counter[str] = Counter()
    for number, count in enumerate(counts):
        assert count > 0, f"thread {number} made no signature"
        total[str(keys[number % len(keys)].info.spec)] += count
    return total


def main(seconds: str) -> None:
    """Sign with the keys of the token that the environment names, and print the counts."""
    module, name, source = (os.environ[f"TOKENSIGN_{what}"] for what in ("MODULE", "TOKEN", "PIN_SOURCE"))
    with open_token(module, name, source, read_write=True) as token:
        infos = [info for info in list_keys(token) if info.serves(KeyUsage.SIGN) and info.public_key]
        if not infos:
            infos = [
                generate_key(token, f"threads {spec}", KeySpec.parse(spec), KeyUsage.SIGN) for spec in _SPECS
            ]
        counts = sign_in_threads([open_key(token, info) for info in infos], float(seconds))
    told = ", ".join(f"{count} signatures with {spec}" for spec, count in sorted(counts.items()))
    sys.stdout.write(f"{told}\n")


if __name__ == "__main__":
    main(sys.argv[1])
