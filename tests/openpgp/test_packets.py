from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensign.errors import MalformedError
from tokensign.openpgp.packets import encode_length, encode_mpi, encode_packet, read_packets


def bodies(encoded: bytes) -> list[tuple[int, bytes]]:
    return [(packet.tag, b"".join(packet.chunks())) for packet in read_packets(io.BytesIO(encoded))]


@pytest.mark.parametrize("size", [0, 1, 191, 192, 8383, 8384, 70_000])
def test_packet_of_any_size_is_read_as_it_was_written(size: int) -> None:
    body = b"x" * size
    assert bodies(encode_packet(11, body) + encode_packet(2, b"next")) == [(11, body), (2, b"next")]


@pytest.mark.parametrize(
    ("length", "encoded"),  # RFC 9580 section 4.2.1.5
    [(100, "64"), (1723, "c5fb"), (100_000, "ff000186a0")],
)
def test_lengths_are_those_of_the_rfc(length: int, encoded: str) -> None:
    assert encode_length(length).hex() == encoded


@pytest.mark.parametrize(
    ("head", "body"),
    [("ac03", b"abc"), ("ad0003", b"abc"), ("ae00000003", b"abc"), ("af", b"abc")],
    ids=["one octet", "two octets", "four octets", "up to the end"],
)
def test_old_format_is_read(head: str, body: bytes) -> None:
    assert bodies(bytes.fromhex(head) + body) == [(11, body)]


def test_parts_of_a_body_are_joined() -> None:
    encoded = bytes.fromhex("cb") + b"\xe1ab" + b"\xe2cdef" + b"\x01g"
    assert bodies(encoded + encode_packet(2, b"next")) == [(11, b"abcdefg"), (2, b"next")]


def test_what_is_left_of_a_packet_is_passed_over() -> None:
    encoded = encode_packet(11, b"long body") + encode_packet(2, b"next")
    assert [packet.tag for packet in read_packets(io.BytesIO(encoded))] == [11, 2]


@pytest.mark.parametrize("encoded", ["cb05616263", "cbe1", "cbe16162", "ad00", "ff", "cbff0000"])
def test_packet_that_is_cut_off_is_refused(encoded: str) -> None:
    with pytest.raises(MalformedError, match="cut off"):
        bodies(bytes.fromhex(encoded))


def test_what_is_no_packet_is_refused() -> None:
    with pytest.raises(MalformedError, match="not an OpenPGP message"):
        bodies(b"hello")


def test_packet_that_is_held_in_memory_has_a_limit() -> None:
    packet = next(read_packets(io.BytesIO(encode_packet(1, bytes(2000)))))
    with pytest.raises(MalformedError, match="larger than 1000 bytes"):
        packet.whole(1000)


@pytest.mark.parametrize(
    ("number", "encoded"),  # RFC 9580 section 3.2
    [(0, "0000"), (1, "000101"), (511, "000901ff")],
)
def test_multiprecision_integers_are_those_of_the_rfc(number: int, encoded: str) -> None:
    assert encode_mpi(number).hex() == encoded


@given(st.binary(max_size=200))
def test_whatever_comes_ends_or_is_refused(octets: bytes) -> None:
    try:
        found = bodies(octets)
    except MalformedError:
        return
    assert sum(len(body) for _, body in found) < max(1, len(octets))
