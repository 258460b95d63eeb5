"""The worker process of a lane: it alone loads the module, reads the PIN and holds the login on a token.

    python -m tokensign.token.lane

Its standard input is a socket, on which it speaks `tokensign.lane_protocol` with the signing service that
started it. It does one operation after the other, in the order in which they came; when the socket ends it
logs out and ends. What it met, it tells in answers: nothing but a crash or a hang of the module, which the
service sees from outside, ends it otherwise.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokensign.algorithms import SCHEMES
from tokensign.errors import (
    KeyNotFoundError,
    LaneBusyError,
    TokensignError,
    UnsupportedError,
)
from tokensign.lane_protocol import (
    KeyListing,
    Listing,
    Messages,
    Operation,
    answer_message,
    call_of,
)
from tokensign.token.capabilities import schemes_of
from tokensign.token.hardening import end_with_parent, harden
from tokensign.token.objects import list_keys
from tokensign.token.opening import open_token
from tokensign.token.private_key import TokenKey
from tokensign.wire import public_key_of, text, transport_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tokensign.algorithms import SignatureScheme
    from tokensign.lane_protocol import Call
    from tokensign.token.objects import KeyInfo
    from tokensign.token.opening import Token

__all__ = ["main"]

_PIECE: Final = 1 << 16  # octets that are read at a time
_ANSWER_SECONDS: Final = 0.003  # that an answer waits for others


def main() -> None:
    """Be a worker, until the socket ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the service gets them, and ends us
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
    harden()
    with contextlib.suppress(ConnectionError), socket.socket(fileno=0) as connection:  # the service is gone
        messages = Messages()
        settings = _first(connection, messages)
        if settings is None:
            return
        try:
            document = json.loads(settings)
            with open_token(
                Path(text(document, "module")), text(document, "token"), text(document, "pin_source")
            ) as token:
                token.log_in()
                keys = {str(info.uri).encode(): TokenKey(token, info) for info in _usable(token)}
                connection.sendall(Listing.message(_listings(keys)))
                Worker(token, keys).serve(connection, messages)
        except TokensignError as error:
            connection.sendall(Listing.refusal(error))


def _first(connection: socket.socket, messages: Messages) -> bytes | None:
    while piece := connection.recv(_PIECE):
        for message in messages.feed(piece):
            return message
    return None


def _usable(token: Token) -> Iterator[KeyInfo]:
    """The keys whose public half is at hand: without it nobody knows what they do."""
    return (info for info in list_keys(token) if info.public_key is not None)


def _listings(keys: dict[bytes, TokenKey]) -> Iterator[KeyListing]:
    labels = Counter(key.info.label for key in keys.values())
    for name, key in keys.items():
        info = key.info
        yield KeyListing(
            name=name,
            label=info.label,
            id=info.id,
            ambiguous=not info.label or labels[info.label] > 1,
            spec=info.spec,
            uri=info.uri,
            public_key=key.public_key,
            usages=info.usages,
            schemes=tuple(_schemes(key)),
            certificates=key.certificates,
            certificate=key.certificate,
            chain=key.chain,
        )


def _schemes(key: TokenKey) -> Iterator[str]:
    """The schemes in which the token takes the key."""
    if "sign" in key.info.usages:
        yield from (one.name for one in schemes_of(key.info.spec) if key.try_scheme(one).possible)


class Worker:
    """Answers calls.

    Args:
        token: The token, logged in.
        keys: Its keys, by their names in `KeyListing`.
    """

    def __init__(self, token: Token, keys: dict[bytes, TokenKey]) -> None:
        self._token = token
        self._keys = keys

    def serve(self, connection: socket.socket, messages: Messages) -> None:
        """Answer until the socket ends.

        Answers travel together, because each message wakes the service. Half of what is at hand is answered
        first, then half of the rest, so that the service has something to do meanwhile and sends more.

        Args:
            connection: The socket.
            messages: What puts its pieces together; nothing complete is left in it.
        """
        while piece := connection.recv(_PIECE):
            answers: list[bytes] = []
            sent = time.monotonic()
            contents = messages.feed(piece)
            for done, content in enumerate(contents, 1):
                call = call_of(content)
                answers.append(answer_message(call.number, self._results(call)))
                if len(answers) >= len(contents) - done or time.monotonic() - sent > _ANSWER_SECONDS:
                    connection.sendall(b"".join(answers))
                    answers.clear()
                    sent = time.monotonic()

    def _results(self, call: Call) -> Iterable[bytes | TokensignError]:
        """The result of each item."""
        try:
            operate = self._prepared(call)
        except TokensignError as error:
            return [error] * len(call.items)
        return [_result(operate, item, call.begin_by) for item in call.items]

    def _prepared(self, call: Call) -> Callable[[bytes], bytes]:
        """What is done with each item of a call."""
        if call.operation is Operation.PROBE:
            return self._probe
        key = self._keys.get(call.key)
        if key is None:
            raise KeyNotFoundError("this key was not on the token when the lane was started")
        match call.operation:
            case Operation.SIGN_DIGEST:
                return partial(key.sign_digest, scheme=_scheme(call))
            case Operation.SIGN:
                return partial(key.sign, scheme=_scheme(call))
            case Operation.UNWRAP:
                return partial(key.unwrap, transport=transport_of(json.loads(call.parameter)))
            case Operation.AGREE:
                return lambda peer: key.agree(public_key_of(peer))
            case Operation.DECAPSULATE:
                return key.decapsulate

    def _probe(self, item: bytes) -> bytes:
        """Find the token, and log in again if it was away."""
        self._token.read_info()
        self._token.log_in()
        return item


def _scheme(call: Call) -> SignatureScheme:
    scheme = SCHEMES.get(call.parameter.decode())
    if scheme is None:
        raise UnsupportedError("this signature scheme is not known")
    return scheme


def _result(operate: Callable[[bytes], bytes], item: bytes, begin_by: float) -> bytes | TokensignError:
    if time.monotonic() > begin_by:
        return LaneBusyError("the token is busy, and this was not begun in time", hint="try again later")
    try:
        return operate(item)
    except TokensignError as error:
        return error
    except Exception as error:  # noqa: BLE001 - one item must not end the others
        return TokensignError(f"this is a bug in the lane ({type(error).__name__})")


if __name__ == "__main__":
    main()
