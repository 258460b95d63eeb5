from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO

import pytest
from asn1crypto import core, parser
from hypothesis import given
from hypothesis import strategies as st

from tokensign import der
from tokensign.cms import ber
from tokensign.cms.ber import MAX_DEPTH, OCTET_STRING, SEQUENCE, BerReader, Element, context, to_der
from tokensign.errors import MalformedError

END_OF_CONTENTS = b"\0\0"


# --- a model of BER: a value, and the ways in which it may be written


@dataclass(frozen=True)
class Encoded:
    """One value, as somebody wrote it and as DER has it."""

    ber: bytes
    der: bytes


def indefinite(tag: int, content: bytes) -> bytes:
    return bytes((tag, 0x80)) + content + END_OF_CONTENTS


def long_header(tag: int, length: int, octets: int) -> bytes:
    """A length in more octets than it needs, which BER allows."""
    return bytes((tag, 0x80 | octets)) + length.to_bytes(octets, "big")


@st.composite
def primitives(draw: st.DrawFn) -> Encoded:
    tag = draw(st.sampled_from([0x02, 0x04, 0x05, 0x06, 0x0C, 0x13, 0x17, 0x80, 0x81]))
    content = draw(st.binary(max_size=200))
    encoded = der.tlv(tag, content)
    return Encoded(encoded, encoded)


@st.composite
def strings(draw: st.DrawFn) -> Encoded:
    """An OCTET STRING in segments, some of which are cut again."""
    content = draw(st.binary(max_size=200))
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=5)))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    segments = [der.octet_string(piece) for piece in pieces]
    if draw(st.booleans()):
        segments = [indefinite(0x24, b"".join(segments[:2])), *segments[2:]]
    body = b"".join(segments)
    return Encoded(
        indefinite(0x24, body) if draw(st.booleans()) else der.tlv(0x24, body), der.octet_string(content)
    )


@st.composite
def nests(draw: st.DrawFn, children: st.SearchStrategy[Encoded]) -> Encoded:
    tag = draw(st.sampled_from([0x30, 0x31, 0xA0, 0xA1]))
    inside = draw(st.lists(children, max_size=4))
    content = b"".join(child.ber for child in inside)
    return Encoded(
        indefinite(tag, content) if draw(st.booleans()) else der.tlv(tag, content),
        der.tlv(tag, b"".join(child.der for child in inside)),
    )


values = st.recursive(primitives() | strings(), nests, max_leaves=12)


@given(values)
def test_any_ber_becomes_the_der_of_the_same_value(value: Encoded) -> None:
    assert to_der(value.ber) == value.der


@given(values)
def test_der_stays_as_it_is(value: Encoded) -> None:
    assert to_der(value.der) == value.der


@given(values)
def test_asn1crypto_sees_the_same_boundaries(value: Encoded) -> None:
    tag_class, method, number, header, content, trailer = parser.parse(value.ber + b"\x05\x00")
    reader = BerReader(io.BytesIO(value.ber + b"\x05\x00"))
    element = reader.peek()
    assert element is not None
    assert element.tag == tag_class << 6 | method << 5 | number
    assert element.content == len(header)
    reader.skip(element)
    assert reader.position == len(header + content + trailer)


@given(values)
def test_truncation_at_every_offset_is_refused(value: Encoded) -> None:
    for length in range(len(value.ber)):
        with pytest.raises(MalformedError):
            to_der(value.ber[:length])


@given(st.binary(max_size=80))
def test_arbitrary_bytes_give_one_element_or_the_typed_error(data: bytes) -> None:
    try:
        encoded = to_der(data)
    except MalformedError:
        return
    assert to_der(encoded) == encoded


@given(strings())
def test_octets_yields_the_content_of_segmented_strings(value: Encoded) -> None:
    reader = BerReader(io.BytesIO(value.ber))
    element = reader.expect(OCTET_STRING, "content")
    assert b"".join(reader.octets(element)) == core.OctetString.load(value.der).native
    assert reader.position == len(value.ber)


def test_openssl_reads_the_same_content(openssl: Callable[..., bytes]) -> None:
    content = bytes(range(256)) * 300
    segments = [content[start : start + 999] for start in range(0, len(content), 999)]
    string = indefinite(0x24, b"".join(map(der.octet_string, segments)))
    message = indefinite(0x30, der.object_identifier("1.2.840.113549.1.7.1") + indefinite(0xA0, string))
    assert openssl("cms", "-data_out", "-inform", "DER", "-binary", feed=message) == content
    listing = openssl("asn1parse", "-inform", "DER", feed=to_der(message)).decode()
    assert "OCTET STRING" in listing
    assert listing.count("prim: OCTET STRING") == 1


# --- lengths


@pytest.mark.parametrize("octets", [1, 2, 4, 8])
def test_a_length_may_have_more_octets_than_it_needs(octets: int) -> None:
    encoded = long_header(0x04, 5, octets) + b"12345"
    reader = BerReader(io.BytesIO(encoded))
    element = reader.expect(OCTET_STRING, "content")
    assert b"".join(reader.octets(element)) == b"12345"
    assert to_der(encoded) == encoded  # what was signed is not touched for this


def test_a_length_of_nine_octets_is_refused() -> None:
    with pytest.raises(MalformedError, match="impossible length"):
        to_der(long_header(0x04, 5, 9) + b"12345")


def test_a_high_tag_number_is_refused() -> None:
    with pytest.raises(MalformedError, match="above 30"):
        to_der(b"\x1f\x81\x01\x00")


def test_a_primitive_element_has_a_length() -> None:
    with pytest.raises(MalformedError, match="primitive element has the indefinite form"):
        to_der(b"\x04\x80ab\0\0")


def test_an_element_larger_than_the_one_around_it_is_refused() -> None:
    with pytest.raises(MalformedError, match="larger than what is around it"):
        to_der(b"\x30\x03\x04\x05ab" + b"cdefgh")


def test_the_end_of_contents_lies_inside_the_element_around_it() -> None:
    with pytest.raises(MalformedError):
        to_der(b"\x30\x05\x30\x80\x05\x00\x00" + b"\x00")


def test_an_empty_stream_has_no_element() -> None:
    with pytest.raises(MalformedError, match="empty"):
        to_der(b"")


# --- limits


def nested(depth: int, form: Callable[[int, bytes], bytes]) -> bytes:
    encoded = der.NULL
    for _ in range(depth):
        encoded = form(0x30, encoded)
    return encoded


@pytest.mark.parametrize("form", [der.tlv, indefinite])
def test_nesting_has_a_limit(form: Callable[[int, bytes], bytes]) -> None:
    assert to_der(nested(MAX_DEPTH, form)) == nested(MAX_DEPTH, der.tlv)
    with pytest.raises(MalformedError, match=f"deeper than {MAX_DEPTH}"):
        to_der(nested(MAX_DEPTH + 1, form))


def test_skipping_has_the_same_limit() -> None:
    reader = BerReader(io.BytesIO(b"\x30\x80" * 100_000))
    element = reader.peek()
    assert element is not None
    with pytest.raises(MalformedError, match="deeper"):
        reader.skip(element)


def test_segments_nest_within_the_same_limit() -> None:
    encoded = der.octet_string(b"x")
    for _ in range(MAX_DEPTH + 1):
        encoded = indefinite(0x24, encoded)
    reader = BerReader(io.BytesIO(encoded))
    element = reader.expect(OCTET_STRING, "content")
    with pytest.raises(MalformedError, match="deeper"):
        list(reader.octets(element))


def test_what_is_read_whole_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ber, "MAX_ELEMENT_SIZE", 100)
    for size, fits in ((98, True), (99, False)):
        reader = BerReader(io.BytesIO(der.octet_string(bytes(size))))
        element = reader.expect(OCTET_STRING, "value")
        if fits:
            assert len(reader.read(element)) == 100
        else:
            with pytest.raises(MalformedError, match="more than the 100"):
                reader.read(element)


# --- the cursor


def test_a_missing_element_is_named() -> None:
    reader = BerReader(io.BytesIO(b"\x30\x00"))
    reader.enter(reader.expect(SEQUENCE, "SignedData"))
    with pytest.raises(MalformedError, match="lacks its version"):
        reader.expect(0x02, "version")


def test_an_element_of_another_type_is_named() -> None:
    with pytest.raises(MalformedError, match=r"tag 05\) in the place of version"):
        BerReader(io.BytesIO(der.NULL)).expect(0x02, "version")


def test_only_constructed_elements_are_entered() -> None:
    reader = BerReader(io.BytesIO(der.NULL))
    with pytest.raises(MalformedError, match="should hold others"):
        reader.enter(reader.expect(0x05, "NULL"))


def test_elements_left_over_are_refused() -> None:
    reader = BerReader(io.BytesIO(der.sequence(der.NULL)))
    reader.enter(reader.expect(SEQUENCE, "SEQUENCE"))
    with pytest.raises(MalformedError, match=r"unexpected element \(tag 05\)"):
        reader.leave()


def test_a_segment_of_another_type_is_refused() -> None:
    reader = BerReader(io.BytesIO(indefinite(0x24, der.integer(1))))
    element = reader.expect(OCTET_STRING, "content")
    with pytest.raises(MalformedError, match="segment of the content has tag 02"):
        list(reader.octets(element))


def test_the_tag_of_a_context_specific_element() -> None:
    assert context(3) == 0xA3


# --- reading by windows


class CountingStream(io.BytesIO):
    """A stream that knows how much is asked of it at once."""

    largest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.largest = max(self.largest, len(data))
        return data


def consume(stream: BinaryIO) -> bytes:
    reader = BerReader(stream)
    return b"".join(reader.octets(reader.expect(OCTET_STRING, "content")))


@pytest.mark.parametrize(
    "chunk", [64, 1000, 4096, (1 << 18) - 4, (1 << 18) - 3, 1 << 18, (1 << 18) + 1, 300_000]
)
def test_segments_across_the_window_are_joined(chunk: int) -> None:
    content = (b"0123456789abcdef" * 65536)[:800_003]
    segments = [content[start : start + chunk] for start in range(0, len(content), chunk)]
    stream = CountingStream(indefinite(0x24, b"".join(map(der.octet_string, segments))))
    assert consume(stream) == content
    assert stream.largest <= 1 << 18


@pytest.mark.parametrize("sizes", [[64], [4096], [1, 2], [1000, 0, 77]])
def test_small_segments_come_in_blocks(sizes: list[int]) -> None:
    strings = b"".join(der.octet_string(bytes(size)) for size in sizes)
    encoded = indefinite(0x24, strings * (1_000_000 // len(strings)))
    reader = BerReader(io.BytesIO(encoded))
    pieces = list(reader.octets(reader.expect(OCTET_STRING, "content")))
    assert sum(map(len, pieces)) == sum(sizes) * (1_000_000 // len(strings))
    assert len(pieces) <= 10  # the megabyte is four windows, with one segment from each into the next
    assert all(pieces)


@pytest.mark.parametrize("form", [indefinite, der.tlv])
@pytest.mark.parametrize(
    ("segment", "error"),
    [
        (b"\x04\x80ab", "primitive element has the indefinite form"),
        (long_header(0x04, 2, 9) + b"ab", "impossible length"),
        (b"\x04\x07ab", "larger than what is around it"),
        (b"\x04", "larger than what is around it"),
        (b"\x1f\x01a", "above 30"),
        (der.integer(1), "segment of the content has tag 02"),
    ],
)
def test_a_bad_segment_behind_good_ones_is_refused_with_its_reason(
    segment: bytes, error: str, form: Callable[[int, bytes], bytes]
) -> None:
    good = der.octet_string(b"good") * 3
    reader = BerReader(io.BytesIO(der.sequence(form(0x24, good + segment)) + b"something behind it"))
    reader.enter(reader.expect(SEQUENCE, "message"))
    pieces = reader.octets(reader.expect(OCTET_STRING, "content"))
    assert next(pieces) + next(pieces) == b"good" * 3
    with pytest.raises(MalformedError, match=error):
        next(pieces)


@st.composite
def segmentations(draw: st.DrawFn) -> bytes:
    """A constructed string with runs of segments of one size, whole, cut off, or with octets changed."""
    runs = []
    for _ in range(draw(st.integers(0, 6))):
        content = draw(st.binary(max_size=40))
        octets = draw(st.sampled_from([0, 0, 1, 2, 8, 9]))  # of the length; nine are too many
        header = long_header(0x04, len(content), octets) if octets else der.header(0x04, len(content))
        run = (header + content) * draw(st.integers(1, 20))
        runs.append(draw(st.sampled_from([run, indefinite(0x24, run), der.tlv(0x24, run)])))
    form = draw(st.sampled_from([indefinite, der.tlv]))
    encoded = form(0x30, form(0x24, b"".join(runs)) + draw(st.sampled_from([b"", der.NULL])))
    if draw(st.booleans()):
        encoded = encoded[: draw(st.integers(0, len(encoded)))]
    changed = bytearray(encoded)
    for place in draw(st.lists(st.integers(0, max(0, len(encoded) - 1)), max_size=3)):
        changed[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
    return bytes(changed)


Way = Callable[[BerReader, Element], Iterable[bytes] | None]


def outcome(way: Way, encoded: bytes, window: int) -> tuple[bytes, int | str]:
    """The content that came, and where the cursor is in the end, or the error."""
    content = b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ber, "_WINDOW", window)
        reader = BerReader(io.BytesIO(encoded))
        try:
            reader.enter(reader.expect(SEQUENCE, "message"))
            element = reader.expect(OCTET_STRING, "content")
            for piece in way(reader, element) or ():
                content += piece
        except MalformedError as error:
            return content, str(error)
        return content, reader.position


@pytest.mark.parametrize("way", [BerReader.octets, BerReader.skip])
@given(encoded=segmentations(), window=st.integers(2, 300))
def test_blocks_of_any_size_are_read_and_refused_like_single_segments(
    way: Way, encoded: bytes, window: int
) -> None:
    singly = outcome(way, encoded, window=1)  # it holds one header, and never a segment
    assert outcome(way, encoded, window) == singly
    assert outcome(way, encoded, window=1 << 18) == singly


def test_one_large_string_comes_in_pieces() -> None:
    stream = CountingStream(der.octet_string(bytes(1_000_000)))
    assert consume(stream) == bytes(1_000_000)
    assert stream.largest <= 1 << 18


def test_a_stream_that_shrinks_while_it_is_read_is_refused() -> None:
    stream = io.BytesIO(der.octet_string(bytes(600_000)))
    reader = BerReader(stream)
    pieces = reader.octets(reader.expect(OCTET_STRING, "content"))
    next(pieces)
    stream.truncate(300_000)
    with pytest.raises(MalformedError, match="cut off"):
        list(pieces)
