"""The framing of packets (RFC 9580 section 4), read as streams and written."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign.errors import MalformedError
from tokensign.files import CHUNK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Packet", "encode_length", "encode_mpi", "encode_packet", "read_packets"]

_ONE_OCTET: Final = 192  # below it, a length is one octet (section 4.2.1)
_TWO_OCTETS: Final = 224  # below it, two; from here a partial length
_FIVE_OCTETS: Final = 255
_TWO_OCTET_LENGTHS: Final = 8384  # the first length that needs five octets
_INDETERMINATE: Final = 3  # length type of old packets: up to the end of the stream
_SMALL_MAXIMUM: Final = 1 << 16  # octets of a packet that is held in memory: keys and signatures have few
_MARK: Final = 0x80
_NEW: Final = 0x40


class Packet:
    """A packet whose body is read from the stream as it is asked for.

    Attributes:
        tag: Its type, a number of `tokensign.openpgp.numbers.Tag` or another one.
    """

    def __init__(self, tag: int, stream: BinaryIO, length: int | None, *, partial: bool = False) -> None:
        self.tag = tag
        self._stream = stream
        self._left = length  # octets of this part of the body; None: up to the end of the stream
        self._partial = partial

    def read(self, size: int) -> bytes:
        """The next octets of the body: `size` of them, or fewer where it ends.

        Raises:
            MalformedError: The stream ends before the body does.
        """
        pieces = []
        while size:
            if self._left == 0:
                if not self._partial:
                    break
                self._left, self._partial = _read_new_length(self._stream)
                continue
            piece = self._stream.read(size if self._left is None else min(size, self._left))
            if not piece:
                if self._left is None:
                    break
                raise MalformedError("an OpenPGP packet is cut off")
            if self._left is not None:
                self._left -= len(piece)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def exactly(self, size: int) -> bytes:
        """The next `size` octets.

        Raises:
            MalformedError: There are not as many.
        """
        found = self.read(size)
        if len(found) != size:
            raise MalformedError("an OpenPGP packet is too short")
        return found

    def chunks(self) -> Iterator[bytes]:
        """The rest of the body, in pieces."""
        while piece := self.read(CHUNK_SIZE):
            yield piece

    def whole(self, limit: int = _SMALL_MAXIMUM) -> bytes:
        """The rest of the body of a small packet.

        Raises:
            MalformedError: It has more than `limit` octets.
        """
        body = self.read(limit + 1)
        if len(body) > limit:
            raise MalformedError(f"an OpenPGP packet of type {self.tag} is larger than {limit} bytes")
        return body

    def skip(self) -> None:
        """Pass over the rest of the body."""
        for _ in self.chunks():
            pass


def read_packets(stream: BinaryIO) -> Iterator[Packet]:
    """The packets of a stream, each to be read before the next one is asked for; what is left is passed over.

    Args:
        stream: Packets in binary form, from its current position to its end.

    Raises:
        MalformedError: There is something that is no packet.
    """
    while first := stream.read(1):
        head = first[0]
        if not head & _MARK:
            raise MalformedError("this is not an OpenPGP message, or a packet of it is broken")
        if head & _NEW:
            length, partial = _read_new_length(stream)
            packet = Packet(head & 0x3F, stream, length, partial=partial)
        else:
            kind = head & 0x03
            size = None if kind == _INDETERMINATE else int.from_bytes(_octets(stream, 1 << kind))
            packet = Packet(head >> 2 & 0x0F, stream, size)
        yield packet
        packet.skip()


def _read_new_length(stream: BinaryIO) -> tuple[int, bool]:
    """The length of a part of a body, and whether another part follows."""
    (first,) = _octets(stream, 1)
    if first < _ONE_OCTET:
        return first, False
    if first < _TWO_OCTETS:
        return (first - _ONE_OCTET << 8) + _octets(stream, 1)[0] + _ONE_OCTET, False
    if first == _FIVE_OCTETS:
        return int.from_bytes(_octets(stream, 4)), False
    return 1 << (first & 0x1F), True


def _octets(stream: BinaryIO, count: int) -> bytes:
    found = stream.read(count)
    if len(found) != count:
        raise MalformedError("the OpenPGP message is cut off")
    return found


def encode_packet(tag: int, body: bytes) -> bytes:
    """A packet with a header of the current format and a definite length."""
    return bytes((_MARK | _NEW | tag,)) + encode_length(len(body)) + body


def encode_length(length: int) -> bytes:
    """The length of a packet or a subpacket (sections 4.2.1 and 5.2.3.7), in its shortest form."""
    if length < _ONE_OCTET:
        return bytes((length,))
    if length < _TWO_OCTET_LENGTHS:
        return (length - _ONE_OCTET + (_ONE_OCTET << 8)).to_bytes(2)
    return bytes((_FIVE_OCTETS,)) + length.to_bytes(4)


def encode_mpi(number: int) -> bytes:
    """A multiprecision integer (section 3.2): its length in bits, and its octets."""
    bits = number.bit_length()
    return bits.to_bytes(2) + number.to_bytes((bits + 7) // 8)
