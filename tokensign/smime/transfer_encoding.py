"""Transfer encodings that bring a body unchanged through any relay (RFC 2045, RFC 8551 section 3.1.3).

Relays cut long lines, strip white space, put ">" before "From ", and re-encode what has octets beyond
ASCII. Each of these breaks a signature, so content that invites it is encoded before it is signed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Literal

from tokensign.cms.pem import encode_base64

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["IDENTITY_ENCODINGS", "BodyScan", "Encoding", "scan_body", "write_encoded"]

Encoding = Literal["quoted-printable", "base64"]

IDENTITY_ENCODINGS: Final = ("7bit", "8bit", "binary")
"""The encodings under which a body stands as it is."""

_MAX_LINE: Final = 998  # octets without the line end (RFC 5322 section 2.1.1)
_ENCODED_LINE: Final = (
    72  # characters; 76 are allowed, and escapes at its ends still fit (RFC 2045 section 6.7)
)
_READ_SIZE: Final = 1 << 16  # octets of one line that are encoded at once
_PRINTABLE: Final = bytes(range(0x20, 0x7F)) + b"\t\r\n"
_SOFT_BREAK: Final = b"=\r\n"
_ESCAPED: Final = re.compile(rb"[^\t -<>-~]")
_MISREAD_AT_START: Final = (
    b"From ",  # mailboxes are cut there, so relays change it
    b"-",  # may be taken for the delimiter of a multipart
    b".",  # a line of its own ends an SMTP message
)


@dataclass(frozen=True, slots=True)
class BodyScan:
    """What a body is made of.

    Attributes:
        safe: Whether it survives relays as it is.
        size: Its octets.
        special: Those that quoted-printable writes as three characters.
    """

    safe: bool
    size: int
    special: int

    def encoding(self, *, text: bool) -> Encoding:
        """The encoding that suits the body.

        Args:
            text: Whether it is text, which stays legible in quoted-printable where not much of it is escaped.
        """
        legible = text and self.special * 3 <= self.size
        return "quoted-printable" if legible else "base64"


def scan_body(pieces: Iterable[bytes]) -> BodyScan:
    """Find out whether a body survives relays.

    Args:
        pieces: The body, cut anywhere but between a CR and its LF.
    """
    safe, size, special = True, 0, 0
    held = b"\n"  # of what came before: a line that goes on may become too long, or begin with "From "
    for piece in pieces:
        size += len(piece)
        special += len(piece.translate(None, _PRINTABLE))
        if safe:
            window = held + piece
            safe = not special and _lines_survive(window)
            held = window[-_MAX_LINE - 1 :]
    return BodyScan(safe and not held.endswith((b" ", b"\t")), size, special)


def write_encoded(content: BinaryIO, encoding: Encoding, output: BinaryIO) -> None:
    """Encode the rest of a stream.

    Args:
        content: Text with CR LF at line ends, or any octets.
        encoding: How.
        output: Receives lines that end with CR LF; the last one of quoted-printable does as the content does.
    """
    if encoding == "base64":
        encode_base64(content, output, line_end=b"\r\n")
    else:
        _write_quoted_printable(content, output)


def _lines_survive(window: bytes) -> bool:
    """Whether lines of ASCII survive; the window begins behind a CR, at a line's start, or inside a line."""
    lines = window.removeprefix(b"\n")
    return (
        lines.count(b"\r") == lines.count(b"\r\n") == lines.count(b"\n")
        and b" \r\n" not in lines
        and b"\t\r\n" not in lines
        and b"\nFrom " not in window
        and max(map(len, lines.split(b"\r\n"))) <= _MAX_LINE
    )


def _write_quoted_printable(content: BinaryIO, output: BinaryIO) -> None:
    line_end = b""
    while line := content.readline(_READ_SIZE):
        if line.endswith(b"\r"):
            line += content.readline(1)  # the size must not part CR and LF
        output.write(line_end)
        text = line.removesuffix(b"\r\n")
        line_end = _SOFT_BREAK if text == line else b"\r\n"
        output.write(_SOFT_BREAK.join(_quoted_lines(text)))
    if line_end == b"\r\n":
        output.write(line_end)


def _quoted_lines(text: bytes) -> Iterator[bytes]:
    """Text without line ends, cut into lines of quoted-printable."""
    quoted = _ESCAPED.sub(_escape, text)
    if quoted.endswith((b" ", b"\t")):
        quoted = quoted[:-1] + b"=%02X" % quoted[-1]
    start = 0
    while True:
        end = start + _ENCODED_LINE
        escape = quoted.find(b"=", end - 2, end)
        end = end if escape < 0 else escape  # no escape is cut in two
        line = quoted[start:end]
        if line.startswith(_MISREAD_AT_START):
            line = b"=%02X" % line[0] + line[1:]
        yield line
        start = end
        if start >= len(quoted):
            return


def _escape(octet: re.Match[bytes]) -> bytes:
    return b"=%02X" % octet[0][0]
