"""The other end: remote keys in the hands of a program, over connections that break."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from tokensign.cms.signed import SigningOptions, sign_detached
from tokensign.errors import (
    ConfigurationError,
    DecryptionError,
    ForbiddenError,
    KeyNotFoundError,
    NetworkError,
    UnauthenticatedError,
    UsageError,
)
from tokensign.service.client import ClientCredentials, ServiceClient
from tokensign.verification import Expectations, verify

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service_place import RunningService


def client_of(service: RunningService, who: str = "alice", address: str = "") -> ServiceClient:
    folder, bearer = service.place.folder, service.place.bearers.get(who)
    pem = folder / f"{who}.pem"
    credentials = ClientCredentials(
        certificate=None if bearer else pem,
        key=None if bearer else pem.with_suffix(".key"),
        bearer=bearer,
        trust=folder / "servers.pem",
    )
    return ServiceClient(f"https://{address or service.address}", credentials)


class CuttingProxy:
    """Passes TCP on to a service, and ends a connection before an answer as often as it is told."""

    def __init__(self, service: RunningService) -> None:
        host, _, port = service.address.partition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.address = f"localhost:{self._listener.getsockname()[1]}"
        self.cuts = 0

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(20)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target, timeout=20)
                for arguments in ((client, server, False), (server, client, True)):
                    thread = threading.Thread(target=self._pass, args=arguments)
                    self._threads.append(thread)
                    thread.start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:  # noqa: FBT001 - a thread's
        with contextlib.suppress(OSError), source:
            while piece := source.recv(65536):
                if answers and self.cuts:
                    self.cuts -= 1
                    break
                target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(service: RunningService) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(service)
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.mark.parametrize("label", ["rsa:2048", "ec:p256", "ed25519"])
def test_remote_key_signs_cms_like_any_other(service: RunningService, label: str) -> None:
    assert service.place.trust is not None
    with client_of(service) as client:
        key = client.key(service.key(label))
        signature = sign_detached(io.BytesIO(b"hello"), [key], SigningOptions())
    report = verify(io.BytesIO(signature), Expectations(trust=service.place.trust), io.BytesIO(b"hello"))
    assert report.holds


def test_key_is_found_by_its_label_or_uri_too(service: RunningService) -> None:
    with client_of(service) as client:
        key = client.key(service.key("ec:p256"))
        assert client.key(key.id.partition("/")[2]).id == key.id
        assert client.key(str(key.info.uri)).id == key.id
        with pytest.raises(KeyNotFoundError, match="no key is called nobody"):
            client.key("nobody")


def test_answer_that_is_lost_is_asked_for_again_and_done_once(
    service: RunningService, proxy: CuttingProxy
) -> None:
    with client_of(service, address=proxy.address) as client:
        key = client.key(service.key("ec:p256"))
        before = service.ask("GET", "/v1/audit/entries").json["size"]
        proxy.cuts = 1
        scheme = key.info.schemes.index("ecdsa-sha256")
        document = {
            "digests": ["LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="],
            "scheme": key.info.schemes[scheme],
        }
        answer = client.use(key.id, "signatures", document)
    assert answer["results"][0]["signature"]
    assert proxy.cuts == 0
    entries = service.ask("GET", f"/v1/audit/entries?start={before}").json["entries"]
    assert [json.loads(one["leaf"])["kind"] for one in entries] == ["intent", "outcome"]


def test_connection_that_breaks_twice_is_an_error(service: RunningService, proxy: CuttingProxy) -> None:
    with client_of(service, address=proxy.address) as client:
        client.keys()
        proxy.cuts = 2
        with pytest.raises(NetworkError):
            client.keys()


def test_problems_are_the_errors_of_the_library(service: RunningService) -> None:
    with client_of(service, "bob") as client:
        (key,) = client.keys()
        with pytest.raises(ForbiddenError, match="no grant lets bob"):
            client.use(
                service.key("rsa:2048"),
                "signatures",
                {"digests": ["LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="]},
            )
        with pytest.raises(UsageError):
            client.use(key.id, "signatures", {"digests": ["AAAA"]})
    with client_of(service) as client, pytest.raises(DecryptionError):
        client.decrypt(service.key("rsa:2048"), io.BytesIO(b"nonsense"), io.BytesIO())
    unknown = ClientCredentials(bearer="tokensign_unknown", trust=service.place.folder / "servers.pem")
    with ServiceClient(f"https://{service.address}", unknown) as client, pytest.raises(UnauthenticatedError):
        client.keys()


def test_service_of_another_ca_is_not_talked_to(service: RunningService) -> None:
    wrong = ClientCredentials(bearer="secret", trust=service.place.folder / "clients.pem")
    with ServiceClient(f"https://{service.address}", wrong) as client, pytest.raises(NetworkError):
        client.keys()
    assert "secret" not in repr(wrong)


def test_what_is_no_service_is_refused(service: RunningService) -> None:
    for url in ("http://localhost:1", "https://", "https://localhost/path"):
        with pytest.raises(UsageError, match="is no service"):
            ServiceClient(url, ClientCredentials())
    missing = ClientCredentials(certificate=service.place.folder / "missing.pem")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        ServiceClient("https://localhost:1", missing)
