"""Serving over HTTP to strangers: uvicorn, with limits on what a connection may take and keep waiting.

Sockets are made by the caller, so that a server tells its port before it serves, and two never share one.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import socket
import time
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tokensign.errors import NetworkError

if TYPE_CHECKING:
    from starlette.applications import Starlette

__all__ = [
    "CONNECTIONS_MAXIMUM",
    "PIPELINED_MAXIMUM",
    "REQUEST_SECONDS",
    "REQUEST_SIZE_MAXIMUM",
    "SEND_SECONDS",
    "STOP_SECONDS",
    "HttpServer",
    "address_of",
    "listening",
]

CONNECTIONS_MAXIMUM: Final = 512  # half of the descriptors that a process usually has
REQUEST_SECONDS: Final = 10.0  # from a connection, or the first octet of a request, to its end
REQUEST_SIZE_MAXIMUM: Final = 65536  # octets; a GET has an OCSP request of at most some thousand in its path
PIPELINED_MAXIMUM: Final = 8  # requests of a connection that came before the first of them is answered
SEND_SECONDS: Final = 30.0  # in which a client must take something of an answer
STOP_SECONDS: Final = 10  # for the answers to requests that came before the signal to stop
_PATIENCE: Final = 0.5  # seconds, for requests that were sent before it and are on their way
_IDLE_SECONDS: Final = 5  # that a connection stays open for a further request
_BACKLOG: Final = 256  # connections that the system keeps until they are taken on


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: A name or address of this machine.
        port: The port, or 0 for any that is free.

    Raises:
        NetworkError: The port is taken, or not for this user, or the host has no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise NetworkError(
            f"{host}:{port} cannot be listened at: {error.strerror or error}",
            hint="choose another with --listen",
        ) from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Where a socket listens, as in a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class HttpServer:
    """An application at a socket.

    Args:
        application: What is served.
        listener: From `listening`; it is closed at the end.
    """

    def __init__(self, application: Starlette, listener: socket.socket) -> None:
        self._listener = listener
        self._server = _Server(
            uvicorn.Config(
                application,
                http=_LimitedProtocol,
                ws="none",
                loop="uvloop",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS_MAXIMUM + 1,  # then, no connection was silent: see `_make_room`
                backlog=_BACKLOG,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=STOP_SECONDS,
            ),
            listener,
        )
        logger = logging.getLogger("uvicorn")  # it tells every stranger's mistake, and tracebacks
        logger.addHandler(logging.NullHandler())
        logger.propagate = False

    def run(self) -> None:
        """Serve until `stop`, or SIGINT or SIGTERM; what was asked before that is answered.

        In the main thread such a signal is raised again at the end.
        """
        gc.freeze()  # what was imported stays; to look through it again and again takes a tenth of the time
        self._server.run([self._listener.dup()])

    def stop(self) -> None:
        """Let `run` end; from any thread."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Answers all who asked before it was told to stop; uvicorn turns away what it has not read yet."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._listener = listener

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take on the connections that wait in the system, give them time to ask, and stop."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(0)  # the loop lets go of its socket; the listener keeps clients waiting
        self._listener.settimeout(0)
        protocol = functools.partial(_LimitedProtocol, self.config, self.server_state, self.lifespan.state)
        for _ in range(_BACKLOG):
            try:
                stream, _ = self._listener.accept()
            except OSError:  # there is none
                break
            await asyncio.get_running_loop().connect_accepted_socket(protocol, stream)
        self._listener.close()
        await asyncio.sleep(_PATIENCE if self.server_state.connections else 0)
        await super().shutdown(sockets)


class _TooManyError(Exception):
    """More requests came at once than are taken on; the parser stops at it, and uvicorn refuses the rest."""


class _LimitedProtocol(HttpToolsProtocol):
    """A connection whose requests end in time, and are not too large; uvicorn would wait, and keep all."""

    _deadline: asyncio.TimerHandle | None = None
    _size = 0  # octets since the last request ended
    _silent_since = 0.0

    @property
    def is_silent(self) -> bool:
        """Whether nothing is being answered."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= CONNECTIONS_MAXIMUM:
            self._make_room()
        super().connection_made(transport)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        super().data_received(data)
        if self._size > REQUEST_SIZE_MAXIMUM and not self.transport.is_closing():
            self.send_400_response("The request is too large.")

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= PIPELINED_MAXIMUM:
            raise _TooManyError
        super().on_message_begin()
        self._expect_request()

    def on_message_complete(self) -> None:
        self._size = 0
        self._cancel_deadline()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._silent_since = time.monotonic()
        self._watch_sending()

    def _make_room(self) -> None:
        """End the connection that has been silent for longest, so that silence keeps nobody else out."""
        silent = [one for one in self.connections if isinstance(one, _LimitedProtocol) and one.is_silent]
        if silent:
            oldest = min(silent, key=lambda one: one._silent_since)  # noqa: SLF001 - of the same class
            self.connections.discard(oldest)
            oldest.transport.abort()

    def _expect_request(self) -> None:
        self._silent_since = time.monotonic()
        self._cancel_deadline()
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _watch_sending(self, before: int | None = None) -> None:
        """End the connection if the client takes nothing of its answer."""
        left = self.transport.get_write_buffer_size()
        if left and left == before:
            self.transport.abort()
        elif left:
            self._cancel_deadline()
            self._deadline = self.loop.call_later(SEND_SECONDS, self._watch_sending, left)
