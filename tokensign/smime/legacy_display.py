"""Legacy Display Elements (RFC 9788 sections 4.5.3 and 5.2.2): hidden header fields in the text of a mail.

A mail program that decrypts but does not know header protection shows the subject "[...]". So the hidden
fields stand at the top of the text, too, in parts that are marked; programs that know them take them away.
"""

from __future__ import annotations

import contextlib
import html
import re
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import MalformedError
from tokensign.files import chunks, spool
from tokensign.smime.entity_writer import SEALED_TYPES, Changes, leaf_content
from tokensign.smime.mime_fields import with_parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tokensign.smime.header_fields import HeaderField
    from tokensign.smime.mime import Entity

__all__ = ["add_legacy_display", "main_body_parts", "remove_legacy_display"]

_PARAMETER: Final = "hp-legacy-display"
_CLASS: Final = "header-protection-legacy-display"
_HEAD: Final = 1 << 16  # octets of a text in which the element is looked for; it stands at the very top
_BODY: Final = re.compile(rb"<body(?:\s[^>]*)?>", re.IGNORECASE)
_BLANK_LINE: Final = re.compile(rb"(?:\A|\n)\r?\n")
_ELEMENT_START: Final = re.compile(
    rb"<div\s+class\s*=\s*[\"']?" + _CLASS.encode("ascii") + rb"[\"']?\s*>", re.IGNORECASE
)
_ELEMENT_END: Final = re.compile(rb"</div>(?:\r?\n)?", re.IGNORECASE)


def main_body_parts(entity: Entity) -> Iterator[Entity]:
    """The parts that people read as the text of a mail (RFC 9787 section 7.1).

    Of a multipart that is its first part, of a multipart/alternative each. Attachments and what somebody else
    signed or encrypted are none.
    """
    if entity.content_type == "multipart/alternative":
        for child in entity.children:
            yield from main_body_parts(child)
    elif entity.content_type.startswith("multipart/") and entity.content_type not in SEALED_TYPES:
        for child in entity.children[:1]:
            yield from main_body_parts(child)
    elif entity.content_type in ("text/plain", "text/html") and not _is_attachment(entity):
        yield entity


def add_legacy_display(
    stream: BinaryIO, payload: Entity, hidden: Sequence[HeaderField], changes: Changes
) -> None:
    """Put hidden header fields into the text of a mail that will be encrypted (RFC 9788 section 5.2.2).

    A text in a charset that is not known, or in which ASCII is not what it is elsewhere, gets none, and
    neither does one that is not encoded as it says. Marks that a part has from an earlier journey go, or its
    own first lines would be taken for the element.

    Args:
        stream: The one that the payload was read from.
        payload: The Cryptographic Payload.
        hidden: The fields, or nothing.
        changes: Receives the new texts and their header fields.
    """
    for part in main_body_parts(payload):
        if part.ambiguous:
            continue
        parameters: dict[str, str | None] = {_PARAMETER: None} if _PARAMETER in part.parameters else {}
        charset = _charset_for(part, hidden)
        if hidden and charset:
            with contextlib.suppress(MalformedError):
                changes.contents[part.start] = _with_element(stream, part, _element(part, hidden, charset))
                parameters[_PARAMETER] = "1"
                if charset != _charset_of(part):
                    parameters["charset"] = charset
        if parameters:
            changes.fields[part.start] = with_parameters(changes.fields_of(part), parameters)


def remove_legacy_display(stream: BinaryIO, payload: Entity, changes: Changes) -> None:
    """Take the elements away for people who see the real header (RFC 9788 section 4.5.3.3).

    Args:
        stream: The one that the payload was read from.
        payload: The Cryptographic Payload of an encrypted mail; one that does not say hp="cipher" keeps its
            texts.
        changes: Receives the new texts and their header fields.

    Raises:
        MalformedError: A text is not encoded as it says.
    """
    if payload.parameters.get("hp", "").lower() != "cipher":
        return
    for part in main_body_parts(payload):
        if part.parameters.get(_PARAMETER) != "1" or part.ambiguous:
            continue
        with leaf_content(stream, part) as content:
            head = content.read(_HEAD)
            plain = part.content_type == "text/plain"
            first = None if plain else _ELEMENT_START.search(head)
            last = _BLANK_LINE.search(head) if plain else first and _ELEMENT_END.search(head, first.end())
            if last:
                start = first.start() if first else 0
                changes.contents[part.start] = _joined((head[:start], head[last.end() :]), content)
        changes.fields[part.start] = with_parameters(changes.fields_of(part), {_PARAMETER: None})


def _is_attachment(entity: Entity) -> bool:
    disposition = entity.fields.get("Content-Disposition")
    return disposition is not None and disposition.value.lower().startswith("attachment")


def _charset_of(part: Entity) -> str:
    return part.parameters.get("charset", "us-ascii").lower()


def _charset_for(part: Entity, hidden: Iterable[HeaderField]) -> str | None:
    """The charset of a text with the element: its own, or UTF-8 for ASCII; None: it gets no element."""
    charset = _charset_of(part)
    try:
        if "Subject: <".encode(charset) != b"Subject: <":
            return None
    except (LookupError, ValueError):
        return None
    ascii_suffices = part.content_type == "text/html" or all(field.text.isascii() for field in hidden)
    return "utf-8" if charset == "us-ascii" and not ascii_suffices else charset


def _element(part: Entity, hidden: Iterable[HeaderField], charset: str) -> bytes:
    """The lines that show the fields; in HTML in ASCII, which fits every charset."""
    lines = [f"{field.name}: {_on_one_line(field.text)}" for field in hidden]
    if part.content_type == "text/plain":
        return "\r\n".join([*lines, "", ""]).encode(charset, "replace")
    text = html.escape("\r\n".join(lines), quote=False)
    element = f'<div class="{_CLASS}">\r\n<pre>{text}</pre>\r\n</div>\r\n'
    return element.encode("ascii", "xmlcharrefreplace")


def _on_one_line(text: str) -> str:
    """Text in which an encoded word can neither end a line nor steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _with_element(stream: BinaryIO, part: Entity, element: bytes) -> BinaryIO:
    """The content of a part with an element at its top."""
    with leaf_content(stream, part) as content:
        head = content.read(_HEAD)
        body = _BODY.search(head) if part.content_type == "text/html" else None
        at = body.end() if body else 0
        return _joined((head[:at], element, head[at:]), content)


def _joined(head: Iterable[bytes], rest: BinaryIO) -> BinaryIO:
    text = spool()
    text.writelines(head)
    text.writelines(chunks(rest))
    text.seek(0)
    return text
