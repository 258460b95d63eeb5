"""What an entity says it is: Content-Type and Content-Transfer-Encoding (RFC 2045 sections 5 and 6)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokensign.smime.header_fields import HeaderField, HeaderFields

__all__ = ["ContentKind", "read_content_kind", "read_parameters"]

_MAX_BOUNDARY: Final = 200  # characters; RFC 2046 section 5.1.1 has 70
_MAX_VALUE: Final = 1 << 14  # octets of a Content-Type; more is no honest one
_MEDIA_TYPE: Final = re.compile(r"[!#$&^_.+a-z0-9-]+/[!#$&^_.+a-z0-9-]+")  # RFC 6838 section 4.2
_IDENTITY: Final = ("7bit", "8bit", "binary")
_SECTION: Final = re.compile(r";\s*([\w.-]+)\*([0-9]+)\*?\s*=", re.ASCII)  # RFC 2231 section 3
_NAMED_ONCE: Final = ("Content-Type", "Content-Transfer-Encoding")


@dataclass(frozen=True, slots=True)
class ContentKind:
    """What the MIME fields of an entity say.

    Attributes:
        media_type: In lower case.
        parameters: Those of the Content-Type, by name in lower case.
        transfer_encoding: In lower case.
        ambiguous: Why readers may disagree on what the entity is, or None.
    """

    media_type: str
    parameters: Mapping[str, str]
    transfer_encoding: str
    ambiguous: str | None = None

    @property
    def boundary(self) -> bytes:
        """What separates the parts of a multipart; empty for everything else."""
        if not self.media_type.startswith("multipart/"):
            return b""
        return self.parameters.get("boundary", "").rstrip().encode("ascii", "replace")


def read_content_kind(fields: HeaderFields, default: str) -> ContentKind:
    """Read the MIME fields.

    Args:
        fields: The header fields of an entity.
        default: Its media type where none is said.
    """
    encoding = fields.get("Content-Transfer-Encoding")
    transfer_encoding = encoding.value.lower() if encoding else "7bit"
    said = fields.get("Content-Type")
    media_type, pairs = _structured(said) if said else (default, [])
    parameters = dict(pairs)
    repeated = next((name for name in _NAMED_ONCE if len(fields.get_all(name)) > 1), None)
    if repeated:
        ambiguous: str | None = f"the field {repeated} stands more than once"
    elif len(parameters) != len(pairs):
        ambiguous = "a parameter of its Content-Type stands twice"
    elif not _MEDIA_TYPE.fullmatch(media_type):
        media_type, ambiguous = "text/plain", "its Content-Type cannot be read"
    elif said and not _sections_in_order(said):
        ambiguous = "a parameter of its Content-Type is in pieces that do not fit together"
    else:
        ambiguous = _unusable(media_type, parameters, transfer_encoding)
    return ContentKind(media_type, parameters, transfer_encoding, ambiguous)


def read_parameters(field: HeaderField) -> dict[str, str]:
    """The parameters of a field such as Content-Disposition, by name in lower case (RFC 2045, RFC 2231)."""
    return dict(_structured(field)[1])


def _unusable(media_type: str, parameters: Mapping[str, str], transfer_encoding: str) -> str | None:
    """Why the parts of an entity that has parts cannot be told."""
    multipart = media_type.startswith("multipart/")
    if not multipart and media_type != "message/rfc822":
        return None
    if transfer_encoding not in _IDENTITY:  # RFC 2045 section 6.4
        return f"it is {media_type} and yet encoded"
    boundary = parameters.get("boundary", "").rstrip()
    printable = boundary.isascii() and boundary.isprintable()
    if multipart and not (printable and 0 < len(boundary) <= _MAX_BOUNDARY):
        return "it is a multipart without a usable boundary"
    return None


def _sections_in_order(field: HeaderField) -> bool:
    """Whether each parameter that comes in sections has each of them once, from 0 on (RFC 2231 section 3)."""
    sections: dict[str, set[str]] = {}
    count = 0
    for name, number in _SECTION.findall(field.value):
        count += 1
        sections.setdefault(name.lower(), set()).add(number)
    whole = all(numbers == set(map(str, range(len(numbers)))) for numbers in sections.values())
    return whole and count == sum(map(len, sections.values()))


def _structured(field: HeaderField) -> tuple[str, list[tuple[str, str]]]:
    """The value of a field and its parameters, which may repeat; names are in lower case."""
    if len(field.raw) > _MAX_VALUE:
        return "", []
    message = Message()
    message["Content-Type"] = field.value
    try:
        pairs = message.get_params() or [("", "")]
        return pairs[0][0].strip().lower(), [
            (name.lower(), collapse_rfc2231_value(value)) for name, value in pairs[1:] if name
        ]
    except ValueError:  # a charset that is a codec of another kind, a section number of thousands of digits
        return "", []
