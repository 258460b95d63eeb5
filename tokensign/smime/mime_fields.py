"""Changing the header fields that MIME owns, without touching what else stands in them."""

from __future__ import annotations

import re
from typing import Final

from tokensign.smime.header_fields import HeaderField, HeaderFields

__all__ = ["is_structural", "tidied", "with_parameters", "with_transfer_encoding"]

_PARAMETER: Final = re.compile(
    rb"""(?P<quoted>"(?:[^"\\]|\\.)*")
    |(?P<parameter>;\s*(?P<name>[^\s()<>@,;:\\"/\[\]?=]+)\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;"]*))""",
    re.VERBOSE | re.DOTALL,
)
_LINE: Final = 78  # characters, RFC 5322 section 2.1.1


def is_structural(field: HeaderField) -> bool:
    """Whether a field tells how the body is built, and nothing of the message (RFC 9787 section 1.1.1)."""
    name = field.name.lower()
    return name == "mime-version" or name.startswith("content-")


def tidied(field: HeaderField) -> HeaderField:
    """A field with CR LF at its line ends, and without white space before them, which relays take away."""
    lines = [line.rstrip(b" \t\r") for line in field.raw.split(b"\n")]
    return HeaderField(field.name, b"".join(line + b"\r\n" for line in lines if line))


def with_parameters(fields: HeaderFields, parameters: dict[str, str | None]) -> HeaderFields:
    """Header fields whose Content-Type has other parameters; without the field, it becomes text/plain.

    Args:
        fields: The fields of an entity.
        parameters: The values, tokens all of them, by name in lower case; None takes a parameter away.
    """
    known = fields.get("Content-Type")
    field = tidied(known) if known else HeaderField("Content-Type", b"Content-Type: text/plain\r\n")

    def kept(match: re.Match[bytes]) -> bytes:
        name = match["name"]
        return b"" if name and name.decode("latin-1").lower() in parameters else match[0]

    raw = _PARAMETER.sub(kept, field.raw).rstrip(b"; \t\r\n")
    for name, value in parameters.items():
        if value is not None:
            parameter = f'{name}="{value}"'.encode("ascii")
            last_line = raw.rpartition(b"\n")[2]
            gap = b" " if len(last_line) + len(parameter) + 2 <= _LINE else b"\r\n "
            raw += b";" + gap + parameter
    return _replaced(fields, HeaderField(field.name, raw + b"\r\n"))


def with_transfer_encoding(fields: HeaderFields, encoding: str) -> HeaderFields:
    """Header fields that name a content transfer encoding."""
    name = "Content-Transfer-Encoding"
    return _replaced(fields, HeaderField(name, f"{name}: {encoding}\r\n".encode("ascii")))


def _replaced(fields: HeaderFields, field: HeaderField) -> HeaderFields:
    """Fields with one in the place of that of its name, or at the end."""
    old = fields.get(field.name)
    if old is None:
        return HeaderFields((*fields, field))
    return HeaderFields(tuple(field if known is old else known for known in fields))
