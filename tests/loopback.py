"""A web server on the loopback address that answers as a test tells it, well or badly."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    Page = Callable[["Exchange"], None]

PATIENCE = 30  # seconds after which a server that shall never answer gives up, so that no test hangs


@dataclass
class Exchange:
    """One request, and the ways to answer it."""

    path: str
    body: bytes
    handler: BaseHTTPRequestHandler
    stopped: threading.Event

    def answer(self, body: bytes, *, status: int = 200, content_type: str = "", **headers: str) -> None:
        """An answer as it should be; underscores in the names of headers stand for hyphens."""
        self.handler.send_response(status)
        if content_type:
            self.handler.send_header("Content-Type", content_type)
        self.handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.end_headers()
        self.handler.wfile.write(body)

    def redirect(self, location: str, status: int = 302) -> None:
        self.answer(b"", status=status, Location=location)

    def never(self) -> None:
        """Take the request and say nothing."""
        self.stopped.wait(PATIENCE)

    def dribble(self, start: bytes, pause: float = 0.05) -> None:
        """One octet after the other without an end."""
        self.handler.wfile.write(start)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not self.stopped.wait(pause):
            self.handler.wfile.write(b"x")

    def pour(self, size: int) -> None:
        """Octets in chunks, without a word about how many."""
        self.handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(size >> 16):
            self.handler.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
        self.handler.wfile.write(b"0\r\n\r\n")


@dataclass
class Website:
    """The server: its pages by path, and what it was asked."""

    port: int
    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def at(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def serve(self, path: str, page: Page) -> str:
        self.pages[path] = page
        return self.at(path)


@contextlib.contextmanager
def website(tls: ssl.SSLContext | None = None) -> Iterator[Website]:
    """A server as long as the block lasts; none of its threads is left afterwards."""
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE

        def _exchange(self) -> None:
            site.asked.append(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            page = site.pages.get(self.path, lambda exchange: exchange.answer(b"nothing", status=404))
            with contextlib.suppress(ConnectionError):  # the other side had enough of it
                page(Exchange(self.path, body, self, stopped))

        do_GET = do_POST = _exchange  # noqa: N815 - the names that the base class calls

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002, ANN401 - as it is inherited
            """Nothing on stderr."""

    class Server(ThreadingHTTPServer):
        daemon_threads = False
        request_queue_size = 32

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        site = Website(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield site
        finally:
            stopped.set()
            server.shutdown()
            thread.join()


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
