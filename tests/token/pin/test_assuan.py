"""The Assuan client against a server at the other end of two pipes, of which each says one thing wrong."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tokensign.token.pin.assuan import LINE_MAXIMUM, AssuanClient, AssuanError, escaped, unescaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT = 60.0


@pytest.fixture
def answered() -> Iterator[Callable[[bytes], tuple[AssuanClient, int]]]:
    """A client whose server answers with these octets, and the descriptor with the client's commands."""
    descriptors: list[int] = []

    def make(answers: bytes) -> tuple[AssuanClient, int]:
        reading, answering = os.pipe()
        asked, writing = os.pipe()
        os.write(answering, answers)
        os.close(answering)
        descriptors.extend((reading, asked, writing))
        return AssuanClient(reading, writing), asked

    yield make
    for descriptor in descriptors:
        os.close(descriptor)


Answered = "Callable[[bytes], tuple[AssuanClient, int]]"


def test_a_command_is_a_line_and_its_answer_ends_with_ok(answered: Answered) -> None:
    client, asked = answered(b"# a comment\nS PIN_REPEATED\nS other\nD 12%2534\nOK done\n")
    reply = client.ask("GETPIN", TIMEOUT)
    assert os.read(asked, 100) == b"GETPIN\n"
    assert reply.statuses == ["PIN_REPEATED", "other"]
    assert unescaped(reply.data) == b"12%34"
    assert "1234" not in repr(reply)


def test_answers_that_come_at_once_are_taken_one_by_one(answered: Answered) -> None:
    client, _ = answered(b"OK pleased to meet you\nOK\nD 1234\nOK\n")
    client.greeting(TIMEOUT)
    assert client.ask("SETDESC x", TIMEOUT).data == b""
    assert client.ask("GETPIN", TIMEOUT).data == b"1234"


def test_a_refusal_has_its_code_without_its_source(answered: Answered) -> None:
    client, _ = answered(b"ERR 83886179 Operation cancelled <Pinentry>\n")
    with pytest.raises(AssuanError, match="Operation cancelled") as refusal:
        client.ask("GETPIN", TIMEOUT)
    assert refusal.value.code == 99


def test_an_inquiry_is_cancelled(answered: Answered) -> None:
    client, asked = answered(b"INQUIRE QUALITY 12\nOK\n")
    client.ask("GETPIN", TIMEOUT)
    assert os.read(asked, 100) == b"GETPIN\nCAN\n"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (b"", "it ended"),
        (b"OK", "it ended"),
        (b"hello\n", "no line of Assuan"),
        (b"\n", "no line of Assuan"),
        (b"D 1\nD 2\nOK\n", "more data"),
        (b"x" * (LINE_MAXIMUM + 1), "too long"),
        (b"S x\n" * 200, "no end"),
        (b"ERR 1 no\n", "no"),
    ],
    ids=["nothing", "half", "other", "empty", "data-twice", "long", "endless", "refusal"],
)
def test_what_is_no_answer_is_an_error(answered: Answered, answers: bytes, message: str) -> None:
    client, _ = answered(answers)
    with pytest.raises(AssuanError, match=message):
        client.ask("GETPIN", TIMEOUT)


def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    reading, answering = os.pipe()
    asked, writing = os.pipe()
    with pytest.raises(AssuanError, match="in time"):
        AssuanClient(reading, writing).ask("GETPIN", 0.05)
    for descriptor in (reading, answering, asked, writing):
        os.close(descriptor)


@pytest.mark.parametrize("command", ["SETDESC a\nGETPIN", "SETDESC " + "x" * LINE_MAXIMUM])
def test_what_is_no_line_is_not_sent(answered: Answered, command: str) -> None:
    client, asked = answered(b"OK\n")
    os.set_blocking(asked, False)
    with pytest.raises(AssuanError, match="no line"):
        client.ask(command, TIMEOUT)
    with pytest.raises(BlockingIOError):
        os.read(asked, 1)


@pytest.mark.parametrize(
    ("text", "room", "expected"),
    [
        ("a\nb\r%", 100, "a%0Ab%0D%25"),
        ("abcdef", 3, "abc"),
        ("ab\nc", 4, "ab"),
        ("ab\nc", 5, "ab%0A"),
        ("üü", 3, "ü"),
    ],
)
def test_text_is_escaped_and_cut_between_letters(text: str, room: int, expected: str) -> None:
    assert escaped(text, room) == expected


def test_data_is_unescaped_and_its_escaped_form_overwritten() -> None:
    data = bytearray(b"%31%32x%25")
    assert unescaped(data) == b"12x%"
    assert data == bytes(10)


@pytest.mark.parametrize("data", [b"%", b"%4", b"%zz"])
def test_a_broken_escape_is_an_error(data: bytes) -> None:
    with pytest.raises(AssuanError, match="broken escape"):
        unescaped(bytearray(data))
