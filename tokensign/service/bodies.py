"""The bodies of requests: how large they may be, how long they may take, and what they are to be."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from tokensign.files import spool
from tokensign.service.header import header_field
from tokensign.service.problems import INVALID, MEDIA, TIMEOUT, TOO_LARGE, Problem, invalid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import Request

__all__ = ["JSON_SIZE_MAXIMUM", "read_json", "receive", "require_media_type", "spooled"]

JSON_SIZE_MAXIMUM: Final = 1 << 18  # octets; a hundred messages of a KiB each, in base64, are half of that
JSON_SECONDS: Final = 10.0  # for a body of that size
PIECE_SECONDS: Final = 30.0  # that a client may take for the next piece of a document
_CLOSING: Final = {"Connection": "close"}  # what was not read of the request is not read any more

_Model = TypeVar("_Model", bound=BaseModel)


async def read_json(
    request: Request, model: type[_Model], maximum: int = JSON_SIZE_MAXIMUM
) -> tuple[_Model, bytes]:
    """A small body, and its SHA-256.

    Args:
        request: The request.
        model: What the body is to be.
        maximum: Octets that it may have.

    Raises:
        Problem: It is not that, or too large, or too slow.
    """
    require_media_type(request, "application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(JSON_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > maximum:
                    raise _too_large(maximum)
    except TimeoutError as error:
        raise Problem(TIMEOUT, headers=_CLOSING) from error
    except ClientDisconnect as error:
        raise Problem(INVALID, "the request is cut off") from error
    try:
        return model.model_validate_json(body), hashlib.sha256(body).digest()
    except ValidationError as error:
        raise invalid(error) from None


async def receive(request: Request, maximum: int) -> AsyncIterator[bytes]:
    """The pieces of a document as they come.

    Args:
        request: The request.
        maximum: Octets that the document may have.

    Raises:
        Problem: It is too large, too slow, or cut off.
    """
    declared = header_field(request, b"content-length") or ""
    if declared.isascii() and declared.isdigit() and int(declared) > maximum:
        raise _too_large(maximum)
    size = 0
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PIECE_SECONDS) as patience:
            async for piece in request.stream():
                size += len(piece)
                if size > maximum:
                    raise _too_large(maximum)
                yield piece
                patience.reschedule(loop.time() + PIECE_SECONDS)
    except TimeoutError as error:
        raise Problem(TIMEOUT, headers=_CLOSING) from error
    except ClientDisconnect as error:
        raise Problem(INVALID, "the request is cut off") from error


async def spooled(request: Request, maximum: int) -> tuple[BinaryIO, bytes]:
    """A document in a private temporary stream, which is the caller's to close, and its SHA-256.

    Raises:
        Problem: As for `receive`.
        FileError: There is no room for it.
    """
    held = spool()
    state = hashlib.sha256()
    try:
        async for piece in receive(request, maximum):
            state.update(piece)
            held.write(piece)
        held.seek(0)
    except BaseException:
        held.close()
        raise
    return held, state.digest()


def require_media_type(request: Request, *wanted: str) -> None:
    """Refuse a body of another media type.

    Raises:
        Problem: It is.
    """
    media_type = header_field(request, b"content-type") or ""
    if media_type.partition(";")[0].strip().lower() not in wanted:
        raise Problem(MEDIA, f"the media type must be {' or '.join(wanted)}")


def _too_large(maximum: int) -> Problem:
    return Problem(TOO_LARGE, f"at most {maximum} octets are taken here", headers=_CLOSING)
