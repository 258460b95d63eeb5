"""Address lists of mail (RFC 5322 section 3.4), read strictly.

Programs that guess at broken addresses guess differently, and that is how a mail shows one sender to one
program and another one to the next. What the grammar does not have is refused here: whose address it is, then
nobody says. Only a full stop or an address as a name without quotes is read, because everybody writes that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tokensign.errors import MalformedError
from tokensign.smime.encoded_words import decode_words, has_encoded_word

__all__ = ["Mailbox", "parse_addresses"]

_MAX_COMMENT_DEPTH: Final = 8  # comments in comments; nobody writes two
_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t]+)
    |(?P<quoted>"(?:[^"\\]|\\.)*")
    |(?P<literal>\[[^\[\]\\]*\])
    |(?P<special>[<>@,:;.()])
    |(?P<atom>[^\s()<>\[\]:;@\\,."\x00-\x1f\x7f]+)""",
    re.VERBOSE,
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ESCAPED: Final = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox in an address list.

    Attributes:
        address: "local@domain", without quotes where the local part needs none.
        display_name: What people call it, decoded; "" where there is none.
        comments: What stands in comments beside it, decoded.
        group: The group that it stands in, or None.
    """

    address: str
    display_name: str = ""
    comments: tuple[str, ...] = ()
    group: str | None = None


def parse_addresses(text: str) -> tuple[Mailbox, ...]:
    """The mailboxes in the body of a field, unfolded and with its encoded words.

    Raises:
        MalformedError: It is not an address list.
    """
    return tuple(_Parser(text).mailboxes())


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    spaced: bool  # white space or a comment stands before it


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._comments: list[str] = []
        self._tokens = self._tokenize(text)
        self._next = 0

    def mailboxes(self) -> list[Mailbox]:
        found: list[Mailbox] = []
        group: str | None = None
        while self._next < len(self._tokens):
            if self._take(","):
                continue
            if group is not None and self._take(";"):
                group = None
                continue
            phrase = self._phrase()
            if group is None and phrase and self._take(":"):
                group = _joined(phrase)
                continue
            found.append(self._mailbox(phrase, group))
            if not (self._at_end() or self._sees(",") or (group is not None and self._sees(";"))):
                raise self._broken()
        if group is not None:
            raise self._broken()
        return self._with_comments(found)

    def _mailbox(self, phrase: list[_Token], group: str | None) -> Mailbox:
        if self._take("<"):
            address = self._address(self._phrase())
            if not self._take(">"):
                raise self._broken()
            return Mailbox(address, decode_words(_joined(phrase)), group=group)
        address = self._address(phrase)
        if self._take("<"):  # an address as name, which should stand in quotes, and everybody writes
            name, address = address, self._address(self._phrase())
            if not self._take(">"):
                raise self._broken()
            return Mailbox(address, name, group=group)
        return Mailbox(address, group=group)

    def _with_comments(self, found: list[Mailbox]) -> list[Mailbox]:
        """Comments belong to a mailbox where there is one; beside several, to each."""
        comments = tuple(map(decode_words, self._comments))
        return [Mailbox(entry.address, entry.display_name, comments, entry.group) for entry in found]

    def _phrase(self) -> list[_Token]:
        """Words and full stops, as in a name or a local part."""
        start = self._next
        while not self._at_end() and (self._sees(".") or self._tokens[self._next].kind in ("atom", "quoted")):
            self._next += 1
        return self._tokens[start : self._next]

    def _address(self, local: list[_Token]) -> str:
        if not self._take("@"):
            raise self._broken()
        if not self._at_end() and self._tokens[self._next].kind == "literal":
            domain = self._tokens[self._next].text
            self._next += 1
        else:
            domain = self._dotted(self._phrase())
        if len(local) == 1 and local[0].kind == "quoted":
            name = _unquoted(local[0].text)
        else:
            name = self._dotted(local)
        if has_encoded_word(name) or has_encoded_word(domain) or not name:
            raise self._broken()
        return f"{name}@{domain}"

    def _dotted(self, words: list[_Token]) -> str:
        """A dot-atom: no white space, no two dots side by side."""
        kinds = ["." if word.text == "." and word.kind == "special" else word.kind for word in words]
        expected = ["atom" if index % 2 == 0 else "." for index in range(len(words))]
        if kinds != expected or len(words) % 2 == 0 or any(word.spaced for word in words[1:]):
            raise self._broken()
        return "".join(word.text for word in words)

    def _sees(self, special: str) -> bool:
        return not self._at_end() and self._tokens[self._next] in (
            _Token("special", special, spaced=False),
            _Token("special", special, spaced=True),
        )

    def _take(self, special: str) -> bool:
        seen = self._sees(special)
        self._next += seen
        return seen

    def _at_end(self) -> bool:
        return self._next >= len(self._tokens)

    def _tokenize(self, text: str) -> list[_Token]:
        if _CONTROL.search(text):
            raise self._broken()
        tokens: list[_Token] = []
        position, spaced = 0, False
        while position < len(text):
            if text[position] == "(":
                position, spaced = self._comment(position), True
                continue
            match = _TOKEN.match(text, position)
            if match is None or match[0] == ")":
                raise self._broken()
            position = match.end()
            if match.lastgroup != "space":
                tokens.append(_Token(match.lastgroup or "", match[0], spaced))
            spaced = match.lastgroup == "space"
        return tokens

    def _comment(self, start: int) -> int:
        """Remember a comment; the position behind it."""
        depth, position = 0, start
        while position < len(self._text):
            character = self._text[position]
            position += 2 if character == "\\" else 1
            depth += (character == "(") - (character == ")")
            if depth == 0:
                self._comments.append(_ESCAPED.sub(r"\1", self._text[start + 1 : position - 1]))
                return position
            if depth > _MAX_COMMENT_DEPTH:
                break
        raise self._broken()

    def _broken(self) -> MalformedError:
        return MalformedError(f"this is no list of mail addresses: {self._text[:200]!r}")


def _unquoted(quoted: str) -> str:
    return _ESCAPED.sub(r"\1", quoted[1:-1])


def _joined(words: list[_Token]) -> str:
    """The words of a phrase as text, with the spaces that stood between them."""
    return "".join(
        (" " if word.spaced and index else "")
        + (_unquoted(word.text) if word.kind == "quoted" else word.text)
        for index, word in enumerate(words)
    )
