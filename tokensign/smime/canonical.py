"""The canonical form of text that is signed: every line ends with CR LF (RFC 8551 section 3.1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from tokensign.files import chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["canonical_lines", "write_canonical"]


def canonical_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Octets with every bare LF made CR LF; a bare CR stays, because no line ends there."""
    last = b""
    for piece in pieces:
        joined = last + piece
        # A CR at the end may be half of a CR LF, so it waits for the next piece.
        last = b"\r" if joined.endswith(b"\r") else b""
        body = joined[: len(joined) - len(last)]
        yield body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if last:
        yield last


def write_canonical(stream: BinaryIO, output: BinaryIO) -> None:
    """Copy the rest of a stream in canonical form."""
    output.writelines(canonical_lines(chunks(stream)))
