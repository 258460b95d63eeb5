"""ASCII armor (RFC 9580 section 6), written and taken off as a stream."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import MalformedError
from tokensign.files import chunks, spool

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["armor", "unarmored"]

_LINE: Final = 48  # octets a line, which are 64 characters
_LINE_MAXIMUM: Final = 1 << 10  # octets of a line before the data
_HEADERS_MAXIMUM: Final = 64  # lines before the data: blank ones, and headers such as "Comment: "
_CRC_START: Final = 0xB704CE
_CRC_GENERATOR: Final = 0x1864CFB
_WHITE_SPACE: Final = b" \t\r\n"
_LAST: Final = re.compile(rb"((?:[^=]{2}==|[^=]{3}=)?)(?:=[^=]{4})?")
_LAST_MAXIMUM: Final = 9  # characters from the first padding on
_BEGIN: Final = re.compile(rb"-----BEGIN PGP ([A-Z ]{1,40})-----\s*\Z")
_BINARY: Final = 0x80  # set in the first octet of every packet, and in no ASCII character


def armor(kind: str, data: bytes) -> bytes:
    """Packets in ASCII armor.

    It has a checksum, although section 6.1 would do without: GnuPG 2.2 does not find the end of base64
    that needs no padding, unless a checksum follows.

    Args:
        kind: "SIGNATURE", "PUBLIC KEY BLOCK" or "MESSAGE".
        data: The packets.

    Returns:
        Lines that end with LF.
    """
    lines = [base64.b64encode(data[start : start + _LINE]) for start in range(0, len(data), _LINE)]
    head, tail = f"-----BEGIN PGP {kind}-----".encode(), f"-----END PGP {kind}-----".encode()
    checksum = b"=" + base64.b64encode(_crc24(data).to_bytes(3))
    return b"\n".join((head, b"", *lines, checksum, tail, b""))


def _crc24(data: bytes) -> int:
    """The checksum of section 6.1.1."""
    crc = _CRC_START
    for octet in data:
        crc ^= octet << 16
        for _ in range(8):
            crc = crc << 1 ^ (_CRC_GENERATOR if crc & 0x800000 else 0)
    return crc & 0xFFFFFF


@contextlib.contextmanager
def unarmored(stream: BinaryIO) -> Iterator[BinaryIO]:
    """Packets in binary form: the stream itself, or what its armor holds, in a private temporary stream.

    A checksum is passed over, as section 6.1 wants it: what counts is the protection inside.

    Args:
        stream: From its current position; it must be able to seek.

    Raises:
        MalformedError: It is empty, or neither packets nor armor, or its armor is broken.
    """
    start = stream.tell()
    first = stream.read(1)
    stream.seek(start)
    if not first:
        raise MalformedError("the OpenPGP file is empty")
    if first[0] & _BINARY:
        yield stream
        return
    with spool() as held:
        _pass_headers(stream)
        held.writelines(_decoded(stream))
        held.seek(0)
        yield held


def _pass_headers(stream: BinaryIO) -> None:
    """Go to where the base64 begins."""
    began = False
    for _ in range(_HEADERS_MAXIMUM):
        line = stream.readline(_LINE_MAXIMUM)
        if _BEGIN.fullmatch(line):
            began = True
        elif began and line and not line.strip():
            return
        elif not began and line.strip():
            raise MalformedError(
                "this is not an OpenPGP file", hint="it begins with -----BEGIN PGP, or is binary"
            )
    raise MalformedError("the ASCII armor has no data")


def _decoded(stream: BinaryIO) -> Iterator[bytes]:
    """What stands as base64 before the line of dashes."""
    text = b""
    try:
        for piece in chunks(stream):
            more, dash, _ = piece.partition(b"-")
            text += more.translate(None, _WHITE_SPACE)
            padding = text.find(b"=")
            whole = (len(text) if padding < 0 else padding) // 4 * 4
            yield binascii.a2b_base64(text[:whole], strict_mode=True)
            text = text[whole:]
            if dash:
                yield binascii.a2b_base64(_last(text), strict_mode=True)
                return
            if len(text) > _LAST_MAXIMUM:
                break
    except binascii.Error:
        raise MalformedError("the ASCII armor is broken") from None
    raise MalformedError("the ASCII armor is cut off")


def _last(text: bytes) -> bytes:
    """The last characters, with their padding, and without the checksum."""
    found = _LAST.fullmatch(text)
    if found is None:
        raise MalformedError("the ASCII armor is broken")
    return found[1]
