"""DigestedData: content with its digest, against accidents and not against attackers (RFC 5652 section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from cryptography.hazmat.primitives import constant_time

from tokensign import der
from tokensign.algorithms import DIGESTS, Digest, Strength, digest_by_oid, require_strength
from tokensign.cms.ber import OCTET_STRING, SEQUENCE
from tokensign.cms.content_info import (
    DATA,
    Content,
    content_info_header,
    enter_content,
    read_integer,
)
from tokensign.cms.encapsulated import encapsulated_header, read_encapsulated, remaining_size
from tokensign.cms.signed_data import algorithm_of
from tokensign.errors import FileError, MalformedError, UnsupportedError, UsageError
from tokensign.files import chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "DIGESTED_DATA",
    "DigestedData",
    "make_digested_data",
    "read_digested_data",
    "verify_digested_data",
]

DIGESTED_DATA: Final = "1.2.840.113549.1.7.5"


@dataclass(frozen=True, slots=True)
class DigestedData:
    """A digested message whose content is still where it was.

    Attributes:
        digest_algorithm: Hashed the content.
        content_type: That of the content, dotted.
        content: Where the content lies, or None where it is not in the message.
        digest: The digest that it should have.
    """

    digest_algorithm: Digest
    content_type: str
    content: Content | None
    digest: bytes


def make_digested_data(
    content: BinaryIO,
    output: BinaryIO,
    *,
    digest: Digest = DIGESTS["sha256"],
    content_type: str = DATA,
    detached: bool = False,
) -> None:
    """Put a digest to content.

    Args:
        content: From its current position to its end; it must be able to seek.
        output: Receives DigestedData, DER.
        digest: Hashes the content.
        content_type: What the content is, dotted; id-data unless told.
        detached: Leave the content out of the message.

    Raises:
        UnsupportedError: The digest is too weak to be written.
        FileError: The content changed meanwhile.
    """
    if digest.strength is not Strength.STRONG:
        raise UnsupportedError(f"{digest.name} is too weak to be written", hint="use sha256")
    size = remaining_size(content)
    version = 0 if content_type == DATA else 2  # RFC 5652 section 7
    fields = der.integer(version) + digest.algorithm_identifier
    carried = 0 if detached else size
    fields += (
        der.sequence(der.object_identifier(content_type))
        if detached
        else encapsulated_header(content_type, size)
    )
    total = len(fields) + carried + len(der.octet_string(bytes(digest.size)))
    opening = der.header(SEQUENCE, total)
    output.write(content_info_header(DIGESTED_DATA, len(opening) + total) + opening + fields)
    state, hashed = digest.new(), 0
    for piece in chunks(content):
        state.update(piece)
        hashed += len(piece)
        if not detached:
            output.write(piece)
    if hashed != size:
        raise FileError("the content changed while it was being digested")
    output.write(der.octet_string(state.digest()))


def read_digested_data(stream: BinaryIO) -> DigestedData:
    """Read a DigestedData message for its structure; the content is passed over.

    Args:
        stream: The message in DER or BER from its current position; it must be able to seek.

    Raises:
        MalformedError: The structure is broken.
        UnsupportedError: It is another kind of message, or the digest algorithm is not known here.
    """
    _, reader = enter_content(stream, "DigestedData", DIGESTED_DATA)
    read_integer(reader, "version")
    algorithm = digest_by_oid(algorithm_of(reader.read(reader.expect(SEQUENCE, "digestAlgorithm"))))
    content_type, content = read_encapsulated(reader)
    digest = b"".join(reader.octets(reader.expect(OCTET_STRING, "digest")))
    for _ in range(3):  # DigestedData, the explicit tag, ContentInfo
        reader.leave()
    return DigestedData(algorithm, content_type, content, digest)


def verify_digested_data(
    message: BinaryIO,
    output: BinaryIO | None = None,
    *,
    content: BinaryIO | None = None,
    legacy: bool = False,
) -> DigestedData:
    """Check that content has its digest. That proves that no accident happened, and nothing of its sender.

    Args:
        message: DigestedData in DER or BER; it must be able to seek.
        output: Receives the content, once it was checked; None where nobody wants it.
        content: The content of a message that does not have it; it must be able to seek.
        legacy: Whether old digests are accepted.

    Returns:
        What the message says.

    Raises:
        MalformedError: The message is broken, or the content has another digest.
        UnsupportedError: The digest algorithm is not known here, or too weak.
        UsageError: The content is neither in the message nor given, or both.
    """
    data = read_digested_data(message)
    algorithm = data.digest_algorithm
    require_strength(algorithm.name.upper(), algorithm.strength, legacy=legacy)
    pieces = _pieces(data, content)
    state = algorithm.new()
    for piece in pieces():
        state.update(piece)
    if not constant_time.bytes_eq(state.digest(), data.digest):
        raise MalformedError("the content was changed: it has another digest than the message says")
    if output is not None:
        output.writelines(pieces())
    return data


def _pieces(data: DigestedData, given: BinaryIO | None) -> Callable[[], Iterator[bytes]]:
    """What gives the content in pieces, as often as it is called."""
    if data.content is not None and given is None:
        return data.content.chunks
    if data.content is not None or given is None:
        if given is None:
            raise UsageError(
                "the content is neither in the message nor given", hint="give it with --content FILE"
            )
        raise UsageError("the content is in the message and given, too", hint="leave --content away")
    start = given.tell()

    def from_the_start() -> Iterator[bytes]:
        given.seek(start)
        return chunks(given)

    return from_the_start
