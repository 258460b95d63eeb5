"""Documents at a level of CAdES, and documents of clients that stall or go away."""

from __future__ import annotations

import contextlib
import io
import socket
import time
from typing import TYPE_CHECKING

import pytest
from service_place import ServicePlace, running_service
from timestamping import OpensslTsa, certify

from tokensign.cades.extend import ExtensionMeans, present_level
from tokensign.cades.levels import Level
from tokensign.cms.signed_data import read_signed_data
from tokensign.pki.http import EVERYWHERE, HttpClient, Limits
from tokensign.pki.tsa_client import TimestampAuthority
from tokensign.service import bodies

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

    from lane_places import TokenPlace
    from loopback import Website
    from service_place import RunningService

HEAD = b"POST /v1/keys/%b/%b HTTP/1.1\r\nHost: localhost\r\nContent-Type: %b\r\nContent-Length: 1000\r\n\r\n"


@contextlib.contextmanager
def connected(service: RunningService, who: str | None = "alice") -> Iterator[ssl.SSLSocket]:
    """A connection as TLS has it, for what no HTTP library would send."""
    host, _, port = service.address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        service.tls(who).wrap_socket(plain, server_hostname=host) as connection,
    ):
        yield connection


def answer(connection: ssl.SSLSocket) -> bytes:
    """Everything until the server closes the connection."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


class TestLevels:
    def test_timestamp_is_added_and_its_lack_is_told(
        self, furnished_token: TokenPlace, tmp_path: Path, website: Website, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tsa = certify("TSA", timestamping=True)
        url = website.serve("/tsa", OpensslTsa(tmp_path / "tsa", tsa).page)
        client = HttpClient(Limits(private_networks=EVERYWHERE))
        authority = TimestampAuthority(url=url, fetch=client, trust=None)
        token = furnished_token.copy(tmp_path / "token")
        monkeypatch.setenv("SOFTHSM2_CONF", str(token.configuration))
        place = ServicePlace(tmp_path, token, means=ExtensionMeans(authority=authority))
        place.grant("alice", "*", "cms")
        kind = "application/octet-stream"
        with running_service(place) as service:
            for attached in ("false", "true"):
                path = f"/v1/keys/{service.key('ec:p256')}/cms?level=b-t&attached={attached}"
                found = service.ask("POST", path, b"hello", media_type=kind)
                assert found.status == 200, found.body
                message = read_signed_data(io.BytesIO(found.body))
                assert present_level(message.signer_infos[0], message) is Level.B_T
            website.serve("/tsa", lambda exchange: exchange.answer(b"", status=500))
            told = service.ask("POST", path, b"hello", media_type=kind)
            assert (told.status, told.problem) == (502, "upstream")
            assert "detail" not in told.json


class TestStalls:
    @pytest.mark.parametrize(
        ("operation", "kind"), [(b"cms", b"application/octet-stream"), (b"decryptions", b"application/cms")]
    )
    def test_body_that_stalls_is_refused_and_nothing_is_left_behind(
        self,
        service: RunningService,
        monkeypatch: pytest.MonkeyPatch,
        operation: bytes,
        kind: bytes,
    ) -> None:
        monkeypatch.setattr(bodies, "PIECE_SECONDS", 0.2)
        before = service.ask("GET", "/v1/audit/entries").json["size"]
        with connected(service) as connection:
            connection.sendall(HEAD % (service.key("rsa:2048").encode(), operation, kind) + b"{")
            told = answer(connection)
        assert told.startswith(b"HTTP/1.1 408 ")
        assert b"urn:tokensign:problem:timeout" in told
        assert service.ask("GET", "/v1/audit/entries").json["size"] == before

    def test_client_that_goes_away_takes_no_room(self, service: RunningService) -> None:
        for _ in range(service.context.settings.documents + 1):
            with connected(service) as connection:
                head = HEAD % (service.key("rsa:2048").encode(), b"cms", b"application/octet-stream")
                connection.sendall(head + b"half of it")
        path = f"/v1/keys/{service.key('rsa:2048')}/cms"
        deadline = time.monotonic() + 60
        while (found := service.ask("POST", path, b"x", media_type="application/octet-stream")).status != 200:
            assert time.monotonic() < deadline, found.body
            time.sleep(0.05)
