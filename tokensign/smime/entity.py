"""MIME entities over raw bytes (RFC 2045, RFC 1847): what was signed is found, never parsed and rebuilt.

Python's email package reads the header fields, where no byte is at stake.
"""

from __future__ import annotations

import contextlib
import email.parser
import email.policy
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import MalformedError
from tokensign.files import spool
from tokensign.smime.canonical import canonical_lines
from tokensign.smime.mime import octets, part_spans

if TYPE_CHECKING:
    from email.message import Message

__all__ = ["read_header", "split_multipart_signed"]

_MAX_HEADER_SIZE: Final = 1 << 20  # octets; mail servers refuse far smaller ones
_LINE_SIZE: Final = 1 << 16  # octets read as one line; longer lines come in pieces


def read_header(stream: BinaryIO) -> Message:
    """Read the header fields of an entity; the stream then stands at its body.

    Raises:
        MalformedError: The header has no end within its limit.
    """
    lines: list[bytes] = []
    size = 0
    while (line := stream.readline(_LINE_SIZE)).strip(b"\r\n"):
        lines.append(line)
        size += len(line)
        if size > _MAX_HEADER_SIZE:
            raise MalformedError(f"the mail header is larger than {_MAX_HEADER_SIZE} bytes")
    return email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(b"".join(lines))


def split_multipart_signed(stream: BinaryIO, boundary: str) -> tuple[BinaryIO, BinaryIO]:
    """The two parts of a multipart/signed body (RFC 1847 section 2.1).

    Args:
        stream: The body, from its preamble on.
        boundary: The boundary parameter.

    Returns:
        The signed entity in canonical form, and the entity that holds the signature, in private temporary
        streams, which the caller closes.

    Raises:
        MalformedError: There are not exactly two parts.
    """
    spools: list[BinaryIO] = []
    with contextlib.ExitStack() as on_failure:
        for part in part_spans(stream, boundary.encode("ascii", "replace")):
            if len(spools) == 2:  # noqa: PLR2004 - content and signature
                raise MalformedError("the multipart/signed mail has more than two parts")
            spools.append(on_failure.enter_context(spool()))
            spools[-1].writelines(canonical_lines(octets(stream, part.start, part.end)))
            spools[-1].seek(0)
        if len(spools) != 2:  # noqa: PLR2004 - content and signature
            raise MalformedError("the multipart/signed mail is cut off: a part is missing")
        on_failure.pop_all()
    return spools[0], spools[1]
