# ruff: noqa: D102 - its methods are those of asyncio and uvicorn
"""A connection of the service: its header ends in time, and the application sees the client's certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tokensign.service.context import CLIENT_CERTIFICATE

if TYPE_CHECKING:
    import asyncio

__all__ = ["ANSWER_SECONDS", "HEAD_SECONDS", "HEAD_SIZE_MAXIMUM", "ServiceConnection"]

HEAD_SECONDS: Final = 10.0  # from a connection, or the first octet of a request, to the end of its header
HEAD_SIZE_MAXIMUM: Final = 65536  # octets; a token of an OpenID Connect provider has some thousand
ANSWER_SECONDS: Final = 30.0  # that a client may take none of its answer


class ServiceConnection(HttpToolsProtocol):
    """Hands the client's certificate to the application, which no ASGI server does by itself.

    It ends when a header does not end in time, or not at all, and when an answer is not taken; uvicorn would
    wait for that. Bodies have limits where they are read, because documents may be large. What comes after an
    answer, such as the rest of a body that was refused, has the time of a header. Trailer fields are dropped:
    they are not those of the header (RFC 9110 section 6.5.1).
    """

    _deadline: asyncio.TimerHandle | None = None
    _answer_deadline: asyncio.TimerHandle | None = None
    _beside_bodies = 0  # octets that came since the latest of a body, or the latest end of a header
    _certificate: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._certificate = tls.getpeercert(binary_form=True)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._cancel_answer_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._beside_bodies += len(data)
        super().data_received(data)
        if self._beside_bodies > HEAD_SIZE_MAXIMUM:
            self.transport.abort()
        elif self._deadline is None and self.cycle is not None and self.cycle.response_complete:
            self._expect_head()

    def on_body(self, body: bytes) -> None:
        self._beside_bodies = 0
        super().on_body(body)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CLIENT_CERTIFICATE: {"der": self._certificate}}
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._cancel_deadline()
        self._beside_bodies = 0
        super().on_headers_complete()
        self.headers = []  # of the trailer

    def pause_writing(self) -> None:
        super().pause_writing()
        self._answer_deadline = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._cancel_answer_deadline()

    def _expect_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cancel_answer_deadline(self) -> None:
        if self._answer_deadline is not None:
            self._answer_deadline.cancel()
            self._answer_deadline = None
