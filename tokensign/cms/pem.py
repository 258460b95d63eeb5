"""PEM armor of CMS messages (RFC 7468 section 9), streamed."""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import MalformedError
from tokensign.files import spool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["armor", "decode_base64", "encode_base64", "is_armored", "unarmor"]

_LABELS: Final = (
    b"CMS",
    b"PKCS7",
    b"PKCS #7 SIGNED DATA",
)  # RFC 7468 sections 8 and 9, and what OpenSSL reads
_LINE: Final = 48  # octets a line
_CHARACTERS: Final = 64  # a line
_MAX_LINE: Final = 1 << 16  # characters; some programs write base64 without line ends
_MAX_PREAMBLE: Final = 1 << 20  # octets of explanatory text before the armor


def is_armored(stream: BinaryIO) -> bool:
    """Whether PEM armor begins at, or in the first lines after, the stream's position, which stays."""
    start = stream.tell()
    head = stream.read(4096)
    stream.seek(start)
    return b"-----BEGIN " in head and not head.startswith(b"\x30")


def unarmor(stream: BinaryIO) -> BinaryIO:
    """The first PEM object of a stream, decoded into a private temporary stream, which the caller closes.

    Raises:
        MalformedError: There is no PEM object, it is not CMS, or it is cut off or broken.
    """
    read = 0
    while not (line := stream.readline(_MAX_LINE)).startswith(b"-----BEGIN "):
        read += len(line)
        if not line or read > _MAX_PREAMBLE:
            raise MalformedError("there is no PEM object in the message")
    label = line.strip().removeprefix(b"-----BEGIN ").removesuffix(b"-----")
    if label not in _LABELS:
        raise MalformedError(f"the PEM object is {label.decode('ascii', 'replace')!r}, not CMS")
    return decode_base64(_body(stream, b"-----END " + label + b"-----"))


def _body(stream: BinaryIO, end: bytes) -> Iterator[bytes]:
    while line := stream.readline(_MAX_LINE):
        if line.strip() == end:
            return
        yield line
    raise MalformedError("the PEM object is cut off: its END line is missing")


def decode_base64(lines: Iterable[bytes]) -> BinaryIO:
    """Base64 text, cut anywhere, decoded into a private temporary stream, which the caller closes.

    Raises:
        MalformedError: It is not base64.
    """
    with contextlib.ExitStack() as on_failure:
        decoded = on_failure.enter_context(spool())
        complete = False
        for text in _quanta(lines):
            if complete:
                raise MalformedError("the base64 text goes on after its end")
            complete = text.endswith(b"=")
            try:
                decoded.write(base64.b64decode(text, validate=True))
            except binascii.Error as error:
                raise MalformedError("the base64 text is broken") from error
        decoded.seek(0)
        on_failure.pop_all()
    return decoded


def _quanta(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Base64 text without white space, in pieces of whole groups of four characters but for the last."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= _MAX_LINE:
            text = b"".join(b"".join(held).split())
            usable = len(text) // 4 * 4
            if usable:
                yield text[:usable]
            held, size = [text[usable:]], len(text) - usable
    if text := b"".join(b"".join(held).split()):
        yield text


def armor(message: BinaryIO, output: BinaryIO, label: str = "CMS") -> None:
    """Write a DER message as PEM."""
    output.write(f"-----BEGIN {label}-----\n".encode("ascii"))
    encode_base64(message, output)
    output.write(f"-----END {label}-----\n".encode("ascii"))


def encode_base64(message: BinaryIO, output: BinaryIO, line_end: bytes = b"\n") -> None:
    """Write octets as lines of 64 base64 characters."""
    while block := message.read(_LINE * 1024):
        text = base64.b64encode(block)
        lines = [text[start : start + _CHARACTERS] for start in range(0, len(text), _CHARACTERS)]
        output.write(line_end.join((*lines, b"")))
