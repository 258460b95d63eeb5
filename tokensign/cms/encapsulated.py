"""EncapsulatedContentInfo: a content and its type inside another message (RFC 5652 section 5.2)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

from tokensign import der
from tokensign.cms.ber import OCTET_STRING, SEQUENCE, context
from tokensign.cms.content_info import Content, read_object_identifier
from tokensign.errors import UnsupportedError

if TYPE_CHECKING:
    from tokensign.cms.ber import BerReader

__all__ = ["encapsulated_header", "read_attached", "read_encapsulated", "remaining_size"]


def read_encapsulated(reader: BerReader) -> tuple[str, Content | None]:
    """The EncapsulatedContentInfo at the cursor; its content is passed over.

    Returns:
        The eContentType, dotted, and where the content lies, or None where it is not in the message.

    Raises:
        MalformedError: There is none, or it is broken.
    """
    reader.enter(reader.expect(SEQUENCE, "encapContentInfo"))
    content_type = read_object_identifier(reader, "eContentType")
    content = None
    if reader.peek() is not None:
        reader.enter(reader.expect(context(0), "eContent"))
        element = reader.expect(OCTET_STRING, "eContent")
        content = Content(reader.stream, element)
        reader.skip(element)
        reader.leave()
    reader.leave()
    return content_type, content


def read_attached(reader: BerReader) -> tuple[str, Content]:
    """As `read_encapsulated`, of a message that is nothing without its content.

    Raises:
        MalformedError: There is none, or it is broken.
        UnsupportedError: The content is not in the message.
    """
    content_type, content = read_encapsulated(reader)
    if content is None:
        raise UnsupportedError("the content is not in the message", hint="ask the sender for the whole one")
    return content_type, content


def encapsulated_header(content_type: str, size: int) -> bytes:
    """All octets of an EncapsulatedContentInfo before its content, DER.

    Args:
        content_type: Dotted.
        size: Octets of the content.
    """
    string = der.header(OCTET_STRING, size)
    explicit = der.header(context(0), len(string) + size)
    oid = der.object_identifier(content_type)
    opening = der.header(SEQUENCE, len(oid) + len(explicit) + len(string) + size)
    return opening + oid + explicit + string


def remaining_size(stream: BinaryIO) -> int:
    """Octets from the current position of a stream to its end; the stream must be able to seek."""
    start = stream.tell()
    end = stream.seek(0, io.SEEK_END)
    stream.seek(start)
    return end - start
