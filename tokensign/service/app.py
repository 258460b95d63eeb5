"""The application: the routes, what becomes of errors, and what starts and ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import traceback
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tokensign import __version__
from tokensign.errors import TokensignError
from tokensign.service import problems
from tokensign.service.direct import Direct
from tokensign.service.openapi import described
from tokensign.service.problems import Problem, problem_of
from tokensign.service.reloading import reload_on_hangup
from tokensign.service.routes import (
    audit,
    cms,
    decryptions,
    health,
    jobs,
    keys,
    monitor,
    signatures,
    verifications,
)
from tokensign.service.telemetry import Observed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tokensign.service.context import Context

__all__ = ["application"]

_OF_STATUS: Final = {404: problems.NOT_FOUND, 405: problems.METHOD, 413: problems.TOO_LARGE}
_ROUTES: Final = (signatures, cms, decryptions, keys, jobs, verifications, audit, monitor, health)


def application(context: Context) -> Observed:
    """The ASGI application over the parts of a service, which it starts and ends."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:  # ends what was started, the last first
            stack.push_async_callback(asyncio.to_thread, context.telemetry.close)
            stack.callback(context.documents.close)
            for part in (context.journal, context.lanes, context.jobs, context.checkpoints):
                if part is not None:
                    await part.start()
                    stack.push_async_callback(part.stop)
            stack.enter_context(reload_on_hangup(context.lanes, context.tls))
            yield

    async def failed(request: Request, error: Exception) -> Response:
        problem = _problem(error)
        is_told = problem.kind.status < problems.FAILED.status and problem.detail is not None
        if not is_told and not isinstance(error, HTTPException):  # of which the status tells all
            request.state.facts["reason"] = _reason(error)
        return problem.response(request.state.request_id)

    app = FastAPI(
        title="tokensign",
        version=__version__,
        description="Signs, decrypts and verifies with private keys that never leave their PKCS#11 token.",
        lifespan=lifespan,
        exception_handlers={
            Problem: failed,
            TokensignError: failed,
            RequestValidationError: failed,
            HTTPException: failed,
            Exception: failed,
        },
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=context.telemetry.tracing(),
    )
    for module in _ROUTES:
        app.include_router(module.routes(context))
    app.openapi = functools.cache(lambda: described(app))  # type: ignore[method-assign]
    if context.settings.traces:  # which go through FastAPI
        return Observed(app, context.telemetry)
    signing = Direct(app, signatures.PREFIX, signatures.SUFFIX, signatures.endpoint(context), failed)
    return Observed(signing, context.telemetry)


def _reason(error: Exception) -> str:
    """What the log tells; of a bug only where it is, because its words may have in them what was sent."""
    if isinstance(error, TokensignError | Problem):
        return f"{type(error).__name__}: {error}"
    *_, last = traceback.extract_tb(error.__traceback__) or [None]
    return (
        f"a bug ({type(error).__name__}) at {last.filename}:{last.lineno}" if last else type(error).__name__
    )


def _problem(error: Exception) -> Problem:
    match error:
        case HTTPException():
            kind = _OF_STATUS.get(error.status_code, problems.INVALID)
            return Problem(kind, headers=dict(error.headers or {}))
        case RequestValidationError():
            found: list[dict[str, Any]] = list(error.errors())
            errors = [{"pointer": "/".join(map(str, one["loc"])), "detail": one["msg"]} for one in found]
            return Problem(problems.INVALID, errors=errors)
        case _:
            return problem_of(error)
