"""POST /v1/keys/{key}/cms: a document in, a signed message out (RFC 5652), at a level of CAdES."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, Literal

from fastapi import APIRouter, Query, Request, Response

from tokensign.cades.extend import extend_signatures
from tokensign.cades.levels import Level
from tokensign.cms.signed import SigningOptions, sign_attached, sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.errors import TokensignError, UnsupportedError
from tokensign.files import chunks, spool
from tokensign.service.documents import KEPT_MAXIMUM, streamed
from tokensign.service.key_path import KEY, KeyId
from tokensign.service.openapi import binary_answer, binary_body
from tokensign.service.operation import Outcome, Use, perform, request_hash
from tokensign.service.problems import UNTRUSTED, UPSTREAM, USING_A_KEY, problem_responses
from tokensign.service.signing import scheme_of, sign_cms

if TYPE_CHECKING:
    from tokensign.algorithms import SignatureScheme
    from tokensign.cades.extend import ExtensionMeans
    from tokensign.service.context import Context
    from tokensign.service.lanes import LaneKey
    from tokensign.service.principals import Principal

__all__ = ["routes"]

_MEDIA_TYPE: Final = "application/cms"  # RFC 7193


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A signature that was asked for and is allowed."""

    caller: Principal
    key: LaneKey
    scheme: SignatureScheme
    attached: bool
    level: Level
    means: ExtensionMeans | None

    def use(self, request: Request, content_hash: bytes) -> Use:
        intent: dict[str, Any] = {
            "scheme": self.scheme.name,
            "attached": self.attached,
            "level": self.level.value,
            "content": f"sha256:{content_hash.hex()}",
        }
        return Use(self.caller, "cms", self.key.id, intent, request_hash(request, content_hash), _MEDIA_TYPE)


def routes(context: Context) -> APIRouter:
    """The route, for the parts of a service."""
    router = APIRouter(tags=["cms"])

    @router.post(
        f"/v1/keys/{KEY}/cms",
        summary="Sign a document",
        response_class=Response,
        responses={
            **problem_responses(*USING_A_KEY, UNTRUSTED, UPSTREAM),
            200: binary_answer(_MEDIA_TYPE, "ContentInfo with SignedData, DER"),
        },
        openapi_extra=binary_body("application/octet-stream"),
    )
    async def sign_document(
        request: Request,
        key: KeyId,
        attached: Annotated[  # noqa: FBT002 - called by name
            bool, Query(description="Put the document into the message.")
        ] = False,
        level: Annotated[
            Literal["b-b", "b-t", "b-lt", "b-lta"], Query(description="The level of CAdES.")
        ] = "b-b",
        scheme: Annotated[
            str | None, Query(max_length=64, description="Without it the key's usual one.")
        ] = None,
    ) -> Response:
        caller = await context.caller(request)
        found = context.key(caller, key, "cms")
        chosen, reached = scheme_of(found, scheme), Level(level)
        context.grants.check(caller, found.id, "cms", chosen.name)
        means = None if reached is Level.B_B else context.means
        if means is None and reached is not Level.B_B:
            raise UnsupportedError(f"the service has no timestamp authority, which {reached} needs")
        request.state.facts.update(key=found.id, lane=found.lane, scheme=chosen.name)
        wanted = _Wanted(caller, found, chosen, attached, reached, means)
        with context.documents.room():
            if attached or means is not None:
                return await _sign_spooled(context, request, wanted)
            return await _sign_hashed(context, request, wanted)

    return router


async def _still_allowed(context: Context, request: Request, wanted: _Wanted) -> None:
    """Ask once more when all of the document is there, which may be minutes later.

    Raises:
        UnauthenticatedError, ForbiddenError: It is not allowed any more.
    """
    caller = await context.caller(request)
    context.grants.check(caller, wanted.key.id, "cms", wanted.scheme.name, 0)


async def _sign_hashed(context: Context, request: Request, wanted: _Wanted) -> Response:
    """Sign a document of which only the hash value is needed."""
    digest, content_hash = await context.documents.hashed(request, wanted.scheme.digest)
    await _still_allowed(context, request, wanted)

    async def work() -> Outcome:
        (message,) = await sign_cms(wanted.key, wanted.scheme, [digest])
        if isinstance(message, TokensignError):
            raise message
        context.telemetry.operations_done(wanted.key.lane, "cms", 1)
        record = {"result": "signed", "message": f"sha256:{hashlib.sha256(message).hexdigest()}"}
        return Outcome(record, Response(message, media_type=_MEDIA_TYPE), message)

    return await perform(request, context.journal, wanted.use(request, content_hash), work)


async def _sign_spooled(context: Context, request: Request, wanted: _Wanted) -> Response:
    """Sign a document that is read a second time: to copy it, or to judge the signature again."""
    async with context.documents.received(request) as (content, content_hash):
        await _still_allowed(context, request, wanted)

        async def work() -> Outcome:
            message, message_hash = await context.documents.run(_signed, wanted, content)
            context.telemetry.operations_done(wanted.key.lane, "cms", 1)
            small = message.seek(0, 2) <= KEPT_MAXIMUM
            message.seek(0)
            kept = message.read() if small else None
            record = {"result": "signed", "message": f"sha256:{message_hash}"}
            return Outcome(record, streamed(message, _MEDIA_TYPE), kept, message.close)

        return await perform(request, context.journal, wanted.use(request, content_hash), work)


def _signed(wanted: _Wanted, content: BinaryIO) -> tuple[BinaryIO, str]:
    """The message in a temporary stream, which is the caller's to close, and its SHA-256."""
    options = SigningOptions(family=wanted.scheme.family, digest=wanted.scheme.digest)
    signers = [wanted.key.signer()]
    message = spool()
    try:
        if wanted.attached:
            sign_attached(content, signers, message, options)
        else:
            message.write(sign_detached(content, signers, options))
        if wanted.means is not None:
            message = _raised(message, content, wanted.level, wanted.means)
        message.seek(0)
        state = hashlib.sha256()
        for piece in chunks(message):
            state.update(piece)
    except BaseException:
        message.close()
        raise
    return message, state.hexdigest()


def _raised(fresh: BinaryIO, content: BinaryIO, level: Level, means: ExtensionMeans) -> BinaryIO:
    """The same message at a level."""
    fresh.seek(0)
    content.seek(0)
    with fresh:
        message = read_signed_data(fresh)
        raised = spool()
        try:
            extend_signatures(message, level, means, raised, None if message.content else content)
        except BaseException:
            raised.close()
            raise
    return raised
