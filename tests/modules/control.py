"""How a process that uses a module reaches the one that started it, to pull the token out and the like.

`python -m tests.modules.run` serves; what runs under it asks::

    control = Control.from_environment()
    control.remove()
    control.insert()
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections import Counter
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Listener
from typing import TYPE_CHECKING, Final, Self

from tests.modules.base import CannotError, NotStartedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.modules.base import RunningModule

__all__ = ["VARIABLE", "Control", "serve"]

VARIABLE: Final = "TEST_MODULE_CONTROL"
_OPERATIONS: Final = ("remove", "remove_at", "insert", "unlock", "counts")
_END: Final = "end"


class Control:
    """The operations of a `RunningModule` that work from another process.

    Args:
        port: Where it is served, on loopback.
        key: What lets one in.
    """

    def __init__(self, port: int, key: bytes) -> None:
        self._port = port
        self._key = key

    @classmethod
    def from_environment(cls) -> Self:
        """The one under which this process runs."""
        port, _, key = os.environ[VARIABLE].partition(":")
        return cls(int(port), bytes.fromhex(key))

    def remove(self) -> None:
        """See `RunningModule.remove`."""
        self._ask("remove")

    def insert(self) -> None:
        """See `RunningModule.insert`."""
        self._ask("insert")

    def remove_at(self, command: str) -> None:
        """See `RunningModule.remove_at`."""
        self._ask("remove_at", command)

    def unlock(self) -> None:
        """See `RunningModule.unlock`."""
        self._ask("unlock")

    def counts(self) -> Counter[str]:
        """See `RunningModule.counts`."""
        return self._ask("counts") or Counter()

    def _ask(self, *operation: str) -> Counter[str] | None:
        with Client(("127.0.0.1", self._port), authkey=self._key) as connection:
            connection.send(operation)
            failure: str
            answer: Counter[str] | None
            failure, answer = connection.recv()
        if failure:
            raise CannotError(failure)
        return answer


@contextlib.contextmanager
def serve(running: RunningModule) -> Iterator[dict[str, str]]:
    """Let other processes control a module; gives the variable that they need."""
    key = secrets.token_bytes(16)
    with Listener(("127.0.0.1", 0), authkey=key) as listener:
        port = int(listener.address[1])
        thread = threading.Thread(target=_answer, args=(listener, running))
        thread.start()
        try:
            yield {VARIABLE: f"{port}:{key.hex()}"}
        finally:
            with Client(("127.0.0.1", port), authkey=key) as connection:
                connection.send((_END,))
            thread.join()


def _answer(listener: Listener, running: RunningModule) -> None:
    """Serve one question a connection, until the end is asked for."""
    while True:
        try:
            with listener.accept() as connection:
                operation = connection.recv()
                if operation == (_END,):
                    return
                connection.send(_outcome(running, *operation))
        except (AuthenticationError, OSError, EOFError):
            continue  # the asker went away, or was none of ours


def _outcome(running: RunningModule, operation: str, *arguments: str) -> tuple[str, Counter[str] | None]:
    """The reason why it failed, or nothing; and what the operation gives."""
    if operation not in _OPERATIONS:
        return f"there is no operation {operation}", None
    try:
        return "", getattr(running, operation)(*arguments)
    except (CannotError, NotStartedError) as error:
        return str(error), None
