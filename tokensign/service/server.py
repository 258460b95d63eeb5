"""Serving: limits, client certificates that the application gets to see, and a graceful end."""

from __future__ import annotations

import logging
import resource
import sys
from typing import TYPE_CHECKING, Final

import uvicorn

from tokensign.service.connection import ServiceConnection

if TYPE_CHECKING:
    import socket

    from tokensign.service.settings import ServiceSettings
    from tokensign.service.telemetry import Observed
    from tokensign.service.tls import ServerTls

__all__ = ["ServiceServer"]

_BACKLOG: Final = 2048  # so many connections may come at once
_IDLE_SECONDS: Final = 60  # that a connection stays open for a further request; a handshake is dear
_SWITCH_SECONDS: Final = 0.001
"""That the journal's thread waits for the interpreter, some ten times a transaction. Python's own: 0.005."""
_SPARE_DESCRIPTORS: Final = 256  # beside those of connections: the database, lanes, temporary files


class ServiceServer:
    """An application at a socket.

    Args:
        application: What is served.
        listener: From `tokensign.authority.http_server.listening`; it is closed at the end.
        settings: Limits.
        tls: How connections are protected, or None.
    """

    def __init__(
        self,
        application: Observed,
        listener: socket.socket,
        settings: ServiceSettings,
        tls: ServerTls | None,
    ) -> None:
        self._application = application
        self._listener = listener
        context = tls.context if tls is not None else None
        _allow_descriptors(settings.connections + _SPARE_DESCRIPTORS)
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
                http=ServiceConnection,
                ws="none",
                loop="auto",  # uvloop where it is installed
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=settings.connections,
                backlog=_BACKLOG,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=settings.stop_seconds,
                ssl_context_factory=(lambda *_: context) if context else None,
            )
        )
        logger = logging.getLogger("uvicorn")  # it tells every stranger's mistake, and tracebacks
        logger.addHandler(logging.NullHandler())
        logger.propagate = False

    def run(self) -> None:
        """Serve until `stop`, or SIGINT or SIGTERM; what was asked before that is answered.

        In the main thread such a signal is raised again at the end.

        Raises:
            TokensignError: The application did not start.
        """
        try:
            self._server.run([self._listener])
        except SystemExit:  # uvicorn's way to say so
            if self._application.failure is not None:
                raise self._application.failure from None
            raise

    def stop(self) -> None:
        """Let `run` end; from any thread."""
        self._server.should_exit = True


def _allow_descriptors(wanted: int) -> None:
    """Let the process have so many files and connections, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < wanted <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
