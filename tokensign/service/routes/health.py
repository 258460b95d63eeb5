"""GET /livez and /readyz: whether the process answers, and whether its tokens do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel

if TYPE_CHECKING:
    from tokensign.service.context import Context

__all__ = ["routes"]

_NOT_READY = 503


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """How each lane is, as it was last noticed."""

    ready: bool
    lanes: dict[str, Literal["up", "starting", "down", "latched"]]


def routes(context: Context) -> APIRouter:
    """The routes, for the parts of a service. They ask nobody who it is, and no token."""
    router = APIRouter(tags=["health"])

    @router.get("/livez", summary="Whether the process answers")
    async def live() -> Liveness:
        return Liveness()

    @router.get(
        "/readyz",
        summary="Whether every token can be used",
        responses={_NOT_READY: {"model": Readiness, "description": "A lane is not up"}},
    )
    async def ready(response: Response) -> Readiness:
        lanes = {name: state.status for name, state in context.lanes.states().items()}
        found = Readiness(ready=all(status == "up" for status in lanes.values()), lanes=lanes)
        if not found.ready:
            response.status_code = _NOT_READY
        return found

    return router
