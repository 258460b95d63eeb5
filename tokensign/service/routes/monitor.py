"""GET /v1/monitor: whether all of it works, by a signature with a test key, on record like any other."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from tokensign.cms.signature import verify_fresh
from tokensign.errors import TokensignError
from tokensign.service.operation import Outcome, Use, perform, request_hash
from tokensign.service.problems import (
    ASKING,
    BUSY,
    NOT_FOUND,
    TOKEN_DOWN,
    UNRECORDED,
    UNSUPPORTED,
    Problem,
    problem_responses,
)
from tokensign.service.signing import scheme_of, sign_raw

if TYPE_CHECKING:
    from tokensign.service.context import Context

__all__ = ["routes"]

_MESSAGE_SIZE: Final = 32  # octets


class MonitorAnswer(BaseModel):
    """The token signed, its signature verified, and both were recorded."""

    key: str
    lane: str
    seconds: float


def routes(context: Context) -> APIRouter:
    """The route, for the parts of a service."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/v1/monitor",
        summary="Sign with the test key",
        response_model=MonitorAnswer,
        responses=problem_responses(*ASKING, NOT_FOUND, UNSUPPORTED, BUSY, TOKEN_DOWN, UNRECORDED),
    )
    async def monitor(request: Request) -> Response:
        caller = await context.caller(request)
        name = context.settings.monitor_key
        if name is None:
            raise Problem(NOT_FOUND, "the service has no test key")
        key = context.key(caller, name, "sign")
        scheme = scheme_of(key, None)
        context.grants.check(caller, key.id, "sign", scheme.name)
        request.state.facts.update(key=key.id, lane=key.lane, scheme=scheme.name)
        message = secrets.token_bytes(_MESSAGE_SIZE)
        started = time.perf_counter()

        async def work() -> Outcome:
            item = scheme.digest.new(message).digest() if scheme.prehashed else message
            (signature,) = await sign_raw(key, scheme, [item])
            if isinstance(signature, TokensignError):
                raise signature
            verify_fresh(key.public_key, scheme, signature, message=message)
            context.telemetry.operations_done(key.lane, "sign", 1)
            seconds = round(time.perf_counter() - started, 6)
            answer = MonitorAnswer(key=key.id, lane=key.lane, seconds=seconds)
            return Outcome({"result": "monitored"}, JSONResponse(answer.model_dump()))

        use = Use(
            caller, "sign", key.id, {"scheme": scheme.name, "monitor": True}, request_hash(request, b"")
        )
        return await perform(request, context.journal, use, work)

    return router
