"""Many clients of an HTTP server in one thread, each with a connection that stays and one request at a time.

A client written on top of a library of HTTP would cost more than what is measured. So requests are octets
that are made once, and of an answer only the status and the length are read.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Load", "Target", "post"]

_PIECE = 1 << 16
_TIMEOUT = 20.0  # seconds for a connection, and for an answer


@dataclass(frozen=True)
class Target:
    """A server.

    Attributes:
        address: Its host and port.
        tls: How to speak TLS with it; None: not at all.
    """

    address: tuple[str, int]
    tls: ssl.SSLContext | None = None

    def connect(self) -> socket.socket:
        """A connection that does not block."""
        connection = socket.create_connection(self.address, timeout=_TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_hostname=self.address[0])
        connection.settimeout(0)
        return connection


def post(path: str, body: bytes, *fields: str) -> bytes:
    """A request."""
    head = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *fields]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


@dataclass
class _Client:
    connection: socket.socket
    sent: float = 0.0
    received: bytes = b""


@dataclass
class Load:
    """Clients that ask again and again.

    Attributes:
        latencies: Seconds of each request that was answered with 200.
        refused: The other answers, by their status.
    """

    target: Target
    requests: Sequence[bytes]
    latencies: list[float] = field(default_factory=list)
    refused: dict[bytes, int] = field(default_factory=dict)

    def run(self, clients: int, seconds: float) -> float:
        """Ask for some time; answers a second.

        Raises:
            ConnectionError: The server ended a connection.
            TimeoutError: It does not answer.
        """
        everybody = [_Client(self.target.connect()) for _ in range(clients)]
        with selectors.DefaultSelector() as selector:
            begun = time.perf_counter()
            for client in everybody:
                selector.register(client.connection, selectors.EVENT_READ, client)
                self._ask(client)
            before, waiting = len(self.latencies), len(everybody)
            while waiting:
                ready = selector.select(_TIMEOUT)
                if not ready:
                    raise TimeoutError("the server does not answer")
                for key, _ in ready:
                    if self._is_answered(key.data):
                        if time.perf_counter() - begun < seconds:
                            self._ask(key.data)
                        else:
                            waiting -= 1
            elapsed = time.perf_counter() - begun
        for client in everybody:
            client.connection.close()
        return (len(self.latencies) - before) / elapsed

    def _ask(self, client: _Client) -> None:
        client.received = b""
        client.sent = time.perf_counter()
        request = self.requests[len(self.latencies) % len(self.requests)]
        if client.connection.send(request) < len(request):
            raise ConnectionError("a request does not fit into the buffer of a socket")

    def _is_answered(self, client: _Client) -> bool:
        """Take what has come; whether that is the whole answer."""
        while True:
            try:
                piece = client.connection.recv(_PIECE)
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            if not piece:
                raise ConnectionError("the server closed a connection")
            client.received += piece
            head, end, body = client.received.partition(b"\r\n\r\n")
            if end and len(body) >= _length(head):
                break
        status = head[9:12]
        if status == b"200":
            self.latencies.append(time.perf_counter() - client.sent)
        else:
            self.refused[status] = self.refused.get(status, 0) + 1
        return True


def _length(head: bytes) -> int:
    """Content-Length."""
    begin = head.lower().index(b"content-length:") + len(b"content-length:")
    return int(head[begin:].split(b"\r\n", 1)[0])
