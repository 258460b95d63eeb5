from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from asn1crypto import core
from asn1crypto.cms import Time
from hypothesis import given
from hypothesis import strategies as st

from tokensign import der
from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

arcs = st.tuples(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 1 << 40), max_size=6)).map(
    lambda parts: ".".join(map(str, (parts[0], parts[1], *parts[2])))
)


# --- written as asn1crypto writes it


@given(st.integers(-(1 << 200), 1 << 200))
def test_integers(value: int) -> None:
    assert der.integer(value) == core.Integer(value).dump()


@given(arcs)
def test_object_identifiers(dotted: str) -> None:
    encoded = der.object_identifier(dotted)
    assert encoded == core.ObjectIdentifier(dotted).dump()
    assert der.dotted(encoded) == dotted


@pytest.mark.parametrize(
    "dotted", ["2.999", "2.999.1", "2.16.840.1.101.3.4.2.1", "0.9.2342.19200300.100.1.25"]
)
def test_object_identifiers_with_a_large_second_arc(dotted: str) -> None:
    """X.690 section 8.19.4: the first two arcs share an octet only where they fit."""
    assert core.ObjectIdentifier.load(der.object_identifier(dotted)).dotted == dotted
    assert der.dotted(der.object_identifier(dotted)) == dotted


@given(st.binary(max_size=300))
def test_octet_strings(content: bytes) -> None:
    assert der.octet_string(content) == core.OctetString(content).dump()


@given(st.text(max_size=50))
def test_utf8_strings(text: str) -> None:
    assert der.utf8_string(text) == core.UTF8String(text).dump()


@pytest.mark.parametrize("value", [True, False])
def test_booleans(value: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert der.boolean(value) == core.Boolean(value).dump()


def test_null() -> None:
    assert core.Null().dump() == der.NULL


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65535, 65536, 1 << 24, 1 << 40])
def test_lengths_are_the_shortest(length: int) -> None:
    encoded = der.header(0x30, length)
    assert encoded[0] == 0x30
    if length < 128:
        assert encoded[1:] == bytes((length,))
    else:
        assert int.from_bytes(encoded[2:]) == length
        assert encoded[1] == 0x80 | len(encoded[2:])
        assert encoded[2] != 0


@given(st.lists(st.binary(max_size=40).map(der.octet_string), max_size=8))
def test_sets_are_sorted(parts: Sequence[bytes]) -> None:
    class Strings(core.SetOf):  # type: ignore[misc] # asn1crypto has no types
        _child_spec = core.OctetString

    assert der.set_of(*parts) == Strings([core.OctetString.load(part) for part in parts]).dump()
    assert der.set_of(*parts, tag=0xA0)[1:] == der.set_of(*parts)[1:]


def test_sequences_and_tags_hold_their_parts_in_order() -> None:
    one, two = der.integer(2), der.integer(1)
    assert der.sequence(one, two) == b"\x30\x06\x02\x01\x02\x02\x01\x01"
    assert der.constructed(0xA3, one, two) == b"\xa3\x06\x02\x01\x02\x02\x01\x01"
    assert der.explicit(2, one) == b"\xa2\x03\x02\x01\x02"
    assert der.tlv(0x80, b"ab") == b"\x80\x02ab"


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001
def test_times(moment: datetime) -> None:
    """RFC 5652 section 11.3: UTCTime from 1950 through 2049, else GeneralizedTime; no fractions."""
    value = Time.load(der.time(moment))
    assert value.native == moment.replace(microsecond=0)
    assert value.name == ("utc_time" if 1950 <= moment.year <= 2049 else "generalized_time")


def test_times_are_utc() -> None:
    moment = datetime(2050, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert der.time(moment) == b"\x17\x0d491231233000Z"


# --- cut out


@given(
    st.lists(st.binary(max_size=200).map(der.octet_string), max_size=6), st.sampled_from([0x30, 0x31, 0xA0])
)
def test_elements_come_out_as_they_went_in(parts: list[bytes], tag: int) -> None:
    assert der.elements(der.constructed(tag, *parts)) == parts


def test_a_length_that_is_longer_than_it_must_be_is_kept() -> None:
    odd = b"\x04\x82\x00\x01a"
    assert der.elements(der.sequence(odd)) == [odd]
    assert der.content(odd) == b"a"


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        (b"", "cut off"),
        (b"\x30", "cut off"),
        (b"\x30\x02\x04", "larger than what is around it"),
        (b"\x30\x03\x04\x02a", "larger than what is around it"),
        (b"\x30\x01\x04", "cut off"),
        (b"\x30\x80\x00\x00", "indefinite form"),
        (b"\x30\x84\xff\xff\xff\xffa", "larger than what is around it"),
        (b"\x30\xffa", "larger than what is around it|cut off"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(encoded: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        der.elements(encoded)


@pytest.mark.parametrize(
    "encoded", [b"\x06\x00", b"\x05\x00", b"\x06\x01\x80", b"\x06\x02\x2a\x80", der.tlv(6, b"\x2a" * 65)]
)
def test_broken_object_identifiers_are_refused(encoded: bytes) -> None:
    with pytest.raises(MalformedError, match="object identifier is broken"):
        der.dotted(encoded)


@given(st.binary(max_size=40))
def test_arbitrary_octets_are_cut_or_refused(encoded: bytes) -> None:
    for cut in (der.elements, der.content, der.dotted):
        try:
            cut(encoded)
        except MalformedError:
            continue
