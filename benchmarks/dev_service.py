"""`tokensign serve --dev` as a process that can be hurt, and a client that asks it again and again."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Answer", "Client", "DevService", "connect"]

_START_SECONDS = 120.0  # with new keys, on a slow machine
_ANSWER_SECONDS = 60.0  # longer than any deadline of the service
_PAUSE = 0.01  # seconds from an answer to the next request; and after a failure, as a patient client has it
_PATH = "/v1/keys/dev/alice/signatures"


class DevService:
    """A service over a token, a database and grants in a folder, which stay when it ends.

    Args:
        folder: The folder; `tokensign serve --dev` furnishes it when it is first started.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]  # the same after a restart
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that answers HTTP."""
        assert self._process is not None  # noqa: S101 - it was started
        return self._process.pid

    def workers(self) -> list[int]:
        """The processes of its lane."""
        command = ["ps", "-o", "pid=", "--ppid", str(self.pid)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return [int(pid) for pid in done.stdout.split()]

    def start(self) -> None:
        """Start it, and wait until its lane is up.

        Raises:
            TimeoutError: It is not.
        """
        command = [sys.executable, "-m", "tokensign", "serve", "--dev", "--dir", self.folder]
        self._process = subprocess.Popen(
            [*command, "--listen", f"127.0.0.1:{self.port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.await_ready()

    def await_ready(self) -> None:
        """Wait until its lane is up.

        Raises:
            TimeoutError: It is not.
        """
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self._is_ready():
                    return
            time.sleep(0.02)
        raise TimeoutError("`tokensign serve --dev` does not start; try it by hand")

    def _is_ready(self) -> bool:
        context = self.tls()  # whose files are made at the first start
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=5, context=context)
        with contextlib.closing(connection):
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that answers HTTP."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def tls(self) -> ssl.SSLContext:
        """TLS as Alice speaks it."""
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        context.load_cert_chain(self.folder / "alice.pem", self.folder / "alice.key")
        return context


@contextlib.contextmanager
def connect(service: DevService, count: int, sent: bytes) -> Iterator[list[ssl.SSLSocket]]:
    """So many connections, on each of which something was sent."""
    tls = service.tls()
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            plain = stack.enter_context(socket.create_connection(("localhost", service.port), timeout=30))
            made.append(stack.enter_context(tls.wrap_socket(plain, server_hostname="localhost")))
            made[-1].sendall(sent)
        yield made


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request.

    Attributes:
        sent: When it was sent.
        received: When it was answered.
        told: The status and the name of the problem, or that there is no answer.
        signature: The signature, or None.
    """

    sent: float
    received: float
    told: str
    signature: bytes | None = None


class Client:
    """Asks for a signature, again and again, in a thread of its own.

    Args:
        service: Whom.

    Attributes:
        answers: What came of each request.
    """

    def __init__(self, service: DevService) -> None:
        self.answers: list[Answer] = []
        self._service = service
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def await_answer(self, wanted: Callable[[Answer], bool], seconds: float) -> Answer:
        """The first answer that is as wanted, of those there are and those that come.

        Raises:
            TimeoutError: None comes.
        """
        end, seen = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            there = len(self.answers)
            for answer in self.answers[seen:there]:
                if wanted(answer):
                    return answer
            seen = there
            time.sleep(0.005)
        raise TimeoutError(f"no such answer came in {seconds} s; the last was {self.answers[-1:]}")

    def _run(self) -> None:
        tls = self._service.tls()
        while not self._ending.is_set():
            connection = http.client.HTTPSConnection(
                "localhost", self._service.port, timeout=_ANSWER_SECONDS, context=tls
            )
            with contextlib.closing(connection):
                while not self._ending.is_set() and self._ask(connection):
                    self._ending.wait(_PAUSE)
            self._ending.wait(_PAUSE)

    def _ask(self, connection: http.client.HTTPSConnection) -> bool:
        """Ask once; whether the connection still serves."""
        digest = base64.b64encode(hashlib.sha256(os.urandom(8)).digest()).decode()
        body = json.dumps({"digests": [digest]})
        sent = time.monotonic()
        try:
            connection.request("POST", _PATH, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            document = json.loads(response.read())
        except (OSError, http.client.HTTPException):
            self.answers.append(Answer(sent, time.monotonic(), "no answer"))
            return False
        signature, told = None, str(response.status)
        if response.status == http.HTTPStatus.OK:
            signature = base64.b64decode(document["results"][0]["signature"])
        else:
            told += f" {document['type'].rpartition(':')[2]}"
        self.answers.append(Answer(sent, time.monotonic(), told, signature))
        return True
