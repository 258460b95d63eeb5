"""Documents of any size: received into private temporary files, worked on in threads, sent from there.

Each takes room on the disk and a thread, so only so many are in the house at once. Whoever comes then is sent
away at once, and does not wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, Final, ParamSpec, TypeVar

from fastapi.responses import StreamingResponse

from tokensign.files import chunks, spool
from tokensign.service.bodies import receive
from tokensign.service.problems import BUSY, TIMEOUT, Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from fastapi import Request

    from tokensign.algorithms import Digest

__all__ = ["DOCUMENT_SECONDS", "KEPT_MAXIMUM", "Documents", "streamed"]

DOCUMENT_SECONDS: Final = 600.0
"""For all of a document: whoever sends a few octets now and then must not keep others away."""

KEPT_MAXIMUM: Final = (
    1 << 16
)  # octets of an answer that are kept for a repeated request; detached signatures have some KiB
_RETRY_SECONDS: Final = 2.0

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Documents:
    """Room for documents.

    Args:
        maximum: How many at once.
        size: Octets that one may have.
    """

    def __init__(self, maximum: int, size: int) -> None:
        self._free = maximum
        self._size = size
        self._threads = ThreadPoolExecutor(maximum, thread_name_prefix="document")

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """Take room for one document.

        Raises:
            Problem: There is none.
        """
        if not self._free:
            raise Problem(BUSY, "too many documents are being worked on already", retry_after=_RETRY_SECONDS)
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

    @contextlib.asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[tuple[BinaryIO, bytes]]:
        """The body of a request in a private temporary file, and its SHA-256.

        Raises:
            Problem: It is too large, too slow, or cut off.
            FileError: There is no room for it.
        """
        with spool() as held:
            state = hashlib.sha256()
            async for piece in self._pieces(request):
                state.update(piece)
                held.write(piece)
            held.seek(0)
            yield held, state.digest()

    async def hashed(self, request: Request, digest: Digest) -> tuple[bytes, bytes]:
        """The hash value of a body that is kept nowhere, and its SHA-256.

        Raises:
            Problem: As for `received`.
        """
        wanted, state = digest.new(), hashlib.sha256()
        async for piece in self._pieces(request):
            wanted.update(piece)
            state.update(piece)
        return wanted.digest(), state.digest()

    async def _pieces(self, request: Request) -> AsyncIterator[bytes]:
        try:
            async with asyncio.timeout(DOCUMENT_SECONDS):
                async for piece in receive(request, self._size):
                    yield piece
        except TimeoutError as error:
            raise Problem(TIMEOUT, headers={"Connection": "close"}) from error

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call a function in a thread, and wait for it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: function(*args, **kwargs))

    def close(self) -> None:
        """End the threads, after what they do now."""
        self._threads.shutdown()


def streamed(content: BinaryIO, media_type: str, headers: dict[str, Any] | None = None) -> StreamingResponse:
    """An answer from a temporary file, which is closed behind it.

    Args:
        content: From its beginning to its end.
        media_type: What it is.
        headers: Further header fields.
    """
    size = content.seek(0, 2)
    content.seek(0)

    def pieces() -> Iterator[bytes]:
        with content:
            yield from chunks(content)

    return StreamingResponse(
        pieces(), media_type=media_type, headers={"Content-Length": str(size), **(headers or {})}
    )
