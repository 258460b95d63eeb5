"""An incremental reader of BER and DER (X.690), for messages larger than memory.

A message is walked once, element by element; what is small (certificates, signer infos, recipients) is
read whole and handed to asn1crypto, and the content stays where it is: `BerReader.octets` yields it in
pieces, however it was cut into segments. Programs cut it into many thousand small ones (OpenSSL: 4096 octets
each), which are therefore taken in blocks. The stream must be able to seek, so that a message can be read for
its structure first and for its content second; a pipe is spooled (`tokensign.files.spool`).
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from tokensign import der
from tokensign.errors import MalformedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "MAX_DEPTH",
    "MAX_ELEMENT_SIZE",
    "OCTET_STRING",
    "SEQUENCE",
    "SET",
    "BerReader",
    "Element",
    "context",
    "to_der",
]

MAX_DEPTH: Final = 64  # nesting; real messages stay below 30, and each level costs a stack frame
MAX_ELEMENT_SIZE: Final = 1 << 24  # 16 MiB for what is read whole: CRLs of large CAs reach some megabytes
_WINDOW: Final = 1 << 18  # octets read from the stream at a time
_MAX_LENGTH_OCTETS: Final = 8  # a length of more octets than this exceeds any file

SEQUENCE: Final = 0x30
SET: Final = 0x31
OCTET_STRING: Final = 0x04
_CONSTRUCTED: Final = 0x20
_HIGH_TAG_NUMBER: Final = 0x1F
_LONG_FORM: Final = 0x80
_PRIMITIVE_OF_CONSTRUCTED_STRING: Final = {_CONSTRUCTED | OCTET_STRING: OCTET_STRING}


def context(number: int) -> int:
    """The identifier octet of the constructed context-specific tag `number`."""
    return 0xA0 | number


class Element(NamedTuple):
    """The header of one element.

    Attributes:
        tag: The identifier octet, with class and constructed bit.
        start: Offset of the identifier octet in the stream.
        content: Offset of the first content octet.
        length: Content octets, or None for the indefinite form.
    """

    tag: int
    start: int
    content: int
    length: int | None

    @property
    def constructed(self) -> bool:
        """Whether the content is elements again."""
        return bool(self.tag & _CONSTRUCTED)

    @property
    def end(self) -> int | None:
        """Offset behind the content, or None for the indefinite form."""
        return None if self.length is None else self.content + self.length


class BerReader:
    """A cursor over the elements of a stream.

    The cursor stands inside the constructed elements that were entered and before one element, which
    `peek` shows; `read`, `skip`, `enter` and `octets` consume it.

    Args:
        stream: Where to read; it must be able to seek.
        start: Offset of the first element.
    """

    def __init__(self, stream: BinaryIO, start: int = 0) -> None:
        self.stream = stream
        self.position = start
        self._ends: list[int | None] = []
        self._window = b""
        self._window_start = 0
        self._size = stream.seek(0, io.SEEK_END)

    def peek(self) -> Element | None:
        """The next element of the innermost entered one, or None at its end.

        Raises:
            MalformedError: The header is broken or the element is larger than what is around it.
        """
        end = self._ends[-1] if self._ends else self._size
        if end is not None:
            return self._header(self.position, end) if self.position < end else None
        limit = self._outer_end()
        if self.position + 2 <= limit and self._octets_at(self.position, 2) == b"\0\0":
            return None
        return self._header(self.position, limit)

    def expect(self, tag: int, what: str) -> Element:
        """The next element, which must have an identifier octet.

        Args:
            tag: The identifier octet; for strings the primitive one, and the constructed one fits too.
            what: Its name in the RFC, for the message.

        Raises:
            MalformedError: There is no element, or it has another tag.
        """
        element = self.peek()
        if element is None:
            raise MalformedError(f"the message lacks its {what}")
        if element.tag != tag and _PRIMITIVE_OF_CONSTRUCTED_STRING.get(element.tag) != tag:
            raise MalformedError(f"there is another element (tag {element.tag:02x}) in the place of {what}")
        return element

    def enter(self, element: Element) -> None:
        """Go into a constructed element.

        Raises:
            MalformedError: It is primitive, or the nesting is too deep.
        """
        if not element.constructed:
            raise MalformedError(f"an element with tag {element.tag:02x} should hold others")
        if len(self._ends) >= MAX_DEPTH:
            raise MalformedError(f"the message nests deeper than {MAX_DEPTH} levels")
        self._ends.append(element.end)
        self.position = element.content

    def leave(self) -> None:
        """Go behind the innermost entered element, which must be at its end.

        Raises:
            MalformedError: There are further elements where the structure has none.
        """
        if self.position == self._ends[-1]:  # nearly always
            self._ends.pop()
            return
        if (extra := self.peek()) is not None:
            raise MalformedError(f"there is an unexpected element (tag {extra.tag:02x})")
        if self._ends.pop() is None:
            self.position += 2

    def read(self, element: Element) -> bytes:
        """The whole element in definite form (see `to_der`), for parsers that take nothing else.

        Raises:
            MalformedError: It is broken, or larger than MAX_ELEMENT_SIZE.
        """
        self.skip(element)
        size = self.position - element.start
        if size > MAX_ELEMENT_SIZE:
            raise MalformedError(
                f"an element has {size} bytes, more than the {MAX_ELEMENT_SIZE} that are read whole"
            )
        return to_der(self._octets_at(element.start, size))

    def read_children(self, element: Element, what: str, maximum: int) -> tuple[bytes, ...]:
        """The elements inside a constructed one, each in definite form (see `to_der`).

        Args:
            element: The one around them, at the cursor.
            what: Its name in the RFC, for the message.
            maximum: How many there may be.

        Raises:
            MalformedError: One is broken, larger than MAX_ELEMENT_SIZE, or one too many.
        """
        end = element.end
        if end is not None and end - element.start <= _WINDOW and element.constructed:
            with contextlib.suppress(MalformedError):  # an indefinite form, or broken: what follows finds out
                children = der.elements(self._octets_at(element.start, end - element.start))
                if len(children) <= maximum:
                    found = tuple(map(to_der, children))
                    self.position = end
                    return found
        self.enter(element)
        one_by_one: list[bytes] = []
        while (child := self.peek()) is not None:
            if len(one_by_one) == maximum:
                raise MalformedError(f"the message has more than {maximum} {what}")
            one_by_one.append(self.read(child))
        self.leave()
        return tuple(one_by_one)

    def skip(self, element: Element) -> None:
        """Go behind an element without reading its content."""
        if element.end is not None:
            self.position = element.end
            return
        depth = len(self._ends)
        self.enter(element)
        while len(self._ends) > depth:
            inner = self.peek()
            if inner is None:
                self.leave()
            elif inner.end is None:
                self.enter(inner)
            else:
                self.position = inner.end
                self._segments()

    def octets(self, element: Element) -> Iterator[bytes]:
        """The content of a string, in pieces; segments of a constructed string are joined.

        Args:
            element: A primitive string, or a constructed one whose segments are OCTET STRINGs, nested or not.

        Raises:
            MalformedError: A segment is broken or is not an OCTET STRING.
        """
        if not element.constructed:
            yield from self._pieces(element)
            return
        depth = len(self._ends)
        self.enter(element)
        while len(self._ends) > depth:
            segment = self.peek()
            if segment is None:
                self.leave()
            elif segment.tag == OCTET_STRING:
                yield from self._pieces(segment)
                if block := b"".join(self._segments()):
                    yield block
            elif segment.tag == _CONSTRUCTED | OCTET_STRING:
                self.enter(segment)
            else:
                raise MalformedError(f"a segment of the content has tag {segment.tag:02x}")

    def _pieces(self, element: Element) -> Iterator[bytes]:
        end = element.content + (element.length or 0)
        self.position = element.content
        while self.position < end:
            piece = self._octets_at(self.position, min(_WINDOW, end - self.position))
            self.position += len(piece)
            yield piece

    def _segments(self) -> list[bytes]:
        """The contents of the primitive OCTET STRINGs at the cursor, which goes behind them.

        Only those that lie whole in the window and in the element around them. `peek`, which takes ten times
        as long for each, goes on from there: it loads the next window, and says what is wrong with the rest.
        """
        window, at = self._window, self.position - self._window_start
        limit = min(len(window), self._outer_end() - self._window_start)
        contents = []
        while 0 <= at <= limit - 2 and window[at] == OCTET_STRING:
            start, length = at + 2, window[at + 1]
            if length >= _LONG_FORM:
                count = length - _LONG_FORM
                if not 0 < count <= _MAX_LENGTH_OCTETS:
                    break
                length = int.from_bytes(window[start : start + count], "big")
                start += count
            end = start + length
            if end > limit:
                break
            contents.append(window[start:end])
            at = end
        self.position = self._window_start + at
        return contents

    def _outer_end(self) -> int:
        for end in reversed(self._ends):
            if end is not None:
                return end
        return self._size

    def _header(self, start: int, limit: int) -> Element:
        begin, window = start - self._window_start, self._window
        if not 0 <= begin < len(window) - 1:
            self._octets_at(start, 2)
            begin, window = start - self._window_start, self._window
        tag, first = window[begin], window[begin + 1]
        if tag & _HIGH_TAG_NUMBER == _HIGH_TAG_NUMBER:
            raise MalformedError("an element has a tag number above 30, which CMS does not use")
        content = start + 2
        length: int | None = first
        if first == _LONG_FORM:
            if not tag & _CONSTRUCTED:
                raise MalformedError("a primitive element has the indefinite form")
            length = None
        elif first > _LONG_FORM:
            count = first - _LONG_FORM
            if count > _MAX_LENGTH_OCTETS:
                raise MalformedError("an element has an impossible length")
            size = window[begin + 2 : begin + 2 + count]
            length = int.from_bytes(size if len(size) == count else self._octets_at(content, count))
            content += count
        if content + (length or 0) > limit:
            raise MalformedError("the message is cut off, or an element is larger than what is around it")
        return Element(tag, start, content, length)

    def _octets_at(self, offset: int, count: int) -> bytes:
        begin = offset - self._window_start
        if begin < 0 or begin + count > len(self._window):
            self.stream.seek(offset)
            self._window = self.stream.read(max(count, _WINDOW))
            self._window_start, begin = offset, 0
            if count > len(self._window):
                raise MalformedError("the message is cut off")
        return self._window[begin : begin + count]


def to_der(encoded: bytes) -> bytes:
    """One element with every indefinite length made definite and every constructed OCTET STRING primitive.

    What has neither comes back as the same bytes, so that signatures over it still hold.

    Raises:
        MalformedError: The encoding is broken or nests deeper than MAX_DEPTH.
    """
    if _is_definite(encoded):  # nearly always
        return encoded
    reader = BerReader(io.BytesIO(encoded))
    element = reader.peek()
    if element is None:
        raise MalformedError("an element is empty")
    return _definite(reader, element, encoded, MAX_DEPTH)


@der.remembered(512)
def _is_definite(encoded: bytes) -> bool:
    """Whether it is one element without indefinite lengths and strings in segments."""
    return _definite_end(encoded, 0, len(encoded), MAX_DEPTH) == len(encoded) > 0


def _definite_end(encoded: bytes, start: int, limit: int, depth: int) -> int:
    """The offset behind an element without indefinite lengths and strings in segments; of another one, -1.

    What is broken in any way gives -1 too: `_definite` says why.
    """
    if start + 2 > limit:
        return -1
    tag, length, start = encoded[start], encoded[start + 1], start + 2
    if length >= _LONG_FORM:
        count = length - _LONG_FORM
        if not 0 < count <= _MAX_LENGTH_OCTETS:
            return -1
        length = int.from_bytes(encoded[start : start + count])
        start += count
    end = start + length
    if end > limit or tag & _HIGH_TAG_NUMBER == _HIGH_TAG_NUMBER:
        return -1
    if not tag & _CONSTRUCTED:
        return end
    if tag in _PRIMITIVE_OF_CONSTRUCTED_STRING or not depth:
        return -1
    while 0 <= start < end:
        start = _definite_end(encoded, start, end, depth - 1)
    return start


def _definite(reader: BerReader, element: Element, encoded: bytes, depth: int) -> bytes:
    """The element at the reader's cursor in definite form; the cursor goes behind it."""
    if not element.constructed:
        reader.skip(element)
        return encoded[element.start : reader.position]
    if depth == 0:
        raise MalformedError(f"the message nests deeper than {MAX_DEPTH} levels")
    if element.tag in _PRIMITIVE_OF_CONSTRUCTED_STRING:
        content = b"".join(reader.octets(element))
        return der.tlv(_PRIMITIVE_OF_CONSTRUCTED_STRING[element.tag], content)
    reader.enter(element)
    start = reader.position
    children = []
    while (child := reader.peek()) is not None:
        children.append(_definite(reader, child, encoded, depth - 1))
    content = b"".join(children)
    unchanged = element.length is not None and content == encoded[start : reader.position]
    reader.leave()
    return encoded[element.start : reader.position] if unchanged else der.tlv(element.tag, content)
