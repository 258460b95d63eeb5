"""Many at once: threads that use one login, and processes that log in at the same moment."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.modules.suite.bench import MESSAGE, Bench
from tests.modules.suite.cells import Case
from tests.modules.suite.operations import CountingSource
from tests.modules.suite.signing import RSA, verify_signature
from tokensign.algorithms import KeyUsage, default_scheme
from tokensign.keys import Pkcs1Transport
from tokensign.token import list_keys, load_module, open_token, parse_pin_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.queues import SimpleQueue
    from multiprocessing.synchronize import Barrier

    from tokensign.token import TokenKey

__all__ = ["cases"]

TABLE: Final = "Many at once"
_THREADS: Final = 8
_PROCESSES: Final = 20
_PATIENCE: Final = 60.0  # seconds for all processes to start and to log in


def cases(bench: Bench) -> Iterator[Case]:
    """Threads first: they make the keys that the processes see."""
    yield Case(TABLE, f"{_THREADS} threads sign and decrypt", partial(_use_threads, bench))
    yield Case(TABLE, f"{_PROCESSES} processes log in at once", partial(_use_processes, bench))


def _use_threads(bench: Bench) -> None:
    signer, decrypter = bench.key(RSA, KeyUsage.SIGN), bench.key(RSA, KeyUsage.DECRYPT)
    failures: list[Exception] = []
    done = [0] * _THREADS
    end = time.monotonic() + bench.seconds

    def work(number: int, operation: Callable[[], None]) -> None:
        try:
            while time.monotonic() < end and not failures:
                operation()
                done[number] += 1
        except Exception as failure:  # noqa: BLE001 - it is raised in the other thread
            failures.append(failure)

    operations = (partial(_sign, signer), partial(_decrypt, decrypter))
    threads = [
        threading.Thread(target=work, args=(number, operations[number % 2])) for number in range(_THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    assert all(done), f"a thread got no turn: {done}"


def _sign(key: TokenKey) -> None:
    scheme = default_scheme(key.public_key)
    verify_signature(key.public_key, key.sign(MESSAGE, scheme), MESSAGE, scheme)


def _decrypt(key: TokenKey) -> None:
    assert isinstance(key.public_key, rsa.RSAPublicKey)
    assert key.unwrap(key.public_key.encrypt(MESSAGE, padding.PKCS1v15()), Pkcs1Transport()) == MESSAGE


def _use_processes(bench: Bench) -> None:
    """Forked, but not from this process, which has loaded the module: from one that has not."""
    before = bench.control.counts()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    moment, outcomes = context.Barrier(_PROCESSES), context.SimpleQueue()
    processes = [context.Process(target=_log_in, args=(moment, outcomes)) for _ in range(_PROCESSES)]
    try:
        for process in processes:
            process.start()
        end = time.monotonic() + _PATIENCE
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
        assert [process.exitcode for process in processes] == [0] * _PROCESSES
    finally:
        for process in processes:
            process.kill()
            process.join()
    said = [outcomes.get() for _ in processes]
    assert said == ["the PIN was given 1 time"] * _PROCESSES, sorted(said)
    counts = bench.control.counts()
    if counts:  # the card itself counts
        assert counts["VERIFY"] - before["VERIFY"] == _PROCESSES


def _log_in(moment: Barrier, outcomes: SimpleQueue[str]) -> None:
    """One process: all is loaded when the moment comes."""
    source = CountingSource(parse_pin_source(os.environ["TOKENSIGN_PIN_SOURCE"]))
    try:
        moment.wait(_PATIENCE)
        module = load_module(os.environ["TOKENSIGN_MODULE"])
        with open_token(module, os.environ["TOKENSIGN_TOKEN"], source) as token:
            token.log_in()
            assert list_keys(token)
    except Exception as failure:  # noqa: BLE001 - the other process tells
        outcomes.put(f"{type(failure).__name__}: {failure}")
    else:
        outcomes.put(f"the PIN was given {source.count} time")
