"""Finding the header of an entity: fields as octets, up to the empty line (RFC 5322 section 2.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from tokensign.errors import MalformedError
from tokensign.smime.header_fields import HeaderField, HeaderFields

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HeaderBlock", "read_header_block"]

_MAX_SIZE: Final = 1 << 20  # octets; mail servers refuse far smaller ones
_MAX_FIELDS: Final = 2000  # each relay and filter adds some
_LINE: Final = 1 << 16  # octets that are read as one line; longer lines come in pieces
_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")  # a space before the colon is obsolete, and still met
_MAILBOX_LINE: Final = (b"From ", b">From ")  # how mailbox files begin a mail


@dataclass(frozen=True, slots=True)
class HeaderBlock:
    """A header.

    Attributes:
        fields: Its fields.
        end: The offset of the body.
        ambiguous: Why readers may disagree on it, or None.
    """

    fields: HeaderFields
    end: int
    ambiguous: str | None


def read_header_block(
    stream: BinaryIO, start: int, end: int, ends_at: Callable[[bytes], bool], *, outermost: bool
) -> HeaderBlock:
    """Read a header.

    Args:
        stream: What holds it; it must be able to seek.
        start: The offset where it begins.
        end: The offset where it ends at the latest.
        ends_at: Whether a line cannot belong to it, though no empty line came: a boundary.
        outermost: Whether it is that of a whole mail, before which a mailbox file has a line of its own.

    Raises:
        MalformedError: It is larger than the limits.
    """
    lines: list[list[bytes]] = []
    ambiguous: str | None = None
    position, at_line_start = _behind_mailbox_line(stream, start) if outermost else start, True
    stream.seek(position)
    while position < end:
        line = stream.readline(min(_LINE, end - position))
        kind = _line_kind(line, ends_at, first=not lines) if at_line_start else "more"
        if kind in ("boundary", "empty", "other"):
            position += len(line) if kind == "empty" else 0
            ambiguous = "there is no empty line after its header" if kind == "other" else ambiguous
            break
        if kind == "blank":
            ambiguous = "a line of its header has white space only"
        if kind == "field":
            lines.append([])
        lines[-1].append(line)
        position += len(line)
        at_line_start = line.endswith(b"\n")
        if position - start > _MAX_SIZE:
            raise MalformedError(f"the mail header is larger than {_MAX_SIZE} bytes")
        if len(lines) > _MAX_FIELDS:
            raise MalformedError(f"the mail header has more than {_MAX_FIELDS} fields")
    fields = HeaderFields(tuple(map(_field, lines)))
    if any(field.damaged for field in fields):
        ambiguous = "there is a bare carriage return or a NUL in its header"
    return HeaderBlock(fields, position, ambiguous)


def _behind_mailbox_line(stream: BinaryIO, start: int) -> int:
    stream.seek(start)
    line = stream.readline(_LINE)
    return start + len(line) if line.startswith(_MAILBOX_LINE) else start


def _line_kind(
    line: bytes, ends_at: Callable[[bytes], bool], *, first: bool
) -> Literal["boundary", "empty", "field", "blank", "more", "other"]:
    """What begins with a line of a header."""
    if ends_at(line):
        return "boundary"
    if not line.strip(b"\r\n"):
        return "empty"
    if _FIELD.match(line):
        return "field"
    if first or line[:1] not in b" \t":
        return "other"
    return "more" if line.strip() else "blank"


def _field(lines: list[bytes]) -> HeaderField:
    raw = b"".join(lines)
    return HeaderField(raw.partition(b":")[0].rstrip(b" \t").decode("ascii"), raw)
