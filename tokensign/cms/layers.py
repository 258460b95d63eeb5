"""Messages inside messages: signed inside encrypted, compressed inside signed, and so on.

What a content is, its content type says. A content that is a message again is the bare structure, as RFC
5652 section 5.2 has it, or a whole ContentInfo, as some senders have it; both are read. Content of the type
id-data may be a message as well, in MIME: that is the business of `tokensign.smime`.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from tokensign import der
from tokensign.cms.authenticated import (
    AUTHENTICATED_DATA,
    read_authenticated_data,
    verify_authenticated_data,
)
from tokensign.cms.ber import OCTET_STRING, SEQUENCE, BerReader
from tokensign.cms.compressed import COMPRESSED_DATA, DecompressionLimit, read_compressed_data
from tokensign.cms.content_cipher import CANNOT_DECRYPT
from tokensign.cms.content_info import (
    AUTH_ENVELOPED_DATA,
    CONTENT_TYPE_NAMES,
    DATA,
    ENVELOPED_DATA,
    SIGNED_DATA,
    Content,
    content_info_header,
    open_content_info,
)
from tokensign.cms.decrypt import decrypt
from tokensign.cms.digested import DIGESTED_DATA, read_digested_data, verify_digested_data
from tokensign.cms.encapsulated import remaining_size
from tokensign.cms.encrypted import ENCRYPTED_DATA, read_encrypted_data
from tokensign.cms.envelope import read_envelope
from tokensign.cms.signed_data import read_signed_data
from tokensign.errors import DecryptionError, LegacyAlgorithmError, MalformedError, UnsupportedError
from tokensign.files import chunks, spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tokensign.algorithms import ContentCipher
    from tokensign.cms.authenticated import AuthenticatedData
    from tokensign.cms.digested import DigestedData
    from tokensign.cms.signed_data import SignedData
    from tokensign.keys import DecryptionKey

__all__ = [
    "MAX_LAYERS",
    "Layer",
    "OpenedContent",
    "OpenedLayer",
    "message_inside",
    "open_layers",
    "walk_layers",
]

MAX_LAYERS: Final = 8  # triple wrapping has three, a gateway and compression add to that

_MESSAGES: Final = frozenset(
    {
        SIGNED_DATA,
        ENVELOPED_DATA,
        AUTH_ENVELOPED_DATA,
        DIGESTED_DATA,
        ENCRYPTED_DATA,
        AUTHENTICATED_DATA,
        COMPRESSED_DATA,
    }
)
_OBJECT_IDENTIFIER: Final = 0x06
_DEFAULT_LIMIT: Final = DecompressionLimit()


@dataclass(frozen=True, slots=True)
class Layer:
    """One message of several that are inside each other.

    Attributes:
        depth: How many are around it.
        kind: Its content type, dotted.
        message: The message; to be read before the next layer is asked for.
        content_type: That of its content, dotted.
    """

    depth: int
    kind: str
    message: BinaryIO
    content_type: str


@dataclass(frozen=True, slots=True)
class OpenedLayer:
    """What was taken off.

    Attributes:
        kind: The content type of the message, dotted.
        content_type: That of its content, dotted.
        cipher: How the content was encrypted, or None where it was not.
        authenticated: Whether a tag or code shows that the content is unchanged. Of signed-data, no signature
            was verified.
    """

    kind: str
    content_type: str
    cipher: ContentCipher | None = None
    authenticated: bool = False


@dataclass(frozen=True, slots=True)
class OpenedContent:
    """What was inside.

    Attributes:
        content_type: What was written, dotted; a message is written as ContentInfo.
        layers: What was taken off, from the outside.
    """

    content_type: str
    layers: tuple[OpenedLayer, ...]


def walk_layers(
    message: BinaryIO, *, limit: DecompressionLimit = _DEFAULT_LIMIT, max_layers: int = MAX_LAYERS
) -> Iterator[Layer]:
    """The messages inside each other as far as they can be seen without a key, from the outside.

    Nothing is verified.

    Args:
        message: In DER or BER from its current position; it must be able to seek.
        limit: How much compressed content may become.
        max_layers: How many are looked at.

    Raises:
        MalformedError: A message is broken.
        UnsupportedError: There are more, or one uses something that is not done here.
    """
    limit = limit.of_message(remaining_size(message))
    with contextlib.ExitStack() as held:
        for depth in range(max_layers):
            inside = _look_into(message, limit)
            yield Layer(depth, inside.kind, message, inside.content_type)
            if inside.content_type not in _MESSAGES or inside.pieces is None:
                return
            content = held.enter_context(spool())
            content.writelines(inside.pieces)
            message = held.enter_context(message_inside(inside.content_type, content))
    raise _too_deep(max_layers)


def open_layers(
    message: BinaryIO,
    keys: Sequence[DecryptionKey],
    output: BinaryIO,
    *,
    legacy: bool = False,
    limit: DecompressionLimit = _DEFAULT_LIMIT,
    max_layers: int = MAX_LAYERS,
) -> OpenedContent:
    """Decrypt, decompress and check a message, and the message in it, and so on.

    A signed message is passed through where its content is a message again; the innermost one is written as
    it stands, to be verified (`tokensign.verification`). So is EncryptedData, whose key is not a recipient's.

    Args:
        message: In DER or BER from its current position; it must be able to seek.
        keys: The keys and passwords that may open it.
        output: Receives what is inside, once everything around it was opened and checked.
        legacy: Whether old algorithms are accepted.
        limit: How much compressed content may become.
        max_layers: How many are opened.

    Raises:
        NoRecipientError: An encrypted message is for other keys.
        DecryptionError: One cannot be decrypted or was changed; every cause looks the same.
        MalformedError: A message is broken.
        UnsupportedError: There are more layers, nothing to open, or something that is not done here.
        TokenError: The token failed.
    """
    opened: list[OpenedLayer] = []
    limit = limit.of_message(remaining_size(message))
    content_type, content = "", message
    with contextlib.ExitStack() as held:
        while not opened or content_type in _MESSAGES:
            with _hidden_behind(opened):
                if opened:
                    content = held.enter_context(message_inside(content_type, content))
                inside = _look_into(content, limit)
                if not inside.opens:
                    break
                if len(opened) == max_layers:
                    raise _too_deep(max_layers)
                inner = held.enter_context(spool())
                opened.append(_open(inside, content, keys, inner, legacy=legacy))
            content_type, content = inside.content_type, inner
            content.seek(0)
        if not opened:
            name = CONTENT_TYPE_NAMES.get(inside.kind, inside.kind)
            raise UnsupportedError(
                f"this message is {name}: there is nothing to open",
                hint="use `tokensign verify` for signed-data, `tokensign inspect` for others",
            )
        output.writelines(chunks(content))
    return OpenedContent(content_type, tuple(opened))


def message_inside(content_type: str, content: BinaryIO) -> BinaryIO:
    """The message that a content is: itself where it is a ContentInfo, else behind the head of one.

    Args:
        content_type: What the message around it says that it is, dotted.
        content: It, in a stream that can seek.

    Raises:
        MalformedError: It is no message, or one of another type.
    """
    content.seek(0)
    reader = BerReader(content)
    reader.enter(reader.expect(SEQUENCE, "the message inside"))
    first = reader.peek()
    if first is not None and first.tag == _OBJECT_IDENTIFIER:
        if der.dotted(reader.read(first)) != content_type:
            raise MalformedError("the message inside is of another type than the one around it says")
        content.seek(0)
        return content
    size = content.seek(0, io.SEEK_END)
    content.seek(0)
    message = spool()
    message.write(content_info_header(content_type, size))
    message.writelines(chunks(content))
    message.seek(0)
    return message


@dataclass(frozen=True, slots=True)
class _Inside:
    """What can be told of a message without a key.

    Attributes:
        kind: Its content type.
        content_type: That of its content.
        pieces: The content, or None where it needs a key or is not in the message.
    """

    kind: str
    content_type: str
    pieces: Iterator[bytes] | None

    @property
    def opens(self) -> bool:
        """Whether the message is opened, and not handed out as it is."""
        if self.kind == SIGNED_DATA:
            return self.content_type in _MESSAGES and self.pieces is not None
        return self.kind != ENCRYPTED_DATA


def _look_into(message: BinaryIO, limit: DecompressionLimit) -> _Inside:
    start = message.tell()
    kind, reader = open_content_info(message)
    message.seek(start)
    if kind == DATA:
        inside = _Inside(DATA, DATA, _read_data(reader).chunks())
    elif kind == COMPRESSED_DATA:
        compressed = read_compressed_data(message)
        inside = _Inside(kind, compressed.content_type, compressed.chunks(limit))
    elif kind == ENCRYPTED_DATA:
        inside = _Inside(kind, read_encrypted_data(message).content_type, None)
    elif kind in _READERS:
        visible = _READERS[kind](message)
        pieces = visible.content.chunks() if visible.content else None
        inside = _Inside(kind, visible.content_type, pieces)
    else:
        inside = _Inside(kind, read_envelope(message).content_type, None)
    message.seek(start)
    return inside


_READERS: Final[dict[str, Callable[[BinaryIO], SignedData | DigestedData | AuthenticatedData]]] = {
    SIGNED_DATA: read_signed_data,
    DIGESTED_DATA: read_digested_data,
    AUTHENTICATED_DATA: read_authenticated_data,
}


def _read_data(reader: BerReader) -> Content:
    """The content of a message that is nothing but id-data (RFC 5652 section 4)."""
    element = reader.expect(OCTET_STRING, "content")
    reader.skip(element)
    for _ in range(2):  # the explicit tag, ContentInfo
        reader.leave()
    return Content(reader.stream, element)


def _open(
    inside: _Inside, message: BinaryIO, keys: Sequence[DecryptionKey], inner: BinaryIO, *, legacy: bool
) -> OpenedLayer:
    """Write the content of a message to `inner`."""
    kind = inside.kind
    if kind in (ENVELOPED_DATA, AUTH_ENVELOPED_DATA):
        result = decrypt(message, keys, inner, legacy=legacy)
        return OpenedLayer(kind, result.content_type, result.cipher, result.authenticated)
    if kind == AUTHENTICATED_DATA:
        verify_authenticated_data(message, keys, inner, legacy=legacy)
        return OpenedLayer(kind, inside.content_type, authenticated=True)
    if kind == DIGESTED_DATA:
        verify_digested_data(message, inner, legacy=legacy)
    else:
        inner.writelines(inside.pieces or ())
    return OpenedLayer(kind, inside.content_type)


@contextlib.contextmanager
def _hidden_behind(opened: Sequence[OpenedLayer]) -> Iterator[None]:
    """Tell nothing of what is wrong inside of content that anybody may have changed (RFC 8551 section 6).

    What the changes made of a decrypted message would be told by the error otherwise, and from many such
    answers the content can be learned.
    """
    try:
        yield
    except LegacyAlgorithmError:
        raise
    except (MalformedError, UnsupportedError):
        if any(layer.cipher and not layer.authenticated for layer in opened):
            raise DecryptionError(
                CANNOT_DECRYPT,
                hint="it was damaged on its way, or it was not encrypted to this key",
            ) from None
        raise


def _too_deep(max_layers: int) -> UnsupportedError:
    return UnsupportedError(
        f"there are more than {max_layers} messages inside each other", hint="raise the limit if you trust it"
    )
