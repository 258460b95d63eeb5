"""A service that is not what it was when the user trusted it: the client ends in an error of its own."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from service_place import ClientCa

from tokensign.algorithms import SCHEMES
from tokensign.cms.signed import SigningOptions, sign_detached
from tokensign.errors import ConfigurationError, NetworkError, SigningError, TokensignError, UsageError
from tokensign.service.client import ClientCredentials, ServiceClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
DOCUMENT = {
    "id": "acme/contracts",
    "uri": "pkcs11:object=contracts",
    "type": "ec:p256",
    "schemes": ["ecdsa-sha256"],
    "operations": ["sign"],
    "state": "up",
    "public_key": KEY.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    "certificate": None,
    "chain": [],
}


class HostileServer:
    """Answers one request a connection, with what it is told."""

    def __init__(self, folder: Path) -> None:
        ca = ClientCa(folder, "servers")
        ca.issue("server", x509.DNSName("localhost"), server=True)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(folder / "server.pem", folder / "server.key")
        self._listener = socket.create_server(("localhost", 0))
        self._trust = ca.file
        self.answers: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def client(self, **more: Any) -> ServiceClient:  # noqa: ANN401 - those of `ClientCredentials`
        url = f"https://localhost:{self._listener.getsockname()[1]}"
        return ServiceClient(url, ClientCredentials(trust=self._trust, **more))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with (
                contextlib.suppress(OSError),
                plain,
                self._tls.wrap_socket(plain, server_side=True) as client,
            ):
                client.settimeout(5)
                with client.makefile("rb") as request:
                    _take(request)
                client.sendall(self.answers.pop(0))


def _take(request: BinaryIO) -> None:
    """Read all of a request: a connection that ends before is reset, and the client would ask again."""
    size = 0
    while (line := request.readline()).strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            size = int(value)
    request.read(size)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HostileServer]:
    server = HostileServer(tmp_path)
    yield server
    server.close()


def answer(body: bytes, status: str = "200 OK", fields: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{fields}\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"9" * 10_000,
        b'{"keys": 1}',
        b'{"keys": ["x"]}',
        b"[]",
        b"\xff",
        *(
            json.dumps({"keys": [{**DOCUMENT, **changed}]}).encode()
            for changed in (
                {"id": 5},
                {"id": "\ud800"},
                {"type": ["\x1b[2J"]},
                {"uri": 1},
                {"uri": None},
                {"schemes": [1]},
                {"schemes": "\ud800"},
                {"operations": 5},
                {"state": None},
                {"public_key": 1},
                {"public_key": "-----BEGIN \ud800"},
                {"certificate": "x"},
                {"chain": [1]},
                {"chain": "x"},
            )
        ),
    ],
)
def test_list_of_keys_that_is_none_is_refused(server: HostileServer, body: bytes) -> None:
    server.answers = [answer(body)]
    with server.client() as client, pytest.raises(TokensignError):
        client.keys()


@pytest.mark.parametrize("status", ["302 Found", "500 Oops", "200 OK"])
def test_redirect_is_not_followed_and_no_problem_is_taken_for_an_answer(
    server: HostileServer, status: str
) -> None:
    server.answers = [answer(b"{" * 100_000, status, "Location: https://evil.example/\r\n")]
    with server.client(bearer="secret") as client, pytest.raises(NetworkError):
        client.keys()


def test_content_that_is_larger_than_its_message_is_refused(server: HostileServer) -> None:
    server.answers = [answer(b"x" * 101)]
    output = io.BytesIO()
    with server.client() as client, pytest.raises(NetworkError, match="more than was in the message"):
        client.decrypt("acme/contracts", io.BytesIO(bytes(100)), output)
    assert len(output.getvalue()) <= 100


def test_signature_that_is_none_is_not_released(server: HostileServer, tmp_path: Path) -> None:
    ClientCa(tmp_path, "people").issue("carol")
    pem = (tmp_path / "carol.pem").read_text()
    document = {**DOCUMENT, "certificate": pem}
    server.answers = [
        answer(json.dumps({"keys": [document]}).encode()),
        answer(b'{"results": [{"signature": "AAAA"}]}'),
    ]
    with server.client() as client:
        key = client.key("contracts")
        with pytest.raises(SigningError):
            sign_detached(io.BytesIO(b"hello"), [key], SigningOptions())


@pytest.mark.parametrize("body", [b'{"results": []}', b"[]", b'{"results": [{"signature": 5}]}', b"5"])
def test_answer_without_a_signature_is_refused(server: HostileServer, body: bytes) -> None:
    server.answers = [answer(json.dumps({"keys": [DOCUMENT]}).encode()), answer(body)]
    with server.client() as client:
        key = client.key("contracts")
        with pytest.raises(NetworkError):
            key.sign_digest(bytes(32), SCHEMES["ecdsa-sha256"])


@pytest.mark.parametrize("bearer", ["two\nlines", "two words", "\u00e4", "", "nul\0"])
def test_what_cannot_be_an_api_key_is_refused_and_not_told(bearer: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ClientCredentials(bearer=bearer)
    assert not bearer or bearer not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost:x",
        "https://localhost:99999",
        "https://user:secret@localhost",
        "https://[::1",
        "https://a#b",
    ],
)
def test_url_that_is_none_of_a_service_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        ServiceClient(url, ClientCredentials())
