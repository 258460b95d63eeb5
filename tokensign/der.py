"""A writer of DER (X.690), for what is built again and again.

asn1crypto re-encodes nested values at every level; a signature built by joining parts that were
encoded once costs a hundredth of it. Reading is asn1crypto's and `tokensign.cms.ber`'s.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

__all__ = [
    "NULL",
    "boolean",
    "constructed",
    "explicit",
    "header",
    "integer",
    "object_identifier",
    "octet_string",
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
