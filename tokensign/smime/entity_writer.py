"""Writing a MIME entity anew, part by part: what need not change is copied as it is.

For signing, what would not survive relays is encoded (`tokensign.smime.transfer_encoding`). Entities that
somebody else signed or encrypted are copied whatever is in them: every octet counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final, Self

from tokensign.files import chunks, spool
from tokensign.smime.canonical import canonical_lines
from tokensign.smime.header_fields import HeaderFields
from tokensign.smime.mime import Span, octets
from tokensign.smime.mime_fields import tidied, with_transfer_encoding
from tokensign.smime.transfer_encoding import IDENTITY_ENCODINGS, scan_body, write_encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.smime.mime import Entity

__all__ = ["SEALED_TYPES", "Changes", "copy_entity", "leaf_content", "write_for_relays"]

SEALED_TYPES: Final = (
    "multipart/signed",
    "multipart/encrypted",
    "application/pkcs7-mime",
    "application/x-pkcs7-mime",
)
"""Media types of entities that are signed or encrypted, and so keep their header and content."""


@dataclass(slots=True)
class Changes:
    """What shall be other than it was; as a context manager it closes the contents that it holds.

    Entities are named by where they start.

    Attributes:
        fields: New header fields.
        contents: New contents of leaves, without a transfer encoding.
    """

    fields: dict[int, HeaderFields] = field(default_factory=dict)
    contents: dict[int, BinaryIO] = field(default_factory=dict)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for content in self.contents.values():
            content.close()

    def fields_of(self, entity: Entity) -> HeaderFields:
        """The header fields that an entity shall have."""
        return self.fields.get(entity.start, entity.fields)


def copy_entity(stream: BinaryIO, entity: Entity, output: BinaryIO, changes: Changes) -> None:
    """Write an entity with some changes, everything else as it is but for CR LF at line ends.

    Args:
        stream: The one that the entity was read from.
        entity: What is written.
        output: Receives it.
        changes: What shall be other than it was.
    """
    _Writer(stream, output, changes, for_relays=False).write(entity)


def write_for_relays(stream: BinaryIO, entity: Entity, output: BinaryIO, changes: Changes) -> None:
    """Write an entity in the form that is signed: CR LF at line ends, and nothing that relays would change.

    Contents stay what they are. What octets beyond ASCII, long lines, white space at line ends, NUL, bare
    CR or "From " at a line's start would endanger becomes quoted-printable or base64 (RFC 8551 section
    3.1.3). In header fields only white space at line ends goes; octets beyond ASCII in them stay (RFC
    6532).

    Args:
        stream: The one that the entity was read from.
        entity: What is written.
        output: Receives it.
        changes: What shall be other than it was.
    """
    _Writer(stream, output, changes, for_relays=True).write(entity)


class _Writer:
    def __init__(self, stream: BinaryIO, output: BinaryIO, changes: Changes, *, for_relays: bool) -> None:
        self._stream = stream
        self._output = output
        self._changes = changes
        self._for_relays = for_relays

    def write(self, entity: Entity) -> None:
        content = self._changes.contents.get(entity.start)
        if content is not None:
            self._write_encoded(entity, content)
        elif entity.children and not _is_sealed(entity):
            self._write_parts(entity)
        elif self._for_relays and not _is_sealed(entity) and entity.transfer_encoding in IDENTITY_ENCODINGS:
            self._write_leaf(entity)
        else:
            self._write_header(entity)
            if _is_sealed(entity):
                self._output.writelines(self._lines(Span(entity.body_start, entity.end)))
            else:
                self._output.writelines(_body(self._stream, entity))

    def _write_header(self, entity: Entity, encoding: str | None = None) -> None:
        """Write the header fields and the blank line."""
        fields = self._changes.fields_of(entity)
        if encoding is not None and (encoding != "7bit" or fields.get("Content-Transfer-Encoding")):
            fields = with_transfer_encoding(fields, encoding)
        if self._for_relays and not _is_sealed(entity):
            fields = HeaderFields(tuple(map(tidied, fields)))
        self._output.write(fields.raw() + b"\r\n")

    def _write_leaf(self, entity: Entity) -> None:
        if scan_body(_body(self._stream, entity)).safe:
            self._write_header(entity, "7bit")
            self._output.writelines(_body(self._stream, entity))
        else:
            with leaf_content(self._stream, entity) as content:
                self._write_encoded(entity, content)

    def _write_encoded(self, entity: Entity, content: BinaryIO) -> None:
        scan = scan_body(chunks(content))
        content.seek(0)
        if scan.safe:
            self._write_header(entity, "7bit")
            self._output.writelines(chunks(content))
            return
        encoding = scan.encoding(text=entity.content_type.startswith("text/"))
        self._write_header(entity, encoding)
        write_encoded(content, encoding, self._output)

    def _write_parts(self, entity: Entity) -> None:
        """Write the parts of a multipart, or the mail in a message/rfc822."""
        self._write_header(entity, "7bit" if self._for_relays and not _holds_octets(entity) else None)
        if entity.content_type == "message/rfc822":
            self.write(entity.children[0])
            return
        delimiter = b"--" + entity.parameters["boundary"].rstrip().encode("ascii")
        if self._keeps(entity.preamble):
            self._output.writelines(self._lines(entity.preamble))
            self._output.write(b"\r\n")
        for child in entity.children:
            self._output.write(delimiter + b"\r\n")
            self.write(child)
            self._output.write(b"\r\n")
        self._output.write(delimiter + b"--\r\n")
        if self._keeps(entity.epilogue):
            self._output.writelines(self._lines(entity.epilogue))

    def _keeps(self, text: Span) -> bool:
        """Whether a preamble or an epilogue, which nobody is meant to read, stays."""
        if text.start >= text.end:
            return False
        return not self._for_relays or scan_body(self._lines(text)).safe

    def _lines(self, text: Span) -> Iterator[bytes]:
        return canonical_lines(octets(self._stream, text.start, text.end))


def leaf_content(stream: BinaryIO, leaf: Entity) -> BinaryIO:
    """The content of a leaf in a private temporary stream, which the caller closes.

    Args:
        stream: The one that the leaf was read from.
        leaf: A part without parts. What is not encoded has CR LF at its line ends, unless it is binary.

    Raises:
        MalformedError: It is not encoded as it says, or with an encoding that is not known.
    """
    if leaf.transfer_encoding not in IDENTITY_ENCODINGS:
        return leaf.decoded(stream)
    content = spool()
    content.writelines(_body(stream, leaf))
    content.seek(0)
    return content


def _body(stream: BinaryIO, entity: Entity) -> Iterator[bytes]:
    pieces = octets(stream, entity.body_start, entity.end)
    return pieces if entity.transfer_encoding == "binary" else canonical_lines(pieces)


def _holds_octets(entity: Entity) -> bool:
    """Whether a part that is copied as it is may have octets beyond ASCII, so that the whole has."""
    return any(_is_sealed(part) and part.transfer_encoding in ("8bit", "binary") for _, part in entity.walk())


def _is_sealed(entity: Entity) -> bool:
    """Whether an entity is copied as it is: its header counts, too, or readers disagree on what it is."""
    multipart = entity.content_type.startswith("multipart/")
    sealed = multipart and (entity.content_type in SEALED_TYPES or not entity.children)
    return sealed or entity.ambiguous is not None
