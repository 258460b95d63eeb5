"""The way of the request that comes thousands of times a second, past what all others go through.

FastAPI describes the route and would answer it too; it takes three times as long for that as the server takes
for the rest of HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Direct"]


class Direct:
    """An application in which one route is answered directly.

    Args:
        application: What answers all other requests.
        prefix: How the path of the route begins, before its parameter.
        suffix: How it ends.
        endpoint: What answers it, as the application would call it: with the request and the parameter.
        failed: What answers when that fails, as the application has it.

    Attributes:
        path_format: The path of the route, as a route of the application has it.
    """

    def __init__(
        self,
        application: ASGIApp,
        prefix: str,
        suffix: str,
        endpoint: Callable[[Request, str], Awaitable[Response]],
        failed: Callable[[Request, Exception], Awaitable[Response]],
    ) -> None:
        self._application = application
        self._prefix = prefix
        self._suffix = suffix
        self._endpoint = endpoint
        self._failed = failed
        self.path_format = f"{prefix}{{key}}{suffix}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or start or end the application."""
        path = scope.get("path", "")
        if scope.get("method") != "POST" or not self._is_of_the_route(path):
            await self._application(scope, receive, send)
            return
        scope["route"] = self  # as telemetry wants it
        request = Request(scope, receive, send)
        try:
            response = await self._endpoint(request, path[len(self._prefix) : -len(self._suffix)])
        except Exception as error:  # noqa: BLE001 - as the application does
            response = await self._failed(request, error)
        await response(scope, receive, send)

    def _is_of_the_route(self, path: str) -> bool:
        return path.startswith(self._prefix) and path.endswith(self._suffix)
