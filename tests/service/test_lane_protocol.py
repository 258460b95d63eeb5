"""Calls and answers arrive as they were sent, however they are cut, and what is none is refused."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from tokensign.errors import DecryptionError, LaneBusyError, MalformedError, PinIncorrectError
from tokensign.lane_protocol import (
    Call,
    KeyListing,
    Listing,
    Messages,
    Operation,
    answer_message,
    answer_of,
    call_message,
    call_of,
    framed,
)
from tokensign.uri import KeyUri

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.certificates import Certificate

CALL = Call(7, Operation.SIGN_DIGEST, 12.5, b"key", b"ecdsa-sha256", [b"\1" * 32, b""])


@given(st.lists(st.binary(max_size=300), max_size=6), st.lists(st.integers(1, 40)))
def test_messages_arrive_whole_however_they_are_cut(contents: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(map(framed, contents))
    messages, found = Messages(), []
    for size in sizes:
        found += messages.feed(stream[:size])
        stream = stream[size:]
    assert found + messages.feed(stream) == contents


def test_a_message_that_says_it_is_too_long_is_refused_before_it_comes() -> None:
    with pytest.raises(MalformedError, match="4294967295 bytes"):
        Messages().feed(b"\xff\xff\xff\xff")


def test_a_call_arrives_as_it_was_sent() -> None:
    sent = call_message(CALL.number, CALL.operation, CALL.begin_by, CALL.key, CALL.parameter, CALL.items)
    (content,) = Messages().feed(sent)
    assert call_of(content) == CALL


def test_an_answer_has_a_result_or_an_error_for_each_item() -> None:
    sent = answer_message(9, [b"signature", LaneBusyError("busy", hint="wait"), b"", DecryptionError("no")])
    (content,) = Messages().feed(sent)
    number, (first, second, third, fourth) = answer_of(content)
    assert (number, first, third) == (9, b"signature", b"")
    assert isinstance(second, LaneBusyError)
    assert (second.message, second.hint) == ("busy", "wait")
    assert isinstance(fourth, DecryptionError)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\0\1", struct.pack(">IBd", 1, 99, 0.0), struct.pack(">IBdI", 1, 1, 0.0, 5) + b"key"],
    ids=["empty", "short", "operation", "cut"],
)
def test_what_is_no_call_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedError):
        call_of(content)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0\0\0\1\0\0\0\0", b"\0\0\0\1\0\0\0\5\0", b"\0\0\0\1\0\0\0\2\1{", b"\0\0\0\1\0\0\0\2\0015"],
    ids=["empty", "no status", "cut", "no JSON", "no error"],
)
def test_what_is_no_answer_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedError):
        answer_of(content)


def test_keys_are_listed_as_they_are(issue: Callable[..., Certificate]) -> None:
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    certificate, ca = issue(public_key, "alice"), issue(public_key, "ca", ca=True)
    key = KeyListing(
        name=b"name",
        label="alice",
        id=b"\1\2",
        ambiguous=False,
        spec="ec:p256",
        uri=KeyUri(token="acme", object="alice", type="private"),
        public_key=public_key,
        usages=frozenset({"sign"}),
        schemes=("ecdsa-sha256",),
        certificates=(certificate,),
        certificate=certificate,
        chain=(ca,),
    )
    (content,) = Messages().feed(Listing.message([key]))
    assert Listing.read(content) == [key]


def test_a_refusal_is_the_error_that_the_worker_met() -> None:
    (content,) = Messages().feed(Listing.refusal(PinIncorrectError("wrong", hint="look")))
    with pytest.raises(PinIncorrectError, match="wrong") as failure:
        Listing.read(content)
    assert failure.value.hint == "look"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys": [{}]}', b'{"keys": 1}'])
def test_what_is_no_listing_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedError):
        Listing.read(content)
