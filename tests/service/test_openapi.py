"""The OpenAPI document against the service: no answer that it does not describe, and no 5xx."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from service_place import RunningService

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


@pytest.mark.parametrize("examples", [2, pytest.param(300, marks=pytest.mark.full)])
def test_schemathesis_finds_nothing(service: RunningService, examples: int, tmp_path: Path) -> None:
    folder = service.place.folder
    (tmp_path / "config.toml").write_text(f'[parameters]\n"path.key" = "{service.key("rsa:2048")}"\n')
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", tmp_path / "config.toml"),
        *("run", f"https://{service.address}/v1/openapi.json", "--tls-verify", folder / "servers.pem"),
        *("--request-cert", folder / "alice.pem", "--request-cert-key", folder / "alice.key"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)),
        *("--checks", ",".join(CHECKS), "--continue-on-failure", "--suppress-health-check", "all"),
        *("--generation-database", "none", "--warnings", "off"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout
    reached = {(one["method"], one["status"]) for one in service.log if "/signatures" in str(one.get("path"))}
    assert {("POST", 200), ("POST", 422)} <= reached


def test_every_route_says_how_it_fails(service: RunningService) -> None:
    document = service.ask("GET", "/v1/openapi.json", who=None).json
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1/"):
                assert {"401", "403", "503"} < operation["responses"].keys(), path
                assert {"200", "202"} & operation["responses"].keys(), path
                assert operation["security"]
