"""Messages on a socket: what is sent arrives, and what is no message is refused."""

from __future__ import annotations

import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tokensign import errors
from tokensign.agent.protocol import (
    VERSION,
    answer_of,
    error_answer,
    receive,
    send,
)
from tokensign.errors import (
    AgentError,
    DecryptionError,
    MalformedError,
    TokenError,
    TokensignError,
    UnsupportedError,
)
from tokensign.wire import encoded, octets, text

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = [getattr(errors, name) for name in errors.__all__ if name != "VerificationError"]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_messages_arrive_one_after_the_other(pair: tuple[socket.socket, socket.socket]) -> None:
    for number in range(3):
        send(pair[0], {"number": number}, 100, 1)
    assert [receive(pair[1], 100, 1) for _ in range(3)] == [{"number": number} for number in range(3)]


def test_an_end_between_messages_is_no_message(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    assert receive(pair[1], 100, 1) is None


@pytest.mark.parametrize(
    "sent",
    [
        b"\0\0",
        struct.pack(">I", 10) + b"{}",
        struct.pack(">I", 3) + b"{]}",
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 2) + b"\xff\xfe",
        struct.pack(">I", 0),
        struct.pack(">I", 100_000) + b"[" * 100_000,
    ],
    ids=["length", "cut", "broken", "list", "not UTF-8", "empty", "deep"],
)
def test_what_is_no_message_is_refused(pair: tuple[socket.socket, socket.socket], sent: bytes) -> None:
    pair[0].sendall(sent)
    pair[0].close()
    with pytest.raises(MalformedError):
        receive(pair[1], 1 << 20, 1)


def test_a_message_that_says_it_is_too_long_is_not_read(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(struct.pack(">I", 0xFFFFFFFF))
    with pytest.raises(MalformedError, match="4294967295 bytes"):
        receive(pair[1], 100, 5)


def test_a_message_that_is_too_long_is_not_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(MalformedError):
        send(pair[0], {"value": "x" * 100}, 100, 1)


def test_octets_one_by_one_do_not_extend_the_time(pair: tuple[socket.socket, socket.socket]) -> None:
    ended = threading.Event()

    def drip() -> None:
        for _ in range(100):
            if ended.wait(0.05):
                return
            pair[0].sendall(b"\0")

    pair[0].sendall(struct.pack(">I", 1000))
    thread = threading.Thread(target=drip)
    start = time.monotonic()
    thread.start()
    with pytest.raises(TimeoutError):
        receive(pair[1], 1000, 0.4)
    ended.set()
    thread.join()
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_each_error_arrives_as_what_it_is(kind: type[TokensignError]) -> None:
    with pytest.raises(TokensignError, match="it failed") as caught:
        answer_of(error_answer(kind("it failed", hint="mend it")))
    assert type(caught.value) is kind
    assert caught.value.hint == "mend it"
    assert caught.value.exit_code == kind.exit_code


def test_the_cause_of_an_error_does_not_travel() -> None:
    error = DecryptionError("the message cannot be decrypted")
    error.__cause__ = ValueError("the padding is wrong")
    assert "padding" not in str(error_answer(error))


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [("NewerError", 3, TokenError), ("NewerError", 99, AgentError), ("Any", 4, errors.MessageError)],
)
def test_an_error_that_is_not_known_keeps_its_category(
    kind: str, code: int, expected: type[TokensignError]
) -> None:
    told = {"kind": kind, "message": "it failed", "hint": None, "exit_code": code}
    with pytest.raises(expected):
        answer_of({"version": VERSION, "error": told})


def test_another_version_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="version"):
        answer_of({"version": VERSION + 1, "result": {}})


def test_an_answer_without_result_and_error_is_refused() -> None:
    with pytest.raises(MalformedError):
        answer_of({"version": VERSION})


def test_fields_are_checked() -> None:
    assert octets({"value": encoded(b"\0\xff")}, "value") == b"\0\xff"
    for document in ({}, {"value": 1}, {"value": "%%"}, {"value": "é"}):
        with pytest.raises(MalformedError):
            octets(document, "value")
    with pytest.raises(MalformedError):
        text({"value": None}, "value")
