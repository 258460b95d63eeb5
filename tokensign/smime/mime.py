"""The structure of a mail over its raw octets (RFC 2045, RFC 2046): where each part begins and ends.

Nothing is decoded or copied to find it, so what was signed can be hashed as it was received, and a mail of
any size is walked in one pass with little memory. Damage that mail has in the real world is met: line feeds
alone, white space after a boundary, a last boundary that is missing. Where readers would disagree on what a
mail is, because its Content-Type stands twice, say, the entity is *ambiguous*: it is left closed, and told.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.cms.pem import decode_base64
from tokensign.errors import MalformedError
from tokensign.files import CHUNK_SIZE, spool
from tokensign.smime.canonical import canonical_lines
from tokensign.smime.content_kind import read_content_kind, read_parameters
from tokensign.smime.encoded_words import decode_words
from tokensign.smime.header_reader import read_header_block

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tokensign.smime.content_kind import ContentKind
    from tokensign.smime.header_fields import HeaderFields
    from tokensign.smime.header_reader import HeaderBlock

__all__ = ["MAX_DEPTH", "MAX_PARTS", "Entity", "Span", "octets", "part_spans", "read_entity"]

MAX_DEPTH: Final = 50  # entities inside each other; people forward forwarded mail, but not that often
MAX_PARTS: Final = 2000  # in a mail; a digest of a busy list has hundreds
_MAX_HEADERS_SIZE: Final = 1 << 23  # octets of all headers, which are held in memory
_DELIMITER_LINE: Final = 1 << 10  # octets that a boundary with the white space behind it may have
_FIRST_READ: Final = 1 << 14  # octets; most parts are small, and are not read twice then

_DELIMITER: Final = re.compile(rb"\n--([^\n]{1,%d})(?=\n|\Z)" % _DELIMITER_LINE)
_IDENTITY: Final = ("7bit", "8bit", "binary")


@dataclass(frozen=True, slots=True)
class Span:
    """Octets of a stream.

    Attributes:
        start: Where they begin.
        end: Where they end.
    """

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


_NOTHING: Final = Span(0, 0)


@dataclass(frozen=True, slots=True)
class Entity:
    """A MIME entity, and where it stands in its stream.

    Attributes:
        fields: Its header fields.
        content_type: The media type in lower case; "text/plain" where none is said or none can be meant.
        parameters: Those of the Content-Type, by name in lower case.
        transfer_encoding: The content transfer encoding in lower case; "7bit" unless said.
        start: The offset of its header.
        body_start: The offset of its body.
        end: The offset behind it; the line end before a boundary is no part of the entity.
        children: The parts of a multipart, or the mail in a message/rfc822.
        preamble: What stands before the first boundary of a multipart, else empty.
        epilogue: What stands behind the last boundary of a multipart, else empty.
        closed: Whether the last boundary of a multipart is there.
        ambiguous: Why readers may disagree on what this entity is; None where they do not.
    """

    fields: HeaderFields
    content_type: str
    parameters: Mapping[str, str]
    transfer_encoding: str
    start: int
    body_start: int
    end: int
    children: tuple[Entity, ...] = ()
    preamble: Span = _NOTHING
    epilogue: Span = _NOTHING
    closed: bool = True
    ambiguous: str | None = None

    @property
    def file_name(self) -> str | None:
        """The name of an attachment, from Content-Disposition or Content-Type."""
        disposition = self.fields.get("Content-Disposition")
        named = read_parameters(disposition).get("filename") if disposition else None
        name = named or self.parameters.get("name")
        return decode_words(name) if name else None

    def walk(self, path: str = "") -> Iterator[tuple[str, Entity]]:
        """This entity and all in it, each with its path: "2.1" is the first part of the second part."""
        yield path, self
        for number, child in enumerate(self.children, 1):
            yield from child.walk(f"{path}.{number}" if path else str(number))

    def decoded(self, stream: BinaryIO) -> BinaryIO:
        """The body without its transfer encoding, in a private temporary stream, which the caller closes.

        Args:
            stream: The one that the entity was read from.

        Raises:
            MalformedError: It is not encoded as it says, or with an encoding that RFC 2045 does not have.
        """
        body = octets(stream, self.body_start, self.end)
        if self.transfer_encoding == "base64":
            return decode_base64(body)
        if self.transfer_encoding == "quoted-printable":
            body = map(_decode_quoted_printable, _whole_lines(canonical_lines(body)))
        elif self.transfer_encoding not in _IDENTITY:
            raise MalformedError(f"the content transfer encoding {self.transfer_encoding!r} is not known")
        held = spool()
        held.writelines(body)
        held.seek(0)
        return held


def read_entity(stream: BinaryIO, start: int = 0, end: int | None = None) -> Entity:
    """Find the structure of a mail, or of any entity.

    Args:
        stream: What holds it; it must be able to seek.
        start: The offset where it begins.
        end: The offset behind it; None: where the stream ends.

    Raises:
        MalformedError: It has more parts, levels or header fields than the limits allow.
    """
    if end is None:
        end = stream.seek(0, 2)
    return _Reader(stream, end).entity(start, (), 0)[0]


def octets(stream: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """The octets between two offsets of a stream, in pieces; nobody may move the stream meanwhile."""
    stream.seek(start)
    left = end - start
    while left > 0 and (piece := stream.read(min(CHUNK_SIZE, left))):
        left -= len(piece)
        yield piece


def part_spans(stream: BinaryIO, boundary: bytes) -> Iterator[Span]:
    """Where the parts of a multipart body lie, whatever is in them.

    Args:
        stream: The body, from its preamble at the current position on; it must be able to seek.
        boundary: The boundary parameter.

    Raises:
        MalformedError: The boundary does not occur, or the last one is missing.
    """
    position = stream.tell()
    boundary = boundary.rstrip()  # a delimiter has no white space that counts at its end
    reader = _Reader(stream, stream.seek(0, 2))
    found = reader.find(position, (boundary,))
    if found is None:
        raise MalformedError("the multipart mail has no part: its boundary does not occur")
    while not found.closing:
        start = found.after
        found = reader.find(start, (boundary,))
        if found is None:
            raise MalformedError("the multipart mail is cut off: its last boundary is missing")
        yield Span(start, max(start, found.before))


@dataclass(frozen=True, slots=True)
class _Delimiter:
    """A boundary line.

    Attributes:
        level: Whose it is: the number of multiparts around that multipart.
        closing: Whether it ends the multipart.
        before: The offset of the line end before it, which belongs to it.
        start: The offset of the line.
        after: The offset behind the line.
    """

    level: int
    closing: bool
    before: int
    start: int
    after: int


class _Reader:
    """One pass over a stream."""

    def __init__(self, stream: BinaryIO, end: int) -> None:
        self._stream = stream
        self._end = end
        self._parts = 0
        self._headers_size = 0

    def entity(
        self, start: int, boundaries: tuple[bytes, ...], depth: int, default: str = "text/plain"
    ) -> tuple[Entity, _Delimiter | None]:
        """Read an entity up to a delimiter of a multipart around it.

        Args:
            start: Its offset.
            boundaries: Those of the multiparts around it, from the outside.
            depth: How many entities are around it.
            default: What it is where it does not say so.

        Returns:
            The entity, and the delimiter that ended it, or None where the octets ended.
        """
        self._parts += 1
        if depth > MAX_DEPTH:
            raise MalformedError(f"the mail has more than {MAX_DEPTH} parts inside each other")
        if self._parts > MAX_PARTS:
            raise MalformedError(f"the mail has more than {MAX_PARTS} parts")
        header = self._header(start, boundaries, outermost=depth == 0)
        kind = read_content_kind(header.fields, default)
        ambiguous = header.ambiguous or kind.ambiguous or _confusable(kind.boundary, boundaries)
        if ambiguous is None and kind.boundary:
            body = self._parts_of(kind, header.end, boundaries, depth)
        elif ambiguous is None and kind.media_type == "message/rfc822":
            child, ended_by = self.entity(header.end, boundaries, depth + 1)
            body = _Body(ended_by, (child,))
        else:
            body = _Body(self.find(header.end, boundaries))
        end = max(header.end, body.ended_by.before) if body.ended_by else self._end
        found = Entity(
            fields=header.fields,
            content_type=kind.media_type,
            parameters=kind.parameters,
            transfer_encoding=kind.transfer_encoding,
            start=start,
            body_start=header.end,
            end=end,
            children=body.children,
            preamble=body.preamble,
            epilogue=Span(body.last, max(body.last, end)) if body.last else _NOTHING,
            closed=ambiguous is not None or not kind.boundary or bool(body.last),
            ambiguous=ambiguous,
        )
        return found, body.ended_by

    def _parts_of(self, kind: ContentKind, start: int, boundaries: tuple[bytes, ...], depth: int) -> _Body:
        """The parts of a multipart."""
        level, within = len(boundaries), (*boundaries, kind.boundary)
        default = "message/rfc822" if kind.media_type == "multipart/digest" else "text/plain"
        children: list[Entity] = []
        found = self.find(start, within)
        preamble = Span(start, max(start, found.before if found else self._end))
        while found and found.level == level and not found.closing:
            child, found = self.entity(found.after, within, depth + 1, default)
            children.append(child)
        if found and found.level == level:
            return _Body(self.find(found.after, boundaries), tuple(children), preamble, found.after)
        return _Body(found, tuple(children), preamble)

    def _header(self, start: int, boundaries: tuple[bytes, ...], *, outermost: bool) -> HeaderBlock:
        levels = _levels(boundaries)

        def is_delimiter(line: bytes) -> bool:
            return line.startswith(b"--") and _level(line[2:].rstrip(b"\n"), levels) is not None

        found = read_header_block(self._stream, start, self._end, is_delimiter, outermost=outermost)
        self._headers_size += found.end - start
        if self._headers_size > _MAX_HEADERS_SIZE:
            raise MalformedError(f"the headers of the mail's parts are larger than {_MAX_HEADERS_SIZE} bytes")
        return found

    def find(self, start: int, boundaries: tuple[bytes, ...]) -> _Delimiter | None:
        """The next delimiter from the start of a line on."""
        if not boundaries:
            return None
        levels = _levels(boundaries)
        held, position, size = b"\n", start, _FIRST_READ  # a line begins behind a line feed
        while held or position < self._end:
            self._stream.seek(position)
            piece = self._stream.read(min(size, self._end - position))
            position += len(piece)
            held += piece
            ended = not piece or position >= self._end
            complete = len(held) if ended else held.rfind(b"\n") + 1
            for match in _DELIMITER.finditer(held, 0, complete):
                if found := _level(match[1], levels):
                    return self._delimiter(match, position - len(held), start, found)
            if ended:
                return None
            rest = held[max(complete - 1, 0) :] if complete else held
            held = rest if len(rest) <= _DELIMITER_LINE else b""
            size = min(size * 4, CHUNK_SIZE)
        return None

    def _delimiter(
        self, match: re.Match[bytes], offset: int, start: int, found: tuple[int, bool]
    ) -> _Delimiter:
        line = offset + match.start() + 1
        before = max(line - 1, start)
        if line - 2 >= start:
            self._stream.seek(line - 2)
            before -= self._stream.read(1) == b"\r"
        after = min(offset + match.end() + 1, self._end)
        return _Delimiter(*found, before, line, after)


@dataclass(frozen=True, slots=True)
class _Body:
    """What was found in a body.

    Attributes:
        ended_by: The delimiter of a multipart around it that ended it.
        children: The parts.
        preamble: As for `Entity`.
        last: The offset behind its own last boundary; 0 where that is missing.
    """

    ended_by: _Delimiter | None
    children: tuple[Entity, ...] = ()
    preamble: Span = _NOTHING
    last: int = 0


def _confusable(boundary: bytes, around: tuple[bytes, ...]) -> str | None:
    """Whether a line may be a delimiter of this multipart and of one around it, so that programs differ."""
    closing = b"--"
    if any(boundary in (one, one + closing) or one == boundary + closing for one in around if boundary):
        return "its boundary is that of a multipart around it"
    return None


def _levels(boundaries: tuple[bytes, ...]) -> dict[bytes, int]:
    """The levels of the boundaries, from the outside."""
    return {boundary: level for level, boundary in enumerate(boundaries)}


def _level(line: bytes, levels: Mapping[bytes, int]) -> tuple[int, bool] | None:
    """Whose delimiter a line is, and whether it ends the multipart; None: it is none.

    Behind it is white space at the most (RFC 2046 section 5.1.1): what only begins like it is none.

    Args:
        line: What stands behind its first two dashes, without line feed.
        levels: By boundary.
    """
    text = line.rstrip(b" \t\r")
    if (level := levels.get(text)) is not None:
        return level, False
    level = levels.get(text[:-2]) if text.endswith(b"--") else None
    return None if level is None else (level, True)


def _decode_quoted_printable(text: bytes) -> bytes:
    """Decode whole lines; white space at their ends was added on the way (RFC 2045 section 6.7, rule 3)."""
    *lines, last = text.split(b"\r\n")
    return binascii.a2b_qp(b"\r\n".join([*(line.rstrip(b" \t") for line in lines), last]))


def _whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Octets in pieces that end where a line does, or else not within what quoted-printable encodes."""
    held = b""
    for piece in pieces:
        held += piece
        cut = held.rfind(b"\n") + 1
        if not cut and len(held) > CHUNK_SIZE:
            cut = held.rfind(b"=", -3) if b"=" in held[-3:] else len(held)
        if cut:
            yield held[:cut]
            held = held[cut:]
    yield held
