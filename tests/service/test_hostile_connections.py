"""Strangers at the connection: none is held for nothing, takes memory, or changes what a request says."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest
from service_place import digest_of

from tokensign.service import connection
from tokensign.service.connection import HEAD_SIZE_MAXIMUM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service_place import RunningService

ENDED = (ConnectionError, ssl.SSLEOFError)
SOON = 0.3  # seconds that a deadline has here
PATIENCE = 5.0  # seconds within which the service must have acted
BODY = json.dumps({"digests": [digest_of(b"hello")]}).encode()
SIGN = b"POST /v1/keys/lane/ec=3Ap256/signatures HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
SIZED = b"Content-Length: %d\r\n" % len(BODY)
REFUSED = b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
ALIVE = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


@contextlib.contextmanager
def connected(service: RunningService, who: str | None = None) -> Iterator[ssl.SSLSocket]:
    host, port = service.address.split(":")
    with (
        socket.create_connection((host, int(port)), timeout=PATIENCE) as plain,
        service.tls(who).wrap_socket(plain, server_hostname=host) as client,
    ):
        yield client


def status_of(client: ssl.SSLSocket) -> bytes:
    """The status of the next answer, which is taken to its end: that of a text or of a JSON object."""
    answer = b""
    while not answer.endswith((b"}", b"received.")):
        piece = client.recv(1 << 16)
        assert piece, answer
        answer += piece
    return answer.partition(b" ")[2][:3]


def require_end(client: ssl.SSLSocket) -> None:
    """Let the service end the connection, in time."""
    with contextlib.suppress(*ENDED):
        while client.recv(1 << 16):
            pass


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", SOON)
    monkeypatch.setattr(connection, "ANSWER_SECONDS", SOON)


@pytest.mark.usefixtures("hasty")
class TestConnectionIsNotHeld:
    @pytest.mark.parametrize(
        ("asked", "after"), [(REFUSED, b"x"), (ALIVE, b"\r\n")], ids=["rest-of-a-body", "blank-lines"]
    )
    def test_by_what_comes_after_an_answer(self, service: RunningService, asked: bytes, after: bytes) -> None:
        with connected(service) as client:
            client.sendall(asked)
            assert status_of(client)
            client.sendall(after)
            require_end(client)

    def test_by_answers_that_are_not_taken(self, service: RunningService) -> None:
        with connected(service) as client:
            client.sendall(b"GET /v1/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 400)
            time.sleep(3 * SOON)
            require_end(client)  # before 400 answers


def test_body_that_is_refused_may_end_and_another_request_follow(service: RunningService) -> None:
    with connected(service) as client:
        client.sendall(REFUSED)
        assert status_of(client) == b"405"
        client.sendall(b"x" * 100_000 + ALIVE)
        assert status_of(client) == b"200"


class TestTrailer:
    def test_tells_nobody_who_asks(self, service: RunningService) -> None:
        with connected(service) as client:
            bearer = service.place.bearers["bob"].encode()
            client.sendall(SIGN + CHUNKED + b"Authorization: Bearer %b\r\n\r\n" % bearer)
            assert status_of(client) == b"401"

    def test_takes_no_memory(self, service: RunningService) -> None:
        with connected(service) as client:
            client.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ")
            assert status_of(client) == b"200"
            with contextlib.suppress(*ENDED):
                for _ in range(100):
                    client.sendall(b"x" * HEAD_SIZE_MAXIMUM)
                pytest.fail("the service took it all")


@pytest.mark.parametrize(
    "head",
    [
        SIZED * 2,
        SIZED + b"Content-Length: 5\r\n",
        b"Content-Length: +%d\r\n" % len(BODY),
        b"Content-Length: " + b"9" * 5000 + b"\r\n",
        SIZED + b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\n" + SIZED,
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"X: a\r\n b\r\n" + SIZED,
        b"X: a\rContent-Length: 3\r\n" + SIZED,
        b"X: a\x00b\r\n" + SIZED,
        b"X: a\n" + SIZED,
    ],
)
def test_message_of_which_readers_may_see_different_ends_is_refused(
    service: RunningService, head: bytes
) -> None:
    with connected(service, "alice") as client:
        client.sendall(SIGN + head + b"\r\n" + BODY)
        assert status_of(client) == b"400"
        require_end(client)


@pytest.mark.parametrize(
    "name", [b"LANE/EC=3AP256", b"x/../lane/ec=3Ap256", b"x/%2e%2e/lane/ec=3Ap256", b"lane%252Fec=3Ap256"]
)
def test_key_has_one_name_only(service: RunningService, name: bytes) -> None:
    with connected(service, "alice") as client:
        client.sendall(SIGN.replace(b"lane/ec=3Ap256", name) + SIZED + b"\r\n" + BODY)
        assert status_of(client) == b"404"
