"""A signing service that runs, and clients of it: in this process, with lanes in processes of their own."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import ssl
import subprocess
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import structlog
import structlog.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from databases import write_empty_database

from tokensign.authority.http_server import address_of, listening
from tokensign.service.app import application
from tokensign.service.granting import GrantTerms, add_grant
from tokensign.service.identities import add_identity, create_api_key
from tokensign.service.server import ServiceServer
from tokensign.service.settings import load_service_settings
from tokensign.service.start import assembled
from tokensign.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping, Sequence
    from pathlib import Path

    from lane_places import TokenPlace

    from tokensign.cades.extend import ExtensionMeans
    from tokensign.certificates import Certificate
    from tokensign.pki.policy import TrustPolicy
    from tokensign.service.context import Context
    from tokensign.service.settings import ServiceSettings

__all__ = [
    "Answer",
    "ClientCa",
    "RunningService",
    "ServicePlace",
    "digest_of",
    "openssl_verify",
    "running_service",
]

STOP_SECONDS = 20  # that the server's thread has to end


class ClientCa:
    """A CA in memory for the certificates of TLS; its own is `NAME.pem` in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        self.certificate = self._certificate(self._key, self._name, None, (-1, 30), ca=True)
        self.file.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(
        self, name: str, *names: x509.GeneralName, days: tuple[int, int] = (-1, 30), server: bool = False
    ) -> x509.Certificate:
        """A certificate in `NAME.pem`, and its key in `NAME.key`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        certificate = self._certificate(key, subject, purpose, days, *names)
        (self._folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self._folder / f"{name}.key").write_bytes(private)
        return certificate

    def revoke(self, *certificates: x509.Certificate) -> None:
        """Write the CRL `NAME.crl`, with these certificates in it."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder(self._name)
            .last_update(now - timedelta(minutes=1))
            .next_update(now + timedelta(days=1))
        )
        for one in certificates:
            entry = x509.RevokedCertificateBuilder(one.serial_number, now - timedelta(minutes=1)).build()
            builder = builder.add_revoked_certificate(entry)
        crl = builder.sign(self._key, hashes.SHA256())
        self.file.with_suffix(".crl").write_bytes(crl.public_bytes(Encoding.PEM))

    def _certificate(
        self,
        key: ec.EllipticCurvePrivateKey,
        subject: x509.Name,
        purpose: x509.ObjectIdentifier | None,
        days: tuple[int, int],
        *names: x509.GeneralName,
        ca: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


@dataclass
class ServicePlace:
    """The folder of a service that may run: Alice has a client certificate, Bob an API key, Carol nothing.

    Attributes:
        folder: Where its files are.
        token: The token that it serves.
        trust: Whom it trusts when it verifies.
        database: The URL of its database; "" for one in a file.
        means: Makes the levels of CAdES above B-B, or None.
    """

    folder: Path
    token: TokenPlace
    trust: TrustPolicy | None = None
    database: str = ""
    means: ExtensionMeans | None = None
    clients: ClientCa = field(init=False)
    bearers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clients = ClientCa(self.folder, "clients")
        localhost = x509.DNSName("localhost")
        ClientCa(self.folder, "servers").issue("server", localhost, server=True)
        self.clients.issue("alice", x509.UniformResourceIdentifier("urn:acme:alice"))
        if not self.database and not (self.folder / "service.sqlite").exists():
            write_empty_database(self.folder / "service.sqlite")
        with self.open_store() as store:
            add_identity(store, "alice", "uri", "urn:acme:alice")
        self.bearer("bob")

    def open_store(self) -> Store:
        return Store(self.database or self.folder / "service.sqlite")

    def bearer(self, principal: str, *, operations: Sequence[str] = ()) -> str:
        """An API key for somebody, which `RunningService.ask` sends from now on."""
        with self.open_store() as store:
            whole, _ = create_api_key(store, principal, days=1, operations=operations)
        self.bearers[principal] = whole
        return whole

    def grant(self, principal: str, key: str, *operations: str, **terms: Any) -> int:  # noqa: ANN401 - those of `GrantTerms`
        with self.open_store() as store:
            return add_grant(store, principal, GrantTerms(key=key, operations=operations, **terms))

    def settings(self, **more: Any) -> ServiceSettings:  # noqa: ANN401 - any settings
        lane = {
            "name": self.token.label,
            "module": str(self.token.module),
            "token": self.token.label,
            "pin-source": f"file:{self.token.pin}",
        }
        tls = {"certificate": "server.pem", "key": "server.key", "client-ca": "clients.pem"}
        table = {"listen": "localhost:0", "tls": tls | more.pop("tls", {}), "lanes": [lane], **more}
        return load_service_settings(table, self.folder)


@dataclass(frozen=True)
class Answer:
    """What the service answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @cached_property
    def json(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The kind of the problem that it is."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        assert self.json["status"] == self.status
        assert self.json["request_id"] == self.headers["x-request-id"]
        return str(self.json["type"]).removeprefix("urn:tokensign:problem:")


@dataclass(frozen=True)
class RunningService:
    """A service that runs.

    Attributes:
        place: Its files.
        context: Its parts.
        address: HOST:PORT.
        log: The lines of its log.
    """

    place: ServicePlace
    context: Context
    address: str
    log: list[MutableMapping[str, Any]]

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        *,
        who: str | None = "alice",
        media_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Ask as somebody, with an API key or else a certificate; None: with neither."""
        fields = dict(headers or {})
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        if body is not None:
            fields["Content-Type"] = media_type
        if who in self.place.bearers:
            fields["Authorization"] = f"Bearer {self.place.bearers[who]}"
        connection = http.client.HTTPSConnection(self.address, timeout=20, context=self.tls(who))
        with contextlib.closing(connection):
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def tls(self, who: str | None) -> ssl.SSLContext:
        """TLS as somebody speaks it."""
        folder = self.place.folder
        context = ssl.create_default_context(cafile=folder / "servers.pem")
        if who is not None and (folder / f"{who}.pem").exists():
            context.load_cert_chain(folder / f"{who}.pem", folder / f"{who}.key")
        return context

    def key(self, label: str) -> str:
        """The id of a key."""
        (found,) = (key.id for key in self.context.lanes.keys().values() if key.uri.object == label)
        return found

    def sign(self, label: str, who: str | None = "alice", **wanted: Any) -> Answer:  # noqa: ANN401 - any JSON
        """Ask for a signature over the digest of `hello`, if nothing else is wanted."""
        headers = wanted.pop("headers", None)
        if "messages" not in wanted:
            wanted.setdefault("digests", [digest_of(b"hello")])
        path = f"/v1/keys/{quote(self.key(label))}/signatures"
        return self.ask("POST", path, wanted, who=who, headers=headers)


def digest_of(content: bytes, name: str = "sha256") -> str:
    """A hash value in base64."""
    return base64.b64encode(hashlib.new(name, content).digest()).decode()


@contextlib.contextmanager
def running_service(place: ServicePlace, **settings: Any) -> Iterator[RunningService]:  # noqa: ANN401 - as `ServicePlace`
    """A service, from its start to its graceful end."""
    chosen = place.settings(**settings)
    keep_ids = structlog.contextvars.merge_contextvars
    with structlog.testing.capture_logs(processors=[keep_ids]) as log, place.open_store() as store:
        context = assembled(chosen, store, place.trust, place.means)
        listener = listening(*chosen.listen)
        address = f"localhost:{address_of(listener).rpartition(':')[2]}"
        server = ServiceServer(application(context), listener, chosen, context.tls)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            running = RunningService(place, context, address, log)
            assert running.ask("GET", "/livez", who=None).status == 200
            yield running
        finally:
            server.stop()
            thread.join(STOP_SECONDS)
        assert not thread.is_alive()


def openssl_verify(
    folder: Path, signer: Certificate | None, message: bytes, content: bytes | None = None
) -> bytes:
    """The content of a message that `openssl cms -verify` accepts."""
    assert signer is not None
    (folder / "message").write_bytes(message)
    (folder / "signer.pem").write_text(signer.pem())
    command = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", folder / "message"]
    command += ["-partial_chain", "-CAfile", folder / "signer.pem", "-purpose", "any"]
    if content is not None:
        (folder / "content").write_bytes(content)
        command += ["-content", folder / "content"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert b"CMS Verification successful" in done.stderr, done.stderr
    return done.stdout
