"""Reading the small structures of RFC 2634 field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tokensign import der
from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SEQUENCE", "SET", "fields", "integer", "octets", "single"]

SEQUENCE: Final = 0x30
SET: Final = 0x31
_INTEGER: Final = 0x02
_OCTET_STRING: Final = 0x04


def single(values: Sequence[bytes], name: str) -> bytes:
    """The one value that every attribute of RFC 2634 has (section 1.3.4).

    Raises:
        MalformedError: There are none or several.
    """
    if len(values) != 1 or not values[0]:
        raise MalformedError(f"the signed attribute {name} has {len(values)} values instead of one")
    return values[0]


def fields(encoded: bytes, tag: int, name: str, least: int, most: int) -> list[bytes]:
    """The elements of a constructed element, so many as there must be.

    Args:
        encoded: In definite form.
        tag: Its identifier octet.
        name: What to call it in the error.
        least: The fewest elements.
        most: The most.

    Raises:
        MalformedError: It is something else, or has fewer or more.
    """
    found = der.elements(encoded) if encoded[0] == tag else []
    if not least <= len(found) <= most:
        raise MalformedError(f"{name} cannot be read")
    return found


def octets(encoded: bytes, name: str, tag: int = _OCTET_STRING) -> bytes:
    """The octets of an OCTET STRING; `tag` replaces its tag where that is IMPLICIT.

    Raises:
        MalformedError: It is none.
    """
    if encoded[0] != tag:
        raise MalformedError(f"{name} cannot be read")
    return der.content(encoded)


def integer(encoded: bytes, name: str, limit: int, tag: int = _INTEGER) -> int:
    """An INTEGER from 0 through `limit`; `tag` as for `octets`.

    Raises:
        MalformedError: It is none, or not in that range.
    """
    value = octets(encoded, name, tag)
    number = int.from_bytes(value, signed=True)
    if not value or not 0 <= number <= limit:
        raise MalformedError(f"{name} cannot be read")
    return number
