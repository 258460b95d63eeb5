"""The HTTP server alone: what it reads, what strangers can take of it, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from tokensign.authority import http_server
from tokensign.authority.http_server import (
    PIPELINED_MAXIMUM,
    REQUEST_SIZE_MAXIMUM,
    HttpServer,
    listening,
)
from tokensign.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

HEAD = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
LARGE = bytes(20_000_000)


class Site:
    """What the tests ask for; `go_on` lets the answers go that wait for it."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.asked = 0
        self.application = Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])

    async def answer(self, request: Request) -> Response:
        self.asked += 1
        match request.url.path:
            case "/echo":
                return Response(await request.body())
            case "/large":
                return Response(LARGE)
            case "/late":
                await asyncio.to_thread(self.go_on.wait, 20)
            case "/busy":
                time.sleep(0.3)  # noqa: ASYNC251 - nothing else shall happen meanwhile
        return Response(request.url.path)


class Served:
    def __init__(self, site: Site, listener: socket.socket) -> None:
        self.server = HttpServer(site.application, listener)
        self.address = listener.getsockname()
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)

    def stop(self) -> None:
        self.server.stop()
        self.thread.join()

    def exchange(self, *pieces: bytes) -> bytes:
        """All that comes until the server closes."""
        with self.connect() as stream:
            for piece in pieces:
                stream.sendall(piece)
            return rest(stream)


def rest(stream: socket.socket) -> bytes:
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := stream.recv(65536):
            received += piece
    return bytes(received)


def get(path: str, *fields: str, version: str = "1.1") -> bytes:
    lines = (f"GET {path} HTTP/{version}", "Host: x", *fields, "", "")
    return "\r\n".join(lines).encode()


def last(path: str) -> bytes:
    return get(path, "Connection: close")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def site() -> Site:
    return Site()


@pytest.fixture(scope="module")
def served(site: Site) -> Iterator[Served]:
    with listening("127.0.0.1", 0) as listener:
        running = Served(site, listener)
        yield running
        site.go_on.set()
        running.stop()


class TestReading:
    def test_connection_serves_one_request_after_the_other(self, served: Served) -> None:
        with served.connect() as stream:
            for path in ("/a", "/b"):
                stream.sendall(get(path))
                assert stream.recv(4096).endswith(path.encode())

    @pytest.mark.parametrize("chunked", [False, True])
    def test_body_may_come_in_any_pieces(self, served: Served, *, chunked: bool) -> None:
        if chunked:
            request = HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            request += b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
        else:
            request = HEAD + b"Content-Length: 5\r\nConnection: close\r\n\r\nabcde"
        with served.connect() as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for octet in request:
                stream.sendall(bytes([octet]))
            assert rest(stream).endswith(b"\r\n\r\nabcde")

    def test_who_asks_first_whether_to_send_the_body_is_told_to(self, served: Served) -> None:
        with served.connect() as stream:
            stream.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            assert stream.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
            stream.sendall(b"abc")
            assert stream.recv(4096).endswith(b"\r\n\r\nabc")

    def test_older_versions_and_other_protocols_get_an_answer_and_the_end(self, served: Served) -> None:
        upgrade = get("/a", "Connection: Upgrade, close", "Upgrade: h2c")
        for request in (get("/a", version="1.0"), upgrade, get("http://x/a", "Connection: close")):
            answer = served.exchange(request)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\n/a")

    @pytest.mark.parametrize(
        "request_",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
            HEAD + b"Content-Length: -1\r\n\r\nabc",
            HEAD + b"Content-Length: 99999999999999999999999\r\n\r\nabc",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
            HEAD + b"Folded: a\r\n b\r\n\r\n",
        ],
        ids=range(10),
    )
    def test_what_is_not_http_or_means_two_things_is_refused(self, served: Served, request_: bytes) -> None:
        assert served.exchange(request_).startswith(b"HTTP/1.1 400 Bad Request\r\n")


class TestLimits:
    def test_requests_that_came_together_are_answered_in_order(self, served: Served) -> None:
        answer = served.exchange(get("/1") + get("/2") + last("/3"))
        assert [part.rpartition(b"\r\n")[2] for part in answer.split(b"HTTP/1.1 200 OK")[1:]] == [
            b"/1",
            b"/2",
            b"/3",
        ]

    def test_only_so_many_are_taken_on_at_once(self, served: Served, site: Site) -> None:
        before = site.asked
        answer = served.exchange(get("/1") * 10_000)
        assert answer.endswith(b"Invalid HTTP request received.")
        assert site.asked - before <= PIPELINED_MAXIMUM

    @pytest.mark.parametrize(
        ("start", "repeated"),
        [
            (b"GET /", b"x" * 1000),
            (b"GET / HTTP/1.1\r\n", b"X-Long: " + b"x" * 1000 + b"\r\n"),
            (b"GET / HTTP/1.1\r\nX: ", b"x" * 1000),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 100),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"extension=" * 100),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: x\r\n" * 100),
            (HEAD + b"Content-Length: %d\r\n\r\n" % (1 << 40), b"x" * 1000),
        ],
        ids=range(7),
    )
    def test_what_does_not_end_is_cut_off(self, served: Served, start: bytes, repeated: bytes) -> None:
        with served.connect() as stream:
            stream.sendall(start)
            sent = len(start)
            with pytest.raises(ConnectionError):  # noqa: PT012 - at whichever
                while sent < 100 * REQUEST_SIZE_MAXIMUM:
                    stream.sendall(repeated)
                    sent += len(repeated)

    @pytest.mark.parametrize(
        "start",
        [
            b"",
            b"GET / HT",
            b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
            HEAD + b"Content-Length: 100\r\n\r\nx",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
            get("/a") + b"GET / HT",
        ],
        ids=range(6),
    )
    def test_what_does_not_come_is_not_waited_for(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, start: bytes
    ) -> None:
        monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.2)
        begun = time.monotonic()
        assert b" 500 " not in served.exchange(start)
        assert time.monotonic() - begun < 4

    def test_drop_by_drop_is_too_late_as_well(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.3)
        with served.connect() as stream:
            stream.sendall(b"GET / HTTP/1.1\r\n")
            begun = time.monotonic()
            with pytest.raises(ConnectionError):  # noqa: PT012 - at whichever
                while time.monotonic() - begun < 4:
                    stream.sendall(b"X: x\r\n")
                    time.sleep(0.05)

    def test_long_answers_wait_for_slow_readers_outside_of_memory(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_server, "SEND_SECONDS", 0.5)
        with served.connect() as stream:
            stream.sendall(last("/large"))
            received = 0
            while piece := stream.recv(1 << 21):
                received += len(piece)
                time.sleep(0.02)
            assert received > len(LARGE)
        with served.connect() as stream:
            stream.sendall(last("/large"))
            time.sleep(1)
            assert len(rest(stream)) < len(LARGE)  # who takes nothing loses the connection

    def test_silent_connections_make_room(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_server, "CONNECTIONS_MAXIMUM", 4)
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(served.connect()) for _ in range(40)]
            for stream in silent[20:]:
                with contextlib.suppress(ConnectionError):
                    stream.sendall(b"GET / HTTP/1.1\r\nX: ")
            for _ in range(10):
                assert served.exchange(last("/a")).endswith(b"/a")
            assert rest(silent[0]) == b""

    def test_where_all_are_being_answered_others_are_told_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_server, "CONNECTIONS_MAXIMUM", 2)
        site = Site()
        with listening("127.0.0.1", 0) as listener:
            served = Served(site, listener)
            with served.connect() as first, served.connect() as second:
                for stream in (first, second):
                    stream.sendall(last("/late"))
                until(lambda: site.asked == 2)
                assert served.exchange(last("/a")).startswith(b"HTTP/1.1 503 ")
                site.go_on.set()
                assert rest(first).endswith(b"/late")
                assert rest(second).endswith(b"/late")
            served.stop()


class TestStopping:
    @pytest.fixture
    def short(self) -> Iterator[tuple[Served, Site]]:
        site = Site()
        with listening("127.0.0.1", 0) as listener:
            running = Served(site, listener)
            yield running, site
            site.go_on.set()
            running.stop()

    def test_what_was_asked_before_is_answered(self, short: tuple[Served, Site]) -> None:
        served, site = short
        with contextlib.ExitStack() as stack:
            asked = [stack.enter_context(served.connect()) for _ in range(30)]
            for stream in asked:
                stream.sendall(get("/late") + get("/a"))
            until(lambda: site.asked == 30)
            served.server.stop()
            threading.Timer(0.3, site.go_on.set).start()
            for stream in asked:
                assert rest(stream).count(b"HTTP/1.1 200 OK") == 2
        with pytest.raises(ConnectionRefusedError):
            served.connect()

    def test_connections_that_wait_in_the_system_are_taken_on(self, short: tuple[Served, Site]) -> None:
        served, site = short
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(served.connect())
            first.sendall(last("/busy"))  # nothing else happens meanwhile
            until(lambda: site.asked == 1)
            waiting = [stack.enter_context(served.connect()) for _ in range(30)]
            for stream in waiting:
                stream.sendall(get("/a"))
            served.server.stop()
            assert all(rest(stream).endswith(b"/a") for stream in waiting)

    def test_request_that_was_on_its_way_is_answered(self, short: tuple[Served, Site]) -> None:
        served, _ = short
        with served.connect() as stream:
            stream.sendall(b"GET /a HTTP/1.1\r\n")
            time.sleep(0.1)
            served.server.stop()
            time.sleep(0.2)
            stream.sendall(b"Host: x\r\n\r\n")
            assert rest(stream).endswith(b"/a")

    def test_silent_connections_do_not_keep_it(self, short: tuple[Served, Site]) -> None:
        served, _ = short
        with served.connect() as stream:
            begun = time.monotonic()
            served.stop()
            assert rest(stream) == b""
            assert time.monotonic() - begun < 5


def test_taken_port_is_told(served: Served) -> None:
    host, port = served.address
    with pytest.raises(NetworkError, match="cannot be listened at"), listening(host, port):
        pass
