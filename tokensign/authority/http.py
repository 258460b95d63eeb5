"""What `ca serve` answers over HTTP: OCSP, timestamps, CRLs, and the certificates of CAs.

==========================  ==================================================================
``POST /PATH/ocsp``         an OCSPRequest (RFC 6960 appendix A)
``GET /PATH/ocsp/REQUEST``  the same in base64
``GET /PATH/ca.cer``        the certificate of a CA (RFC 5280 section 4.2.2.1)
``GET /PATH/FILE.crl``      its newest CRL (RFC 2585)
``POST /tsa``               a TimeStampReq (RFC 3161 section 3.4)
==========================  ==================================================================

PATH is that of the URL of a CA, which its certificates name. All of this is signed or public, so none of it
needs TLS (RFC 6960 section 5); and a client could not check the certificate of a TLS server before it knows
who was revoked.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tokensign.authority.log_limit import RepeatFilter
from tokensign.authority.ocsp_responder import ANSWER_TYPE
from tokensign.authority.signing_queue import BusyError
from tokensign.cms.timestamp import REPLY_TYPE
from tokensign.cms.timestamp import REQUEST_TYPE as TIMESTAMP_REQUEST_TYPE
from tokensign.errors import TokensignError
from tokensign.pki.revocation.ocsp import REQUEST_TYPE as OCSP_REQUEST_TYPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tokensign.authority.ocsp_service import OcspReply, OcspService
    from tokensign.authority.publications import Publications
    from tokensign.authority.signing_queue import SigningQueue
    from tokensign.authority.tsa import TimestampIssuer

__all__ = ["BODY_SIZE_MAXIMUM", "CACHE_SECONDS", "Services", "application"]

BODY_SIZE_MAXIMUM: Final = 16384  # octets; an OCSP request has a hundred, or thousands where it is signed
CACHE_SECONDS: Final = 300  # that caches on the way may keep an answer: so late a revocation may show there


@dataclass(frozen=True, slots=True)
class Services:
    """What is served.

    Attributes:
        publications: CRLs and certificates.
        queue: Where operations on the token wait.
        ocsp: Answers OCSP requests, or None.
        timestamps: Makes timestamps, or None.
    """

    publications: Publications
    queue: SigningQueue
    ocsp: OcspService | None = None
    timestamps: TimestampIssuer | None = None


def application(services: Services) -> Starlette:
    """The ASGI application. It ends the queue of its services when it ends."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        signing = asyncio.create_task(services.ocsp.keep_signed()) if services.ocsp is not None else None
        yield
        if signing is not None:
            signing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await signing
        await asyncio.to_thread(services.queue.close)

    routes: list[Route] = []
    if services.ocsp is not None:
        for path in services.publications.paths:
            routes += _ocsp_routes(path, services.ocsp)
    if services.timestamps is not None:
        routes.append(_timestamp_route(services.timestamps, services.queue))
    routes.append(_document_route(services.publications))
    return Starlette(
        routes=routes,
        middleware=[Middleware(_ReadyAnswers, services=services)],
        lifespan=lifespan,
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )


class _ReadyAnswers:
    """OCSP answers that are ready are sent before anything is routed, which takes half of the time.

    Args:
        app: Answers all other requests.
        services: What is served.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._ocsp = services.ocsp
        self._paths = frozenset(f"{path}/ocsp" for path in services.publications.paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._ocsp is None or scope["type"] != "http" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        first = await receive()
        body = first.get("body", b"")
        is_whole = not first.get("more_body") and len(body) <= BODY_SIZE_MAXIMUM
        if is_whole and scope["method"] == "POST" and _HAS_OCSP_TYPE in scope["headers"]:
            reply = self._ocsp.ready(body)
            if reply is not None:
                await _ocsp_response(reply)(scope, receive, send)
                return
        messages = iter((first,))

        async def again() -> Message:
            return next(messages, None) or await receive()

        await self._app(scope, again, send)


async def _refused(_: Request, error: Exception) -> Response:
    """All refusals look alike, and nobody keeps them."""
    if not isinstance(error, HTTPException):
        raise error
    return _refusal(error.status_code, error.detail, error.headers or {})


def _refusal(status: int, text: str, headers: Mapping[str, str]) -> Response:
    return Response(f"{text}\n", status, {**_UNCACHED, **headers}, "text/plain")


async def _failed(_: Request, error: Exception) -> Response:
    """What went wrong is the operator's to know, in a line of the log, and not who asked for it."""
    reason = error.message if isinstance(error, TokensignError) else f"a bug ({type(error).__name__})"
    _log.error("a request could not be answered: %s", reason)
    return _refusal(503, "this cannot be answered at present", {})


def _ocsp_routes(path: str, ocsp: OcspService) -> list[Route]:
    async def post(request: Request) -> Response:
        _require_type(request, OCSP_REQUEST_TYPE)
        return await answer(request, await _body(request))

    async def get(request: Request) -> Response:
        try:
            encoded = base64.b64decode(request.path_params["encoded"], validate=True)
        except ValueError as error:
            raise HTTPException(400, "what follows ocsp/ is not base64") from error
        return await answer(request, encoded)

    async def answer(request: Request, encoded: bytes) -> Response:
        reply = ocsp.ready(encoded) or await ocsp.reply(encoded)
        return _unless_known(request, _ocsp_response(reply))

    return [
        Route(f"{path}/ocsp", post, methods=["POST"]),
        Route(f"{path}/ocsp/", post, methods=["POST"]),
        Route(f"{path}/ocsp/{{encoded:path}}", get, methods=["GET"]),  # base64 has slashes
    ]


def _ocsp_response(reply: OcspReply) -> Response:
    headers = _UNCACHED
    if reply.answer is not None and reply.may_be_cached:
        headers = _caching(reply.encoded, reply.answer.this_update, reply.answer.next_update)
    return Response(reply.encoded, media_type=ANSWER_TYPE, headers=headers)


def _timestamp_route(timestamps: TimestampIssuer, queue: SigningQueue) -> Route:
    async def post(request: Request) -> Response:
        _require_type(request, TIMESTAMP_REQUEST_TYPE)
        encoded = await _body(request)
        try:
            reply = await queue.run(timestamps.reply, encoded)
        except BusyError as error:
            raise HTTPException(503, "too many wait already", {"Retry-After": "5"}) from error
        return Response(reply.encoded, media_type=REPLY_TYPE, headers=_UNCACHED)

    return Route("/tsa", post, methods=["POST"])


def _document_route(publications: Publications) -> Route:
    async def get(request: Request) -> Response:
        path = request.scope["path"]
        document = publications.kept(path) or await asyncio.to_thread(publications.find, path)
        if document is None:
            raise HTTPException(404, "there is no such file here")
        headers = _caching(document.content, document.this_update, document.next_update)
        answer = Response(document.content, media_type=document.media_type, headers=headers)
        return _unless_known(request, answer)

    return Route("/{path:path}", get, methods=["GET"])


def _require_type(request: Request, wanted: str) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != wanted:
        raise HTTPException(415, f"the media type must be {wanted}")


async def _body(request: Request) -> bytes:
    """The body of a request, if it is not too large; the server sees to it that it comes in time."""
    body = bytearray()
    length = request.headers.get("content-length", "0")
    try:
        if int(length) > BODY_SIZE_MAXIMUM:
            raise _too_large()
        async for piece in request.stream():
            body += piece
            if len(body) > BODY_SIZE_MAXIMUM:
                raise _too_large()
    except ClientDisconnect as error:
        raise HTTPException(400, "the request is cut off") from error
    return bytes(body)


def _too_large() -> HTTPException:
    return HTTPException(413, f"a request has at most {BODY_SIZE_MAXIMUM} octets", _CLOSING)


def _unless_known(request: Request, answer: Response) -> Response:
    """An answer, or only that it is still the one that a cache has (RFC 9110 section 15.4.5)."""
    tag = answer.headers.get("ETag")
    if request.method == "POST" or tag is None or request.headers.get("if-none-match") != tag:
        return answer
    del answer.headers["Content-Length"]
    return Response(status_code=304, headers=answer.headers)


def _caching(encoded: bytes, this_update: datetime, next_update: datetime) -> dict[str, str]:
    """Headers for caches on the way (RFC 5019 section 6.2), which keep nothing longer than CACHE_SECONDS."""
    left = int((next_update - datetime.now(UTC)).total_seconds())
    age = max(0, min(CACHE_SECONDS, left))
    return {
        "Cache-Control": f"max-age={age}, public, no-transform, must-revalidate",
        "Last-Modified": _date(this_update),
        "Expires": _date(next_update),
        "ETag": f'"{hashlib.sha1(encoded, usedforsecurity=False).hexdigest()}"',
    }


@lru_cache(maxsize=1024)  # answers that were signed in advance have few different times
def _date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)


_HAS_OCSP_TYPE: Final = (b"content-type", OCSP_REQUEST_TYPE.encode("ascii"))
_log: Final = logging.getLogger(__name__)
_log.addFilter(RepeatFilter())
_UNCACHED: Final = {"Cache-Control": "no-store"}
_CLOSING: Final = {"Connection": "close"}  # what was not read of the request is not read any more
