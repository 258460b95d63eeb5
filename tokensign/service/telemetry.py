"""What is told of requests: a line of the log each, counts and times for Prometheus, and traces.

A line has the id of the request, which its answer has too, and who asked for what with which key. No digest,
no content and no secret is in any of it.
"""

from __future__ import annotations

import logging
import secrets
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tokensign.errors import ConfigurationError, NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from threading import Thread
    from wsgiref.simple_server import WSGIServer

    from fastapi.telemetry import TelemetryConfig
    from opentelemetry.sdk.trace import TracerProvider
    from prometheus_client.metrics_core import Metric
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from tokensign.service.lanes import LaneState

__all__ = ["MetricsServer", "Observed", "Telemetry", "configure_logging"]

_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds
_SERVER_ERROR: Final = 500


def configure_logging(level: int = logging.INFO) -> None:
    """Let the process write its log to stderr, a JSON document a line; that of libraries too."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_traceback,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.getLogger().handlers[:] = [handler]
    own = logging.getLogger("tokensign")
    own.handlers.clear()  # the command line's
    own.setLevel(level)


def _without_traceback(
    _logger: object, _name: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    """Leave out what has the arguments of calls in it."""
    for name in ("exc_info", "exception", "stack_info"):
        event.pop(name, None)
    return event


class Telemetry:
    """The log and the metrics of a service.

    Args:
        states: How each lane is, by its name.
        traces: The URL of an OTLP collector over HTTP, or None.

    Raises:
        ConfigurationError: There is a collector, and OpenTelemetry's SDK is not installed.
    """

    def __init__(self, states: Callable[[], dict[str, LaneState]], traces: str | None = None) -> None:
        self._tracers = None if traces is None else _tracer_provider(traces)
        self.registry = CollectorRegistry()
        self.log: Any = structlog.get_logger("tokensign.service")
        self._requests = Counter(
            "tokensign_requests", "Requests.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "tokensign_request_seconds",
            "From the head of a request to the end of its answer.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._operations = Counter(
            "tokensign_operations",
            "Private-key operations that a lane was asked for.",
            ("lane", "operation", "result"),
            registry=self.registry,
        )
        self._count = lru_cache(self._requests.labels)  # three times as fast
        self._time = lru_cache(self._seconds.labels)
        self._count_operations = lru_cache(self._operations.labels)
        self.registry.register(_LaneCollector(states))

    def tracing(self) -> TelemetryConfig:
        """What FastAPI is to trace: each request, where there is a collector."""
        config: TelemetryConfig = {"metrics": False, "logs": False, "operation_spans": False}
        if self._tracers is None:
            return {**config, "tracing": False}
        return {**config, "tracer_provider": self._tracers}

    def close(self) -> None:
        """Send the traces that wait; takes some seconds where the collector is away."""
        if self._tracers is not None:
            self._tracers.shutdown()

    def serve_metrics(self, host: str, port: int) -> MetricsServer:
        """Answer Prometheus at an address, in a thread.

        Raises:
            NetworkError: The address cannot be listened at.
        """
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise NetworkError(
                f"{host}:{port} cannot be listened at: {error.strerror or error}",
                hint="choose another with service.metrics",
            ) from error
        return MetricsServer(server, thread)

    def request_done(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request, and write its line."""
        route = getattr(scope.get("route"), "path_format", "none")
        method = scope["method"] if route != "none" else "any"  # strangers invent methods
        self._count(method, route, status).inc()
        self._time(method, route).observe(seconds)
        client = scope.get("client") or ("", 0)
        write = self.log.error if status >= _SERVER_ERROR else self.log.info
        write(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            seconds=round(seconds, 6),
            client=client[0],
            **scope["state"]["facts"],
        )

    def operations_done(self, lane: str, operation: str, succeeded: int, failed: int = 0) -> None:
        """Count private-key operations."""
        if succeeded:
            self._count_operations(lane, operation, "succeeded").inc(succeeded)
        if failed:
            self._count_operations(lane, operation, "failed").inc(failed)


def _tracer_provider(collector: str) -> TracerProvider:
    """What sends spans to a collector.

    Raises:
        ConfigurationError: OpenTelemetry's SDK is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigurationError(
            "traces are wanted, and OpenTelemetry is not installed",
            hint="pip install 'tokensign[tracing]'",
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": "tokensign"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(collector)))
    return provider


class _LaneCollector(Collector):
    """How the lanes are, at the moment when Prometheus asks."""

    def __init__(self, states: Callable[[], dict[str, LaneState]]) -> None:
        self._states = states

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("tokensign_lane_up", "Whether a lane takes calls.", labels=("lane",))
        waiting = GaugeMetricFamily("tokensign_lane_waiting", "Calls in a lane.", labels=("lane",))
        restarts = GaugeMetricFamily(
            "tokensign_lane_restarts", "Workers that were started again.", labels=("lane",)
        )
        for name, state in self._states().items():
            up.add_metric((name,), float(state.status == "up"))
            waiting.add_metric((name,), state.waiting)
            restarts.add_metric((name,), state.restarts)
        return up, waiting, restarts


@dataclass(frozen=True, slots=True)
class MetricsServer:
    """What answers Prometheus."""

    _server: WSGIServer
    _thread: Thread

    @property
    def address(self) -> str:
        """Where, as in a URL."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Observed:
    """An application whose requests have an id, and are told of.

    Args:
        application: What answers.
        telemetry: Where it is told.

    Attributes:
        failure: Why it did not start or end well, or None.
    """

    def __init__(self, application: ASGIApp, telemetry: Telemetry) -> None:
        self._application = application
        self._telemetry = telemetry
        self.failure: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or start or end the application."""
        if scope["type"] != "http":
            try:
                await self._application(scope, receive, send)
            except Exception as error:
                self.failure = error
                raise
            return
        started = time.perf_counter()
        request_id = secrets.token_hex(8)
        structlog.contextvars.bind_contextvars(request_id=request_id)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["facts"] = {}
        header = (b"x-request-id", request_id.encode())
        status = _SERVER_ERROR

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], header]
            await send(message)

        try:
            await self._application(scope, receive, observed)
        finally:
            self._telemetry.request_done(scope, status, time.perf_counter() - started)
