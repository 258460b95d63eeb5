"""The agent's side of the socket: many connections at a time, each with limits."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

from tokensign.agent.peer import peer_of
from tokensign.agent.protocol import (
    ANSWER_MAXIMUM,
    REQUEST_MAXIMUM,
    VERSION,
    error_answer,
    receive,
    send,
)
from tokensign.errors import AgentError, MalformedError, TokensignError

if TYPE_CHECKING:
    from tokensign.agent.custody import Custody
    from tokensign.agent.operations import Operations
    from tokensign.agent.peer import Peer
    from tokensign.agent.place import Claim

__all__ = ["CONNECTIONS_MAXIMUM", "Server"]

_log: Final = logging.getLogger(__name__)

CONNECTIONS_MAXIMUM: Final = 64
"""Connections at a time, each of which has a thread; a program has one for each of its own threads."""

REQUEST_TIMEOUT: Final = 10.0
"""Seconds in which a request that has begun must be there, and an answer be taken."""

_QUIET_MAXIMUM: Final = 60.0  # seconds between two requests on a connection; a client connects anew then
_LOOK: Final = 30.0  # seconds at most between two looks at the clock, which goes on while the machine sleeps


class Server:
    """Answers requests until it is stopped.

    Args:
        claim: The place of the socket.
        operations: What is done.
        custody: The login, which ends with the server.
    """

    def __init__(self, claim: Claim, operations: Operations, custody: Custody) -> None:
        self._claim = claim
        self._operations = operations
        self._custody = custody
        self._slots = threading.BoundedSemaphore(CONNECTIONS_MAXIMUM)
        self._stopping = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._listener = claim.listen()

    def run(self) -> None:
        """Accept connections. Whatever ends it, the login and the socket end with it."""
        try:
            while not self._stopping.is_set():
                left = self._custody.seconds_left
                timeout = _LOOK if left is None else min(left, _LOOK)
                ready, _, _ = select.select([self._listener, self._woken], [], [], timeout)
                self._custody.lock_when_due()
                if self._listener in ready:
                    self._accept()
        finally:
            self.end()
            for one in (self._listener, self._wake, self._woken):
                one.close()

    def end(self) -> None:
        """Log out, forget the PIN and remove the socket."""
        self._stopping.set()
        self._log_out()

    def _log_out(self) -> None:
        self._claim.release()
        self._custody.lock()

    def _accept(self) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:  # it may be gone again already
            connection = stack.enter_context(self._listener.accept()[0])
            peer = peer_of(connection)
            if peer.user != os.geteuid():  # not a word, and not a byte is read
                _log.warning("refused a connection of the user %d", peer.user)
            elif not self._slots.acquire(blocking=False):
                send(connection, error_answer(_TOO_MANY), ANSWER_MAXIMUM, timeout=0.0)
            else:
                self._serve(connection, peer)
                stack.pop_all()  # the thread closes it

    def _serve(self, connection: socket.socket, peer: Peer) -> None:
        """Start the thread of a connection.

        Raises:
            OSError: The system has no more threads for this user.
        """
        try:
            threading.Thread(target=self._converse, args=(connection, peer), daemon=True).start()
        except RuntimeError as error:
            self._slots.release()
            raise OSError(str(error)) from error

    def _converse(self, connection: socket.socket, peer: Peer) -> None:
        """Answer the requests on a connection, one after the other."""
        try:
            with connection:
                while not self._stopping.is_set() and _has_more(connection):
                    try:
                        request = receive(connection, REQUEST_MAXIMUM, REQUEST_TIMEOUT)
                    except MalformedError as error:  # where the next request begins is not known any more
                        send(connection, error_answer(error), ANSWER_MAXIMUM, REQUEST_TIMEOUT)
                        return
                    if request is None:
                        return
                    self._answer(connection, request, peer)
        except OSError:  # the client is gone, or too slow
            _log.info("lost a connection of process %s", peer.process)
        finally:
            self._slots.release()

    def _answer(self, connection: socket.socket, request: dict[str, Any], peer: Peer) -> None:
        stopping = request.get("operation") == "stop" and request.get("version") == VERSION
        if stopping:
            self._log_out()
        try:
            result = {} if stopping else self._operations.perform(request, peer)
            answer = {"version": VERSION, "result": result}
        except TokensignError as error:
            answer = error_answer(error)
        except Exception as error:  # noqa: BLE001 - one request must not end the others
            answer = error_answer(TokensignError(f"this is a bug in the agent ({type(error).__name__})"))
        try:
            send(connection, answer, ANSWER_MAXIMUM, REQUEST_TIMEOUT)
        except MalformedError as error:
            send(connection, error_answer(error), ANSWER_MAXIMUM, REQUEST_TIMEOUT)
        finally:
            if stopping:  # not before the answer is sent: the process ends, and takes this thread with it
                self._stopping.set()
                self._wake.send(b"\0")


def _has_more(connection: socket.socket) -> bool:
    """Wait for the next request, or the end of a connection; whether it came."""
    return bool(select.select([connection], [], [], _QUIET_MAXIMUM)[0])


_TOO_MANY: Final = AgentError(
    f"the agent has {CONNECTIONS_MAXIMUM} connections already",
    hint="try again when other programs have ended",
)
