"""DER (X.690) without a model: parts are joined when writing, and cut out unchanged when reading.

asn1crypto re-encodes nested values at every level when it writes, and may re-encode what it has read: its
`dump()` takes a definite length whose last octet is 0x80 for the indefinite form. So what is built again and
again is joined here, and what must stay as it was received is cut out here. Meaning is asn1crypto's business,
and whole messages are read by `tokensign.cms.ber`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, TypeVar

from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NULL",
    "boolean",
    "constructed",
    "content",
    "dotted",
    "elements",
    "explicit",
    "header",
    "integer",
    "object_identifier",
    "octet_string",
    "remembered",
    "sequence",
    "set_of",
    "time",
    "tlv",
    "utf8_string",
]

NULL = b"\x05\x00"

_FIRST_GENERALIZED_YEAR = 2050  # RFC 5280 section 4.1.2.5: UTCTime through 2049
_LAST_CENTURY_YEAR = 1950
_SHORT_FORM_LIMIT = 0x80
_MAX_OID_SIZE = 64  # octets; the longest in use has about 20
_REMEMBERED_SIZE = 1 << 13  # octets; certificates are smaller, and strangers do not fill our memory

_T = TypeVar("_T")


def remembered(maximum: int) -> Callable[[Callable[[bytes], _T]], Callable[[bytes], _T]]:
    """Remember what a function read from small encodings: the same people sign again and again.

    Args:
        maximum: How many results are kept, the least recently used dropped first.
    """

    def decorate(read: Callable[[bytes], _T]) -> Callable[[bytes], _T]:
        known = lru_cache(maximum)(read)

        @wraps(read)
        def find(encoded: bytes) -> _T:
            return known(encoded) if len(encoded) <= _REMEMBERED_SIZE else read(encoded)

        find.cache_clear = known.cache_clear  # type: ignore[attr-defined]
        return find

    return decorate


@lru_cache(maxsize=1024)
def header(tag: int, length: int) -> bytes:
    """The identifier octet `tag` and the definite-form octets of `length`, shortest as DER has it."""
    if length < _SHORT_FORM_LIMIT:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, _SHORT_FORM_LIMIT | len(octets))) + octets


def tlv(tag: int, content: bytes) -> bytes:
    """One element with the identifier octet `tag`."""
    return header(tag, len(content)) + content


def constructed(tag: int, *parts: bytes) -> bytes:
    """One element with the identifier octet `tag` around elements that are encoded already."""
    return tlv(tag, b"".join(parts))


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE of elements that are encoded already."""
    return tlv(0x30, b"".join(parts))


def set_of(*parts: bytes, tag: int = 0x31) -> bytes:
    """SET OF, sorted as DER asks (X.690 section 11.6); `tag` replaces the tag where it is IMPLICIT."""
    return tlv(tag, b"".join(sorted(parts)))


def explicit(number: int, content: bytes) -> bytes:
    """Context-specific constructed tag `number` around one element (EXPLICIT tagging)."""
    return tlv(0xA0 | number, content)


def octet_string(content: bytes) -> bytes:
    """OCTET STRING."""
    return tlv(0x04, content)


def utf8_string(text: str) -> bytes:
    """UTF8String."""
    return tlv(0x0C, text.encode())


def boolean(value: bool) -> bytes:  # noqa: FBT001 - the value itself is the argument
    """BOOLEAN."""
    return b"\x01\x01\xff" if value else b"\x01\x01\x00"


def integer(value: int) -> bytes:
    """INTEGER of any size."""
    return tlv(0x02, value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "big", signed=True))


@lru_cache(maxsize=512)
def object_identifier(dotted: str) -> bytes:
    """OBJECT IDENTIFIER from its dotted form, such as "1.2.840.113549.1.7.2"."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    octets = bytearray()
    for arc in (first * 40 + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(0x80 | arc & 0x7F)
        octets += bytes(reversed(septets))
    return tlv(0x06, bytes(octets))


def time(moment: datetime) -> bytes:
    """Time as RFC 5652 section 11.3 has it: UTCTime from 1950 through 2049, else GeneralizedTime; seconds.

    Args:
        moment: An aware datetime; fractions of a second are dropped.
    """
    utc = moment.astimezone(UTC)
    if _LAST_CENTURY_YEAR <= utc.year < _FIRST_GENERALIZED_YEAR:
        return tlv(0x17, utc.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, f"{utc.year:04d}{utc:%m%d%H%M%S}Z".encode())


def elements(encoded: bytes) -> list[bytes]:
    """The elements inside a constructed element, each as it is encoded.

    Args:
        encoded: One element, with definite lengths.

    Raises:
        MalformedError: The lengths do not fit each other.
    """
    size = len(encoded)
    short = size > 1 and encoded[1] < _SHORT_FORM_LIMIT and encoded[1] + 2 <= size
    start, end = (2, encoded[1] + 2) if short else _bounds(encoded, 0, size)
    found = []
    while start < end:
        length = encoded[start + 1] if start + 1 < end else _SHORT_FORM_LIMIT
        following = start + 2 + length
        if length >= _SHORT_FORM_LIMIT or following > end:  # seldom: the rest is a short cut
            _, following = _bounds(encoded, start, end)
        found.append(encoded[start:following])
        start = following
    return found


def content(encoded: bytes) -> bytes:
    """The content octets of one element.

    Raises:
        MalformedError: The length does not fit.
    """
    start, end = _bounds(encoded, 0, len(encoded))
    return encoded[start:end]


@lru_cache(maxsize=512)
def dotted(encoded: bytes) -> str:
    """The dotted form of an encoded OBJECT IDENTIFIER.

    Raises:
        MalformedError: It is none.
    """
    octets = content(encoded)
    if encoded[0] != 0x06 or not octets or octets[-1] & 0x80 or len(octets) > _MAX_OID_SIZE:  # noqa: PLR2004
        raise MalformedError("an object identifier is broken")
    arcs, arc = [], 0
    for octet in octets:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def _bounds(encoded: bytes, start: int, limit: int) -> tuple[int, int]:
    """Where the content of the element at `start` begins and ends."""
    if start + 2 > limit:
        raise MalformedError("an element is cut off")
    begin, length = start + 2, encoded[start + 1]
    if length > _SHORT_FORM_LIMIT:
        begin += length - _SHORT_FORM_LIMIT
        length = int.from_bytes(encoded[start + 2 : begin])
    elif length == _SHORT_FORM_LIMIT:
        raise MalformedError("an element has the indefinite form where the definite one is needed")
    if begin + length > limit:
        raise MalformedError("an element is larger than what is around it")
    return begin, begin + length
