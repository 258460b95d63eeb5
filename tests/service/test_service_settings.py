"""The settings of the service: what is refused before anything starts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tokensign.errors import ConfigurationError
from tokensign.service.settings import load_service_settings

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "1234-user"
LANE = {"name": "acme", "module": "softhsm.so", "token": "acme"}
TLS = {"certificate": "server.pem", "key": "server.key"}


def load(folder: Path, **lane: str) -> str:
    """Where the PIN of a lane is, as the settings have it."""
    table: dict[str, Any] = {"listen": "127.0.0.1:0", "lanes": [LANE | lane]}
    return load_service_settings(table, folder).lanes[0].pin_source


@pytest.mark.parametrize("source", ["file:/etc/acme.pin", "credential:acme-pin", "keyring:acme"])
def test_pin_comes_from_what_a_worker_reads_itself(tmp_path: Path, source: str) -> None:
    assert load(tmp_path, **{"pin-source": source}) == source


def test_file_of_a_pin_lies_beside_the_settings(tmp_path: Path) -> None:
    assert load(tmp_path, **{"pin-source": "file:pin"}) == f"file:{tmp_path / 'pin'}"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("env:ACME_PIN", "the environment is that of the process that answers HTTP"),
        ("fd:3", "does not reach the workers"),
        ("prompt", "nobody is there to be asked"),
        ("pinentry", "nobody is there to be asked"),
        ("pad", "nobody is there to be asked"),
        ("file:", "no source of a PIN"),
        (SECRET, "no source of a PIN"),
    ],
)
def test_pin_that_the_web_process_would_see_or_no_worker_would_get_is_refused(
    tmp_path: Path, source: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason) as refusal:
        load(tmp_path, **{"pin-source": source})
    assert "service.lanes.0.pin-source" in refusal.value.message
    assert "write file:PATH, credential:NAME or keyring:SERVICE" in refusal.value.message
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    "uri",
    [
        f"pkcs11:token=acme?pin-value={SECRET}",
        "pkcs11:token=acme?pin-source=env:ACME_PIN",
        "pkcs11:token=acme?pin-source=file:/etc/acme.pin",
        "pkcs11:nonsense",
    ],
)
def test_uri_of_a_token_has_no_pin_and_no_source_of_one(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigurationError, match=r"service\.lanes\.0\.token") as refusal:
        load(tmp_path, token=uri, **{"pin-source": "file:pin"})
    assert SECRET not in str(refusal.value)


def test_pin_source_from_the_environment_is_held_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENSIGN_SERVICE_LANES", json.dumps([LANE | {"pin_source": "env:ACME_PIN"}]))
    with pytest.raises(ConfigurationError, match="must not see a PIN"):
        load_service_settings({}, tmp_path)


def test_address_from_the_environment_goes_before_that_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENSIGN_SERVICE_LISTEN", "[::1]:9443")
    table = {"listen": "127.0.0.1:8443", "lanes": [LANE | {"pin-source": "file:pin"}]}
    assert load_service_settings(table, tmp_path).listen == ("::1", 9443)


def test_variable_that_is_no_json_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENSIGN_SERVICE_LANES", "[{")
    with pytest.raises(ConfigurationError, match="TOKENSIGN_SERVICE_"):
        load_service_settings({}, tmp_path)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            {"tls": {"certificate": "server.pem", "kez": "server.key"}},
            r"service\.tls\.kez .* no such setting",
        ),
        ({"tls": {"certificate": "server.pem"}}, r"service\.tls\.key .* it is missing"),
        ({"tls": TLS | {"client-crl": "clients.crl", "client-ca": "ca.pem"}}, r"client-crl .* it is a list"),
        ({"tls": TLS | {"client-crl": ["clients.crl"]}}, "client-crl is of no use without client-ca"),
        ({"lanes": []}, r"service\.lanes .* one is needed"),
        ({"lanes": LANE}, r"service\.lanes .* it is a list"),
        ({"listen": "127.0.0.1:9464", "metrics": "127.0.0.1:9464"}, "one address"),
        ({"tsa": "tsa.acme.example"}, r"service\.tsa .* it is a URL"),
        ({"traces": "file:///traces"}, r"service\.traces .* it is a URL"),
    ],
)
def test_mistake_is_named_with_what_is_meant(tmp_path: Path, table: dict[str, Any], told: str) -> None:
    whole = {"lanes": [LANE | {"pin-source": "file:pin"}], **table}
    with pytest.raises(ConfigurationError, match=told):
        load_service_settings(whole, tmp_path)


def test_a_lane_is_all_that_is_needed(tmp_path: Path) -> None:
    settings = load_service_settings({"lanes": [LANE | {"pin-source": "file:pin"}]}, tmp_path)
    assert settings.listen == ("127.0.0.1", 8443)
    assert settings.job_hours == 24


@pytest.mark.parametrize("hours", [0, -1, 9000])
def test_job_has_some_hours_and_not_for_ever(tmp_path: Path, hours: float) -> None:
    lane = LANE | {"pin-source": "file:pin"}
    with pytest.raises(ConfigurationError, match=r"service\.job-hours"):
        load_service_settings({"listen": "127.0.0.1:0", "lanes": [lane], "job-hours": hours}, tmp_path)
