"""What is inside of encrypted data: a literal, signed or not, compressed or not (RFC 9580 section 10.3)."""

from __future__ import annotations

import bz2
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import MalformedError, UnsupportedError
from tokensign.files import CHUNK_SIZE, spool
from tokensign.openpgp.numbers import Compression, Tag
from tokensign.openpgp.packets import read_packets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.openpgp.packets import Packet

__all__ = ["Literal", "write_literal"]

_PACKETS_MAXIMUM: Final = 64  # signatures of a message, and what belongs to them
_DEPTH_MAXIMUM: Final = 4  # compressed data in compressed data; one is usual, and two have no use
_SIZE_MAXIMUM: Final = 1 << 34  # 16 GiB decompressed: a disk image still passes, a disk is not filled
_RATIO_MAXIMUM: Final = 200  # octets for each compressed one; text and documents stay below 20
_FREE: Final = 1 << 26  # 64 MiB may come at any ratio, because they do no harm
_ONE_PASS_VERSION: Final = 3
_IGNORED: Final = (Tag.MARKER, Tag.PADDING, Tag.SIGNATURE)


@dataclass(frozen=True, slots=True)
class Literal:
    """What is known of the content of a message. Nothing of it is authenticated beyond the encryption.

    Attributes:
        signed: Whether the message has a signature, which is not verified here.
        signers: The key IDs that signatures name, in hexadecimal.
    """

    signed: bool = False
    signers: tuple[str, ...] = ()


def write_literal(
    stream: BinaryIO, output: BinaryIO, *, depth: int = 0, maximum: int | None = None
) -> Literal:
    """Find the literal data of a message and write their content.

    Args:
        stream: The message in binary form, which can seek, from its current position to its end.
        output: Receives the content, after the structure around it has been found to be sound.
        depth: How many compressions are around it.
        maximum: Octets that it may become; None: as many as its size allows.

    Raises:
        MalformedError: The structure is broken.
        UnsupportedError: It is compressed in a way that is not known, too often, or to too little.
    """
    signed, signers, found = False, [], -1
    kind = 0
    start = stream.tell()
    for number, packet in enumerate(read_packets(stream)):
        if number > _PACKETS_MAXIMUM:
            raise UnsupportedError(f"the OpenPGP message has more than {_PACKETS_MAXIMUM} packets")
        signed = signed or packet.tag in (Tag.SIGNATURE, Tag.ONE_PASS_SIGNATURE)
        if packet.tag == Tag.ONE_PASS_SIGNATURE:
            signers += _one_pass_signer(packet)
        elif packet.tag in (Tag.LITERAL, Tag.COMPRESSED):
            if found >= 0:
                raise MalformedError("the OpenPGP message has several contents")
            found, kind = number, packet.tag
        elif packet.tag not in _IGNORED:
            raise MalformedError(f"the OpenPGP message has a packet of type {packet.tag} in it")
    if found < 0:
        raise MalformedError("the OpenPGP message has no content")
    maximum = maximum or _maximum_of(stream, start)
    stream.seek(start)
    packet = next(packet for number, packet in enumerate(read_packets(stream)) if number == found)
    if kind == Tag.LITERAL:
        packet.exactly(1)  # the format, which is a hint
        packet.exactly(packet.exactly(1)[0] + 4)  # file name and date, which no signature covers
        output.writelines(packet.chunks())
        return Literal(signed, tuple(signers))
    if depth >= _DEPTH_MAXIMUM:
        raise UnsupportedError(f"the OpenPGP message is compressed more than {_DEPTH_MAXIMUM} times")
    with spool() as held:
        held.writelines(_decompressed(packet, maximum))
        held.seek(0)
        inside = write_literal(held, output, depth=depth + 1, maximum=maximum)
    return Literal(signed or inside.signed, (*signers, *inside.signers))


def _maximum_of(stream: BinaryIO, start: int) -> int:
    """What all compressions together may make, or each would multiply what the one around it became."""
    size = stream.seek(0, 2) - start
    return min(_SIZE_MAXIMUM, max(_FREE, size * _RATIO_MAXIMUM))


def _one_pass_signer(packet: Packet) -> list[str]:
    """The key ID of a one-pass signature packet (section 5.4), if it is of the version that has one."""
    body = packet.whole()
    return [body[4:12].hex().upper()] if body[:1] == bytes((_ONE_PASS_VERSION,)) else []


def _decompressed(packet: Packet, maximum: int) -> Iterator[bytes]:
    """The content of a compressed data packet (section 5.6), within limits."""
    (algorithm,) = packet.exactly(1)
    if algorithm == Compression.NONE:
        yield from packet.chunks()
        return
    stream = _decompressor(algorithm)
    consumed = produced = 0
    for piece in packet.chunks():
        consumed += len(piece)
        rest = piece
        while not stream.eof:
            try:
                content = stream.decompress(rest, CHUNK_SIZE)
            except (zlib.error, OSError):
                raise MalformedError("the compressed content is broken") from None
            produced += len(content)
            if produced > maximum or produced > max(_FREE, consumed * _RATIO_MAXIMUM):
                raise UnsupportedError("the compressed content becomes too large")
            yield content
            rest = getattr(stream, "unconsumed_tail", b"")  # of zlib; bz2 keeps it
            if not rest and len(content) < CHUNK_SIZE:
                break
    if not stream.eof:
        raise MalformedError("the compressed content is cut off")


def _decompressor(algorithm: int) -> zlib._Decompress | bz2.BZ2Decompressor:
    match algorithm:
        case Compression.ZIP:
            return zlib.decompressobj(-zlib.MAX_WBITS)  # without header and checksum
        case Compression.ZLIB:
            return zlib.decompressobj()
        case Compression.BZIP2:
            return bz2.BZ2Decompressor()
        case _:
            raise UnsupportedError("the OpenPGP message is compressed in a way that is not known")
