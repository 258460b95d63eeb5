# ruff: noqa: D102 - its methods are those of asyncio and uvicorn
"""A connection of the service: its header ends in time, and the application sees the client's certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tokensign.service.context import CLIENT_CERTIFICATE

if TYPE_CHECKING:
    import asyncio

__all__ = ["HEAD_SECONDS", "HEAD_SIZE_MAXIMUM", "ServiceConnection"]

HEAD_SECONDS: Final = 10.0  # from a connection, or the first octet of a request, to the end of its header
HEAD_SIZE_MAXIMUM: Final = 65536  # octets; a token of an OpenID Connect provider has some thousand


class ServiceConnection(HttpToolsProtocol):
    """Hands the client's certificate to the application, which no ASGI server does by itself.

    It ends when a header does not end in time, or not at all; uvicorn would wait for it. Bodies have limits
    where they are read, because documents may be large.
    """

    _deadline: asyncio.TimerHandle | None = None
    _head_size = 0
    _certificate: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._certificate = tls.getpeercert(binary_form=True)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._deadline is not None:
            self._head_size += len(data)
            if self._head_size > HEAD_SIZE_MAXIMUM:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CLIENT_CERTIFICATE: {"der": self._certificate}}
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._cancel_deadline()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_size = 0
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
