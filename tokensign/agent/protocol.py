"""Requests, answers and errors of the agent as octets on a socket.

A message is four octets with its length, most significant first, and that many octets of JSON: an object. A
request has `version`, `operation` and the operation's own fields; an answer has `version` and either `result`
or `error`, which is the name of a class of `tokensign.errors` with its message, hint and exit code. Octets
within are base64. On one connection an answer follows each request.
"""

from __future__ import annotations

import json
import struct
import time
from typing import TYPE_CHECKING, Any, Final

from tokensign.errors import AgentError, MalformedError, UnsupportedError
from tokensign.wire import error_document, error_of

if TYPE_CHECKING:
    import socket

    from tokensign.errors import TokensignError

__all__ = [
    "ANSWER_MAXIMUM",
    "REQUEST_MAXIMUM",
    "VERSION",
    "answer_of",
    "error_answer",
    "receive",
    "request_of",
    "send",
]

VERSION: Final = 1
"""Of the protocol; both sides must speak the same."""

REQUEST_MAXIMUM: Final = 1 << 20
"""Octets of a request: signed attributes, a wrapped key and a certificate have some thousand."""

ANSWER_MAXIMUM: Final = 1 << 24
"""Octets of an answer: all keys of a token with their certificates."""

_LENGTH: Final = struct.Struct(">I")


def send(connection: socket.socket, document: dict[str, Any], maximum: int, timeout: float) -> None:
    """Send a message.

    Args:
        connection: The socket.
        document: The message.
        maximum: How many octets it may have.
        timeout: Seconds until all of it must have been taken.

    Raises:
        MalformedError: It is longer.
        OSError: The other side went away, or does not take it in time (TimeoutError).
    """
    content = json.dumps(document).encode()
    if len(content) > maximum:
        raise MalformedError(f"a message to or from the agent has more than {maximum} bytes")
    connection.settimeout(timeout)
    connection.sendall(_LENGTH.pack(len(content)) + content)


def receive(connection: socket.socket, maximum: int, timeout: float) -> dict[str, Any] | None:
    """Receive a message; None where the other side ends the connection instead.

    Args:
        connection: The socket.
        maximum: How many octets it may have; they are not read if it says more.
        timeout: Seconds until all of it must be there.

    Raises:
        MalformedError: It is too long, cut off, or no JSON object.
        OSError: The other side went away, or does not send it in time (TimeoutError).
    """
    end = time.monotonic() + timeout
    head = _read(connection, _LENGTH.size, end)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise MalformedError("the message is cut off")
    (size,) = _LENGTH.unpack(head)
    if size > maximum:
        raise MalformedError(f"the message has {size} bytes, and {maximum} are the most")
    content = _read(connection, size, end)
    if len(content) < size:
        raise MalformedError("the message is cut off")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise MalformedError("the message is not JSON") from None
    if not isinstance(document, dict):
        raise MalformedError("the message is not a JSON object")
    return document


def _read(connection: socket.socket, size: int, end: float) -> bytearray:
    """So many octets, or fewer where the connection ends."""
    content = bytearray()
    while len(content) < size:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        piece = connection.recv(size - len(content))
        if not piece:
            break
        content += piece
    return content


def request_of(operation: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A request."""
    return {"version": VERSION, "operation": operation, **fields}


def error_answer(error: TokensignError) -> dict[str, Any]:
    """The answer that carries an error, without its causes."""
    return {"version": VERSION, "error": error_document(error)}


def answer_of(document: dict[str, Any]) -> dict[str, Any]:
    """The result in an answer.

    Raises:
        TokensignError: The one that the agent met, of the same class.
        UnsupportedError: The agent speaks another version.
        MalformedError: It is no answer.
    """
    require_version(document)
    result, told = document.get("result"), document.get("error")
    if isinstance(result, dict):
        return result
    if not isinstance(told, dict):
        raise MalformedError("the agent's answer is neither a result nor an error")
    raise error_of(told, AgentError)


def require_version(document: dict[str, Any]) -> None:
    """Refuse a message of another version of the protocol.

    Raises:
        UnsupportedError: It is of another one.
    """
    if document.get("version") != VERSION:
        raise UnsupportedError(
            f"the agent and this program do not speak the same version of their protocol ({VERSION})",
            hint="run `tokensign agent stop`, and start it again",
        )
