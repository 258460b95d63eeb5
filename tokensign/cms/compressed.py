"""CompressedData: content compressed with ZLIB (RFC 3274, RFC 8551 section 3.5)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign import der
from tokensign.algorithms import ZLIB_COMPRESS_OID
from tokensign.cms.ber import SEQUENCE
from tokensign.cms.content_info import (
    DATA,
    Content,
    content_info_header,
    enter_content,
    read_integer,
)
from tokensign.cms.encapsulated import encapsulated_header, read_attached
from tokensign.cms.signed_data import algorithm_of
from tokensign.errors import MalformedError, UnsupportedError
from tokensign.files import CHUNK_SIZE, chunks, spool

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "COMPRESSED_DATA",
    "CompressedData",
    "DecompressionLimit",
    "compress",
    "decompress",
    "read_compressed_data",
]

COMPRESSED_DATA: Final = "1.2.840.113549.1.9.16.1.9"
_VERSION: Final = 0  # RFC 3274 section 1.1: always
_BEST_COMPRESSION: Final = 9  # what is made once is sent and kept often


@dataclass(frozen=True, slots=True)
class DecompressionLimit:
    """How much a compressed message may become, against bombs.

    Attributes:
        size: Octets in all.
        ratio: Octets of content for each compressed one; counts once `free` octets have come. ZLIB reaches
            1032 with zeros, text and documents stay below 20.
        free: Octets that may come at any ratio, because they do no harm.
    """

    size: int = 1 << 34  # 16 GiB: a disk image still passes, a disk is not filled
    ratio: int = 200
    free: int = 1 << 26  # 64 MiB

    def of_message(self, size: int) -> DecompressionLimit:
        """The limit of each layer in a message, so that layers inside each other do not multiply it.

        Args:
            size: Octets of the whole message.
        """
        return replace(self, size=min(self.size, max(self.free, size * self.ratio)))


@dataclass(frozen=True, slots=True)
class CompressedData:
    """A compressed message whose content is still where it was.

    Attributes:
        content_type: That of the content inside, dotted.
        compressed: Where the compressed content lies.
    """

    content_type: str
    compressed: Content

    def chunks(self, limit: DecompressionLimit = DecompressionLimit()) -> Iterator[bytes]:
        """The content, decompressed, in pieces.

        Args:
            limit: How much it may become.

        Raises:
            MalformedError: It is not what ZLIB makes, or is cut off.
            UnsupportedError: It becomes more than the limit allows.
        """
        stream = zlib.decompressobj()
        consumed = produced = 0
        for piece in self.compressed.chunks():
            consumed += len(piece)
            rest = piece
            while True:
                try:
                    content = stream.decompress(rest, CHUNK_SIZE)
                except zlib.error:
                    raise MalformedError("the compressed content is broken") from None
                produced += len(content)
                _require(limit, consumed, produced)
                if content:
                    yield content
                rest = stream.unconsumed_tail
                if stream.eof or not (rest or len(content) == CHUNK_SIZE):
                    break
            if stream.unused_data:
                raise MalformedError("there is something behind the compressed content")
        if not stream.eof:
            raise MalformedError("the compressed content is cut off")


def compress(content: BinaryIO, output: BinaryIO, *, content_type: str = DATA) -> None:
    """Compress content.

    Args:
        content: From its current position to its end.
        output: Receives CompressedData, DER. Meanwhile it is in memory, or in a private temporary file.
        content_type: What the content is, dotted; id-data unless told.

    Raises:
        FileError: There is no room for the temporary file.
    """
    with spool() as held:
        stream = zlib.compressobj(_BEST_COMPRESSION)
        size = 0
        for piece in chunks(content):
            size += held.write(stream.compress(piece))
        size += held.write(stream.flush())
        held.seek(0)
        fields = der.integer(_VERSION) + der.sequence(der.object_identifier(ZLIB_COMPRESS_OID))
        fields += encapsulated_header(content_type, size)
        opening = der.header(SEQUENCE, len(fields) + size)
        output.write(content_info_header(COMPRESSED_DATA, len(opening) + len(fields) + size))
        output.write(opening + fields)
        output.writelines(chunks(held))


def read_compressed_data(stream: BinaryIO) -> CompressedData:
    """Read a CompressedData message for its structure; the content is passed over.

    Args:
        stream: The message in DER or BER from its current position; it must be able to seek.

    Raises:
        MalformedError: The structure is broken.
        UnsupportedError: It is another kind of message, or compressed with something else than ZLIB.
    """
    _, reader = enter_content(stream, "CompressedData", COMPRESSED_DATA)
    read_integer(reader, "version")
    algorithm = algorithm_of(reader.read(reader.expect(SEQUENCE, "compressionAlgorithm")))
    if algorithm != ZLIB_COMPRESS_OID:
        raise UnsupportedError(f"compression algorithm {algorithm} is not supported")
    content_type, content = read_attached(reader)
    for _ in range(3):  # CompressedData, the explicit tag, ContentInfo
        reader.leave()
    return CompressedData(content_type, content)


def decompress(
    message: BinaryIO,
    output: BinaryIO,
    *,
    limit: DecompressionLimit = DecompressionLimit(),
) -> str:
    """Decompress a message.

    Args:
        message: CompressedData in DER or BER; it must be able to seek.
        output: Receives the content as it comes. On an error it has a part of it, which nobody should use:
            `tokensign.files.open_output` gives one that appears whole or not at all.
        limit: How much the content may become.

    Returns:
        What the content is, dotted.

    Raises:
        MalformedError: The message is broken.
        UnsupportedError: It uses something that is not done here, or becomes more than the limit allows.
    """
    data = read_compressed_data(message)
    output.writelines(data.chunks(limit))
    return data.content_type


def _require(limit: DecompressionLimit, consumed: int, produced: int) -> None:
    if produced > limit.size:
        raise UnsupportedError(
            f"the content has more than the {limit.size} bytes that are allowed",
            hint="raise the limit if you trust the sender",
        )
    if produced > limit.free and produced > consumed * limit.ratio:
        raise UnsupportedError(
            f"the content is compressed more than {limit.ratio} times, which looks like an attack",
            hint="raise the limit if you trust the sender",
        )
