"""Writing a mail that was opened: what the reader reads, as one mail that every program shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from tokensign.files import chunks
from tokensign.smime.compose import as_entity
from tokensign.smime.entity_writer import Changes, copy_entity
from tokensign.smime.legacy_display import remove_legacy_display
from tokensign.smime.mime import octets
from tokensign.smime.mime_fields import is_structural

if TYPE_CHECKING:
    from tokensign.smime.header_fields import HeaderFields
    from tokensign.smime.mime import Entity

__all__ = ["write_content", "write_opened"]

_MIME_VERSION = b"MIME-Version: 1.0\r\n"


def write_opened(
    stream: BinaryIO, payload: Entity, shown: HeaderFields, output: BinaryIO, *, encrypted: bool
) -> None:
    """Write an entity with the header fields of its mail.

    Its octets stay as they are, but for texts that repeat hidden header fields (RFC 9788 section 4.5.3.3):
    those are taken away, because the fields are shown now.

    Args:
        stream: The one that the entity was read from.
        payload: The entity inside of all layers.
        shown: The header fields that the reader sees.
        output: Receives the mail.
        encrypted: Whether it was encrypted; only such a mail hides fields, and repeats them.

    Raises:
        MalformedError: A text that must be changed is not encoded as it says.
    """
    own = payload.fields.without(lambda field: field.damaged or not is_structural(field))
    output.write(shown.without(is_structural).raw())
    if own.get("MIME-Version") is None:
        output.write(_MIME_VERSION)
    with Changes() as changes:
        if encrypted:
            remove_legacy_display(stream, payload, changes)
        if changes.contents:
            own = changes.fields_of(payload).without(lambda field: not is_structural(field))
            changes.fields[payload.start] = own
            copy_entity(stream, payload, output, changes)
            return
    output.write(own.raw() + b"\r\n")
    output.writelines(octets(stream, payload.body_start, payload.end))


def write_content(content: BinaryIO, shown: HeaderFields, output: BinaryIO) -> None:
    """Write what is no mail, such as a timestamp token that was signed, as an attachment.

    Args:
        content: What is inside of all layers.
        shown: The header fields that the reader sees.
        output: Receives the mail.
    """
    output.write(shown.without(is_structural).raw() + _MIME_VERSION)
    content.seek(0)
    with as_entity(content) as entity:
        output.writelines(chunks(entity))
