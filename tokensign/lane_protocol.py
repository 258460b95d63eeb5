"""What the service and the worker process of a lane tell each other, as octets on a socket.

A message is four octets with the length of the rest, most significant first. The first one to the worker is
its settings, and the first one from it `Listing`, its keys or why there are none: both are JSON. What follows
are calls, and answers with their numbers, in binary, because there are thousands a second. A call is its
number, the operation, the moment after which it is not begun, and octet strings: the name of the key, a
parameter, and the items, on each of which the operation is done. An answer is the number, and for each item
its result, or a JSON document of `tokensign.wire.error_document`.

Both processes run the same version on the same machine; the moments are of its monotonic clock.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from tokensign.algorithms import SCHEMES
from tokensign.certificates import Certificate
from tokensign.errors import LaneDownError, MalformedError, TokensignError
from tokensign.uri import KeyUri
from tokensign.wire import (
    certificates_of,
    encoded,
    error_document,
    error_of,
    octets,
    public_key_octets,
    public_key_of,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = [
    "MESSAGE_MAXIMUM",
    "Call",
    "KeyListing",
    "Listing",
    "Messages",
    "Operation",
    "answer_message",
    "answer_of",
    "call_message",
    "call_of",
    "framed",
]

MESSAGE_MAXIMUM: Final = 1 << 20
"""Octets of a message that is signed by itself; signed attributes have some hundred."""

_FRAME_MAXIMUM: Final = 1 << 24  # octets: all keys of a token with their certificates
_LENGTH: Final = struct.Struct(">I")
_CALL: Final = struct.Struct(">IBd")  # number, operation, moment
_DONE: Final = b"\0"
_FAILED: Final = 1


class Operation(IntEnum):
    """What a worker does."""

    PROBE = 0
    """See whether the token is there, and log in again if it was away."""
    SIGN_DIGEST = 1
    """Its parameter is the name of the scheme."""
    SIGN = 2
    """As before; the items are messages."""
    UNWRAP = 3
    """Its parameter is a JSON document of `tokensign.wire.transport_document`."""
    AGREE = 4
    """The items are the SubjectPublicKeyInfo of the peers."""
    DECAPSULATE = 5


@dataclass(frozen=True, slots=True)
class Call:
    """Something to be done.

    Attributes:
        number: Which the answer has too.
        operation: What is done.
        begin_by: The moment of the monotonic clock after which it is not begun.
        key: The name of the key in its `KeyListing`.
        parameter: What the operation says.
        items: Octets on each of which it is done.
    """

    number: int
    operation: Operation
    begin_by: float
    key: bytes
    parameter: bytes
    items: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class KeyListing:
    """A private key, as a worker tells it.

    Attributes:
        name: Names it in calls to this worker, and to others of the same token.
        label: CKA_LABEL.
        id: CKA_ID.
        ambiguous: Whether another key has the same label, or this one none.
        spec: Its type, such as "rsa:3072".
        uri: The URI that names it.
        public_key: The public half.
        usages: What it may be used for, as `tokensign.token.KeyInfo` has it.
        schemes: The names of those in which it signs.
        certificates: Those on the token with its public key, newest first.
        certificate: The one to sign with, or None.
        chain: The CA certificates above that one.
    """

    name: bytes
    label: str
    id: bytes
    ambiguous: bool
    spec: str
    uri: KeyUri
    public_key: PublicKeyTypes
    usages: frozenset[str]
    schemes: Sequence[str]
    certificates: Sequence[Certificate]
    certificate: Certificate | None
    chain: Sequence[Certificate]

    def to_json(self) -> dict[str, Any]:
        """As it stands in a message."""
        return {
            "name": encoded(self.name),
            "label": self.label,
            "id": encoded(self.id),
            "ambiguous": self.ambiguous,
            "spec": self.spec,
            "uri": str(self.uri),
            "public_key": encoded(public_key_octets(self.public_key)),
            "usages": sorted(self.usages),
            "schemes": list(self.schemes),
            "certificates": [encoded(one.der) for one in self.certificates],
            "certificate": encoded(self.certificate.der) if self.certificate else None,
            "chain": [encoded(one.der) for one in self.chain],
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> KeyListing:
        """From what stands in a message.

        Raises:
            MalformedError: It is not that.
        """
        try:
            label = text(document, "label")
            label.encode()  # of which ids are made; a lone surrogate cannot be
            return cls(
                name=octets(document, "name"),
                label=label,
                id=octets(document, "id"),
                ambiguous=bool(document["ambiguous"]),
                spec=text(document, "spec"),
                uri=KeyUri.parse(text(document, "uri")),
                public_key=public_key_of(octets(document, "public_key")),
                usages=frozenset(document["usages"]),
                schemes=tuple(SCHEMES[name].name for name in document["schemes"]),
                certificates=certificates_of(document["certificates"]),
                certificate=Certificate(octets(document, "certificate")) if document["certificate"] else None,
                chain=certificates_of(document["chain"]),
            )
        except (KeyError, TypeError, ValueError):
            raise MalformedError("the worker describes a key in another way than is known here") from None


class Listing:
    """The first message of a worker: its keys, or why it has none."""

    @staticmethod
    def message(keys: Iterable[KeyListing]) -> bytes:
        """The message of a worker that is ready."""
        return framed(json.dumps({"keys": [key.to_json() for key in keys]}).encode())

    @staticmethod
    def refusal(error: TokensignError) -> bytes:
        """The message of a worker that cannot begin."""
        return framed(json.dumps({"error": error_document(error)}).encode())

    @staticmethod
    def read(content: bytes) -> list[KeyListing]:
        """The keys.

        Raises:
            TokensignError: Why there are none, of the class that the worker met.
            MalformedError: It is no such message.
        """
        try:
            document = json.loads(content)
            if "error" in document:
                raise error_of(document["error"], LaneDownError)
            return [KeyListing.from_json(entry) for entry in document["keys"]]
        except (KeyError, TypeError, ValueError, RecursionError):
            raise MalformedError("the worker does not list its keys") from None


class Messages:
    """Puts together the messages that arrive in pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._missing = 0  # octets of the message that has begun

    def feed(self, piece: bytes) -> list[bytes]:
        """The messages that are complete with a further piece, without their lengths.

        Raises:
            MalformedError: A message says that it is too long.
        """
        if self._missing > len(piece):
            self._rest += piece
            self._missing -= len(piece)
            return []
        content = bytes(self._rest) + piece if self._rest else piece
        self._missing = 0
        found, begin = [], 0
        while len(content) - begin >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(content, begin)
            if size > _FRAME_MAXIMUM:
                raise MalformedError(f"the message has {size} bytes, and {_FRAME_MAXIMUM} are the most")
            end = begin + _LENGTH.size + size
            if end > len(content):
                self._missing = end - len(content)
                break
            found.append(content[begin + _LENGTH.size : end])
            begin = end
        if begin < len(content):
            self._rest = bytearray(content[begin:])
        elif self._rest:
            self._rest.clear()
        return found


def framed(content: bytes) -> bytes:
    """A message with its length before it."""
    return _LENGTH.pack(len(content)) + content


def call_message(
    number: int, operation: Operation, begin_by: float, key: bytes, parameter: bytes, items: Sequence[bytes]
) -> bytes:
    """A call, as it is sent; see `Call`."""
    head = _CALL.pack(number, operation, begin_by)
    return framed(head + _joined((key, parameter, *items)))


def call_of(content: bytes) -> Call:
    """The call in a message.

    Raises:
        MalformedError: It is none.
    """
    try:
        number, operation, begin_by = _CALL.unpack_from(content)
        key, parameter, *items = _split(content, _CALL.size)
        return Call(number, Operation(operation), begin_by, key, parameter, items)
    except (struct.error, ValueError):
        raise MalformedError("the message is no call") from None


def answer_message(number: int, results: Iterable[bytes | TokensignError]) -> bytes:
    """The answer to a call, as it is sent."""
    told = (_DONE + one if isinstance(one, bytes) else _error_result(one) for one in results)
    return framed(_LENGTH.pack(number) + _joined(told))


def answer_of(content: bytes) -> tuple[int, list[bytes | TokensignError]]:
    """The number of a call, and the result of each item, in order.

    Raises:
        MalformedError: It is no answer.
    """
    try:
        (number,) = _LENGTH.unpack_from(content)
        return number, [_result(one) for one in _split(content, _LENGTH.size)]
    except (struct.error, ValueError, IndexError, RecursionError):
        raise MalformedError("the message is no answer") from None


def _error_result(error: TokensignError) -> bytes:
    """An error in the place of a result."""
    return bytes((_FAILED,)) + json.dumps(error_document(error)).encode()


def _result(told: bytes) -> bytes | TokensignError:
    return told[1:] if told[0] != _FAILED else error_of(json.loads(told[1:]), LaneDownError)


def _joined(strings: Iterable[bytes]) -> bytes:
    return b"".join(part for one in strings for part in (_LENGTH.pack(len(one)), one))


def _split(content: bytes, begin: int) -> list[bytes]:
    """Octet strings, each with its length before it.

    Raises:
        ValueError: They do not end where the message does.
    """
    found = []
    while begin < len(content):
        (size,) = _LENGTH.unpack_from(content, begin)
        begin += _LENGTH.size + size
        if begin > len(content):
            raise ValueError
        found.append(content[begin - size : begin])
    return found
