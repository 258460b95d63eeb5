"""The listening socket of the gateway: a thread for each connection, and an orderly end."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import TokensignError
from tokensign.gateway.lmtp import SIZE_MAXIMUM, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.smime.transport.smtp_client import Envelope, Reply

__all__ = ["CONNECTIONS_MAXIMUM", "Server"]

_log: Final = logging.getLogger(__name__)

CONNECTIONS_MAXIMUM: Final = 50
"""Connections at a time; Postfix makes twenty to one destination unless told otherwise."""

ENDING: Final = 3.0
"""Seconds for which the mails in work are waited for at the end. What is not done then is sent again by the
mail server, or finished by the process that hands it over."""

_LOOK: Final = 0.5  # seconds between two looks whether to stop


class Server:
    """Takes connections until it is stopped.

    Args:
        listener: The listening socket, which the server closes.
        deliver: What takes the mails.
        size_maximum: Octets of a mail at the most.
    """

    def __init__(
        self,
        listener: socket.socket,
        deliver: Callable[[Envelope, BinaryIO, bytes], dict[str, Reply]],
        size_maximum: int = SIZE_MAXIMUM,
    ) -> None:
        self._listener = listener
        self._deliver = deliver
        self._size_maximum = size_maximum
        self._stopping = threading.Event()
        self._sessions: dict[threading.Thread, socket.socket] = {}
        self._delivering = 0
        self._lock = threading.Lock()

    def stop(self) -> None:
        """Let `run` come to its end; may be called from a signal's handler or another thread."""
        self._stopping.set()

    def run(self) -> None:
        """Take connections until `stop`; then finish the mails that are in work, within `ENDING`."""
        with self._listener:
            while not self._stopping.is_set():
                if select.select([self._listener], [], [], _LOOK)[0]:
                    self._accept()
        end = time.monotonic() + ENDING
        while self._delivering and time.monotonic() < end:
            time.sleep(0.02)
        with self._lock:
            left = dict(self._sessions)
        for connection in left.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in left:
            thread.join(max(0.0, end - time.monotonic()))

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError as error:  # it is gone again, or the system has no more descriptors for this process
            _log.warning("a connection was not taken: %s", error.strerror)
            self._stopping.wait(_LOOK)  # or it would be tried without an end
            return
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:  # it may be gone again already
            connection = stack.enter_context(accepted)
            with self._lock:
                busy = len(self._sessions) >= CONNECTIONS_MAXIMUM
                if not busy:
                    thread = threading.Thread(target=self._converse, args=(connection,), daemon=True)
                    self._sessions[thread] = connection
            if busy:
                connection.settimeout(0.0)
                connection.sendall(b"421 4.3.2 the gateway has too many connections\r\n")
                return
            try:
                thread.start()
            except RuntimeError:  # the system has no more threads for this user
                with self._lock:
                    del self._sessions[thread]
                _log.error("no thread for a connection")
                return
            stack.pop_all()  # the thread closes it

    def _converse(self, connection: socket.socket) -> None:
        try:
            with connection:
                Session(connection, self._counted, self._stopping.is_set, self._size_maximum).run()
        except (OSError, TokensignError) as error:  # the other side is gone, or there is no room for the mail
            _log.info("a connection was lost (%s)", type(error).__name__)
        finally:
            with self._lock:
                del self._sessions[threading.current_thread()]

    def _counted(self, envelope: Envelope, content: BinaryIO, digest: bytes) -> dict[str, Reply]:
        with self._lock:
            self._delivering += 1
        try:
            return self._deliver(envelope, content, digest)
        finally:
            with self._lock:
                self._delivering -= 1
