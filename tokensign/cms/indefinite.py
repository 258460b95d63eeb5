"""Writing with indefinite lengths (X.690 section 8.1.3.6), for content whose size is not known beforehand.

Content that cannot seek, such as a pipe, then goes through once and is held nowhere. The result is BER, which
every reader of CMS takes (RFC 5652 section 5.2); a signature over it is the same as over DER.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tokensign import der

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["END", "begin", "segments"]

END: Final = b"\0\0"
"""The end-of-contents octets that close what `begin` opened."""


def begin(tag: int) -> bytes:
    """The header of a constructed element with the identifier octet `tag` and the indefinite length."""
    return bytes((tag, 0x80))


def segments(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of content as the segments of a constructed OCTET STRING; empty ones are left out."""
    return (der.octet_string(piece) for piece in pieces if piece)
