"""Encoded words in header fields: text beyond ASCII (RFC 2047), read as most mail programs read it."""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from email.header import Header
from typing import Final

__all__ = ["decode_words", "encode_words", "has_encoded_word"]

_ENCODED_WORD: Final = re.compile(r"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bq])\?([^?\s]*)\?=", re.IGNORECASE)
_BETWEEN: Final = re.compile(r"(\?=)[ \t]+(?==\?[^?\s]+\?[bq]\?[^?\s]*\?=)", re.IGNORECASE)
_NO_CHARSETS: Final = frozenset(
    {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "utf-7"}
)
"""Codecs of Python that are no charsets of mail, or that hide what stands there."""


def decode_words(text: str) -> str:
    """Text with its encoded words decoded, and without the white space between two of them.

    Those that are broken, or in a charset that is not known, stay as they are.
    """
    return _ENCODED_WORD.sub(_decoded, _BETWEEN.sub(r"\1", text))


def has_encoded_word(text: str) -> bool:
    """Whether a part of a text would be decoded."""
    return _ENCODED_WORD.search(text) is not None


def encode_words(text: str, *, column: int, width: int) -> str:
    """Text as encoded words in UTF-8, folded.

    Args:
        text: What to encode.
        column: Where on its line it begins.
        width: Characters a line.
    """
    header = Header(text, "utf-8", maxlinelen=width)
    return header.encode(maxlinelen=width - column, linesep="\r\n")


def _decoded(word: re.Match[str]) -> str:
    charset, encoding, text = word.groups()
    try:
        codec = codecs.lookup(charset)
        if codec.name.replace("_", "-") in _NO_CHARSETS:
            return word[0]
        octets = text.encode("ascii")
        if encoding in "bB":
            octets = base64.b64decode(octets + b"=" * (-len(octets) % 4), validate=True)
        else:
            octets = binascii.a2b_qp(octets, header=True)
        return octets.decode(codec.name)
    except (LookupError, ValueError):
        return word[0]
