"""Header fields of mail as they were received, and what people read in them (RFC 5322, RFC 2047, RFC 6532).

What is signed are octets, so a field keeps its own, folding and line ends included. Text and addresses are
read from them where they are needed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensign.errors import UsageError
from tokensign.smime.addresses import Mailbox, parse_addresses
from tokensign.smime.encoded_words import decode_words, encode_words, has_encoded_word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["HeaderField", "HeaderFields", "format_field"]

_LINE: Final = 78  # characters, RFC 5322 section 2.1.1
_FIELD_NAME: Final = re.compile(r"[!-9;-~]+")  # RFC 5322 section 2.2: printable, no colon
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BARE_CR: Final = re.compile(rb"\r(?!\n|\Z)")


@dataclass(frozen=True, slots=True)
class HeaderField:
    """One header field.

    Attributes:
        name: Its name, as received.
        raw: All its octets: name, colon, body, folding, and the line end as received.
    """

    name: str
    raw: bytes

    @property
    def body(self) -> bytes:
        """The octets behind the colon, unfolded: without line ends (RFC 5322 section 2.2.3)."""
        behind = self.raw.partition(b":")[2]
        return behind.replace(b"\r\n", b"").replace(b"\n", b"").strip(b" \t")

    @property
    def value(self) -> str:
        """The body as text, its encoded words left alone; octets that are not UTF-8 become U+FFFD."""
        return self.body.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        """The body as a person reads it: encoded words decoded (RFC 2047)."""
        return decode_words(self.value)

    @property
    def damaged(self) -> bool:
        """Whether there is a NUL or a bare carriage return in it, where readers disagree on what it says."""
        return b"\0" in self.raw or _BARE_CR.search(self.raw) is not None


@dataclass(frozen=True, slots=True)
class HeaderFields:
    """The header fields of an entity in their order.

    Attributes:
        fields: The fields.
    """

    fields: tuple[HeaderField, ...] = ()

    def __iter__(self) -> Iterator[HeaderField]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def get_all(self, name: str) -> tuple[HeaderField, ...]:
        """The fields with a name, in whatever case it is written."""
        wanted = name.lower()
        return tuple(field for field in self.fields if field.name.lower() == wanted)

    def get(self, name: str) -> HeaderField | None:
        """The first field with a name, or None."""
        return next(iter(self.get_all(name)), None)

    def text(self, name: str) -> str | None:
        """The first field with a name as a person reads it, or None where there is none."""
        field = self.get(name)
        return field.text if field else None

    def addresses(self, name: str) -> tuple[Mailbox, ...]:
        """The mailboxes in all fields with a name.

        Raises:
            MalformedError: A field is not what RFC 5322 section 3.4 has.
        """
        return tuple(mailbox for field in self.get_all(name) for mailbox in parse_addresses(field.value))

    def without(self, matches: Callable[[HeaderField], bool]) -> HeaderFields:
        """The fields but for those that match."""
        return HeaderFields(tuple(field for field in self.fields if not matches(field)))

    def raw(self) -> bytes:
        """All octets, with CR LF at each line end, as a header that can be written."""
        return b"".join(
            field.raw.replace(b"\r\n", b"\n").rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n"
            for field in self.fields
        )


def format_field(name: str, text: str) -> HeaderField:
    """Write a field of unstructured text: folded, and with encoded words where it is not ASCII.

    Args:
        name: The field's name.
        text: Its text, on one line.

    Raises:
        UsageError: The name is none, or the text has a line end or another control character.
    """
    if not _FIELD_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a header field")
    if _CONTROL.search(text):
        raise UsageError(f"the header field {name} would have a control character")
    start = f"{name}: "
    if text.isascii() and not has_encoded_word(text):
        body = _folded(start + text)
    else:
        body = start + encode_words(text, column=len(start), width=_LINE)
    return HeaderField(name, body.encode("ascii") + b"\r\n")


def _folded(field: str) -> str:
    """An ASCII field on lines of at most 78 characters, where white space allows that."""
    lines: list[str] = []
    rest = field
    while len(rest) > _LINE:
        cut = rest.rfind(" ", 1, _LINE + 1)
        if cut <= 0 or not rest[:cut].strip() or (not lines and cut < field.index(":") + 2):
            cut = rest.find(" ", _LINE)
        if cut <= 0 or not rest[cut:].strip():
            break
        lines.append(rest[:cut])
        rest = rest[cut:]
    return "\r\n".join([*lines, rest])
