"""Clients that stall, and thousands of connections that are open and silent: the others are answered."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tokensign.service.bodies import JSON_SECONDS
from tokensign.service.connection import HEAD_SECONDS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from service_place import RunningService

MANY = 2_000
ALIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = b"POST /v1/keys/lane/ec=3Ap256/signatures HTTP/1.1\r\nHost: localhost\r\n"
BODY_TO_COME = HEAD + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"


@contextlib.contextmanager
def connected(service: RunningService, count: int, sent: bytes = b"") -> Iterator[list[ssl.SSLSocket]]:
    """So many connections, on each of which something was sent."""
    host, port = service.address.split(":")
    tls = service.tls("alice")
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            plain = stack.enter_context(socket.create_connection((host, int(port)), timeout=30))
            made.append(stack.enter_context(tls.wrap_socket(plain, server_hostname=host)))
            made[-1].sendall(sent)
        yield made


@pytest.mark.parametrize("sent", [HEAD, BODY_TO_COME], ids=["header", "body"])
def test_clients_that_stall_do_not_hold_up_others(service: RunningService, sent: bytes) -> None:
    with connected(service, 20, sent):
        begun = time.monotonic()
        assert service.sign("ec:p256").status == 200
        assert time.monotonic() - begun < 5


def test_a_client_that_does_not_take_its_answers_does_not_hold_up_others(service: RunningService) -> None:
    asking = b"GET /v1/keys HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_000
    with connected(service, 3, asking):
        begun = time.monotonic()
        assert service.sign("ec:p256").status == 200
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("sent", "seconds", "answer"),
    [(HEAD, HEAD_SECONDS, b""), (BODY_TO_COME, JSON_SECONDS, b"HTTP/1.1 408 ")],
    ids=["header", "body"],
)
def test_a_client_that_stalls_is_sent_away(
    service: RunningService, sent: bytes, seconds: float, answer: bytes
) -> None:
    with connected(service, 1, sent) as (client,):
        begun = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(13) == answer
        assert seconds - 1 < time.monotonic() - begun < seconds + 5


def test_two_thousand_open_connections_leave_room_for_more(service: RunningService) -> None:
    needed = 2 * MANY + 500  # both ends are in this process
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"needs {needed} descriptors, and {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    with connected(service, MANY, ALIVE) as clients:
        begun = time.monotonic()
        assert service.sign("ec:p256").status == 200
        assert time.monotonic() - begun < 5
        for one in clients:
            require_answer(one)
            one.sendall(ALIVE)
        for one in clients:
            require_answer(one)


def require_answer(client: ssl.SSLSocket) -> None:
    """Take the answer to `ALIVE`."""
    answer = b""
    while not answer.endswith(b"}"):
        piece = client.recv(1 << 14)
        assert piece, "the service closed the connection"
        answer += piece
    assert answer.startswith(b"HTTP/1.1 200 ")
