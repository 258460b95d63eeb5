"""ContentInfo: what kind of message it is (RFC 5652 section 3)."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign import der
from tokensign.cms.ber import SEQUENCE, BerReader, Element, context
from tokensign.errors import MalformedError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "AUTH_ENVELOPED_DATA",
    "CONTENT_TYPE_NAMES",
    "DATA",
    "ENVELOPED_DATA",
    "SIGNED_DATA",
    "Content",
    "content_info_header",
    "enter_content",
    "open_content_info",
    "parsing",
    "read_integer",
    "read_object_identifier",
]

DATA: Final = "1.2.840.113549.1.7.1"
SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
ENVELOPED_DATA: Final = "1.2.840.113549.1.7.3"
AUTH_ENVELOPED_DATA: Final = "1.2.840.113549.1.9.16.1.23"  # RFC 5083
CONTENT_TYPE_NAMES: Final = {
    DATA: "data",
    SIGNED_DATA: "signed-data",
    ENVELOPED_DATA: "enveloped-data",
    AUTH_ENVELOPED_DATA: "auth-enveloped-data",
    "1.2.840.113549.1.7.5": "digested-data",
    "1.2.840.113549.1.7.6": "encrypted-data",
    "1.2.840.113549.1.9.16.1.2": "authenticated-data",
    "1.2.840.113549.1.9.16.1.9": "compressed-data",  # RFC 3274
    "1.2.840.113549.1.9.16.1.4": "timestamp-token-info",  # RFC 3161
    "1.2.840.113549.1.9.16.1.1": "receipt",  # RFC 2634
}
_COMMANDS: Final = {  # what to do with a message that came to the wrong place
    SIGNED_DATA: "use `tokensign verify`",
    ENVELOPED_DATA: "use `tokensign decrypt`",
    AUTH_ENVELOPED_DATA: "use `tokensign decrypt`",
}


@dataclass(frozen=True, slots=True)
class Content:
    """Where the content of a message lies in its stream.

    Attributes:
        stream: The message.
        element: The string that holds the content.
    """

    stream: BinaryIO
    element: Element

    def chunks(self) -> Iterator[bytes]:
        """The content in pieces, as often as asked.

        Raises:
            MalformedError: Its segments are broken.
        """
        reader = BerReader(self.stream, self.element.start)
        return reader.octets(self.element)

    def size(self) -> int:
        """Octets of the content; of one in segments all are looked at."""
        if not self.element.constructed:
            return self.element.length or 0
        return sum(map(len, self.chunks()))


def open_content_info(stream: BinaryIO) -> tuple[str, BerReader]:
    """Read the head of a message.

    Args:
        stream: A message in DER or BER, from its current position.

    Returns:
        The content type, dotted, and a reader that stands inside the explicit tag before the content.

    Raises:
        MalformedError: It is not a ContentInfo.
    """
    reader = BerReader(stream, stream.tell())
    outer = reader.peek()
    if outer is None:
        raise MalformedError("the message is empty")
    if outer.tag != SEQUENCE:
        raise MalformedError("this is not a CMS message", hint="give a .p7s, .p7m, .pem or .eml file")
    reader.enter(outer)
    content_type = read_object_identifier(reader, "contentType")
    reader.enter(reader.expect(context(0), "content"))
    return content_type, reader


def enter_content(stream: BinaryIO, structure: str, *content_types: str) -> tuple[str, BerReader]:
    """Read the head of a message of an expected kind, up to the first field of its content.

    Args:
        stream: A message in DER or BER, from its current position.
        structure: The structure of the content, in the RFC's name.
        content_types: Those that have this structure, dotted; the first one is told where it is another.

    Returns:
        The content type, dotted, and a reader that stands inside the SEQUENCE.

    Raises:
        MalformedError: It is not a ContentInfo, or its content is no SEQUENCE.
        UnsupportedError: It is another kind of message.
    """
    found, reader = open_content_info(stream)
    if found not in content_types:
        wanted = CONTENT_TYPE_NAMES[content_types[0]]
        raise UnsupportedError(
            f"this message is {CONTENT_TYPE_NAMES.get(found, found)}, not {wanted}",
            hint=_COMMANDS.get(found, "see `tokensign inspect`"),
        )
    reader.enter(reader.expect(SEQUENCE, structure))
    return found, reader


def content_info_header(content_type: str, size: int) -> bytes:
    """All octets of a ContentInfo before its content, DER.

    Args:
        content_type: Dotted.
        size: Octets of the content, with its own header.
    """
    oid = der.object_identifier(content_type)
    tag = der.header(context(0), size)
    return der.header(SEQUENCE, len(oid) + len(tag) + size) + oid + tag


def read_object_identifier(reader: BerReader, what: str) -> str:
    """The OBJECT IDENTIFIER at the cursor, dotted.

    Raises:
        MalformedError: There is none.
    """
    return der.dotted(reader.read(reader.expect(0x06, what)))


def read_integer(reader: BerReader, what: str) -> int:
    """The INTEGER at the cursor.

    Raises:
        MalformedError: There is none.
    """
    octets = der.content(reader.read(reader.expect(0x02, what)))
    if not octets:
        raise MalformedError(f"{what} cannot be read")
    return int.from_bytes(octets, signed=True)


@contextlib.contextmanager
def parsing(what: str) -> Iterator[None]:
    """Turn whatever asn1crypto raises about broken bytes into one error.

    Args:
        what: The structure being read, in the RFC's name.

    Raises:
        MalformedError: The block raised one of the errors that asn1crypto has for broken bytes.
    """
    try:
        yield
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise MalformedError(f"{what} cannot be read") from error
