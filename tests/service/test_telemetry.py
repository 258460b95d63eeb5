"""What is told of requests: traces at a collector, and a log without secrets."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import threading
from typing import TYPE_CHECKING

import pytest
import structlog
from fastapi import FastAPI
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from service_place import ServicePlace, running_service

from tokensign.authority.http_server import listening
from tokensign.errors import FileError
from tokensign.service.server import ServiceServer
from tokensign.service.settings import load_service_settings
from tokensign.service.telemetry import Observed, Telemetry, configure_logging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from lane_places import TokenPlace


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes what OpenTelemetry sends over HTTP."""

    received: list[bytes]

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    received: list[bytes] = []
    handler = type("Bound", (Collector,), {"received": received})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_requests_are_traced_with_their_routes(
    furnished_token: TokenPlace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    collector: tuple[str, list[bytes]],
) -> None:
    url, received = collector
    token = furnished_token.copy(tmp_path / "token")
    monkeypatch.setenv("SOFTHSM2_CONF", str(token.configuration))
    place = ServicePlace(tmp_path, token)
    place.grant("alice", "*", "sign")
    with running_service(place, traces=url) as service:
        assert service.sign("ec:p256").status == 200
    spans = [
        span
        for body in received
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert "POST /v1/keys/{key}/signatures" in {span.name for span in spans}


def test_failure_to_start_is_told(tmp_path: Path) -> None:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        raise FileError("the database is away")
        yield

    lane = {"name": "x", "module": "x", "token": "x", "pin-source": "file:pin"}
    settings = load_service_settings({"listen": "127.0.0.1:0", "lanes": [lane]}, tmp_path)
    observed = Observed(FastAPI(lifespan=lifespan), Telemetry(dict))
    with listening(*settings.listen) as listener:
        server = ServiceServer(observed, listener, settings, None)
        with pytest.raises(FileError, match="the database is away"):
            server.run()


def test_log_is_json_a_line_with_the_id_of_the_request(capsys: pytest.CaptureFixture[str]) -> None:
    loggers = [logging.getLogger(name) for name in ("", "tokensign")]
    before = [(logger.handlers[:], logger.level) for logger in loggers]
    try:
        configure_logging()
        with structlog.contextvars.bound_contextvars(request_id="abc"):
            structlog.get_logger("x").info("request", status=200)
            logging.getLogger("tokensign.service.lane").warning("the lane %s ended", "acme")
            logging.getLogger("library").error("it failed", exc_info=ValueError("a secret"))
    finally:
        structlog.reset_defaults()
        for logger, (handlers, level) in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
            logger.setLevel(level)
    written = capsys.readouterr().err
    told = [
        (line["event"], line["level"], line["request_id"]) for line in map(json.loads, written.splitlines())
    ]
    assert told == [
        ("request", "info", "abc"),
        ("the lane acme ended", "warning", "abc"),
        ("it failed", "error", "abc"),
    ]
    assert "a secret" not in written
