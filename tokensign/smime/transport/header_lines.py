"""Taking header fields out of a mail that is on its way, without reading more into it than that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["field_name", "without_fields"]

_FIELD_MAXIMUM: Final = 1 << 20  # octets of one field; mail servers refuse far smaller headers


def without_fields(lines: Iterable[bytes], drops: Callable[[bytes], bool]) -> Iterator[bytes]:
    """The lines of a mail, without some of its header fields; every other octet stays.

    Args:
        lines: The mail by lines, or long lines in pieces.
        drops: Whether a field, of which it is given all octets, is left out.

    Raises:
        MalformedError: A field is larger than any can be.
    """
    field = b""
    in_header = True
    for line in lines:
        starts = not field or field.endswith(b"\n")
        if in_header and (not starts or (field and line[:1] in (b" ", b"\t"))):
            field += line
            if len(field) > _FIELD_MAXIMUM:
                raise MalformedError(f"a header field of the mail is larger than {_FIELD_MAXIMUM} bytes")
        elif in_header:
            if field and not drops(field):
                yield field
            in_header = bool(line.strip(b"\r\n"))
            field = line if in_header else b""
            if not in_header:
                yield line
        else:
            yield line
    if field and not drops(field):
        yield field


def field_name(field: bytes) -> str:
    """The name of a field in lower case; white space before the colon is no part of it."""
    return field.partition(b":")[0].strip().lower().decode("ascii", "replace")
