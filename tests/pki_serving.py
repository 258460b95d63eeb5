"""A root, a CA below it and their services over HTTP, with keys in memory that sign as those on tokens do."""

from __future__ import annotations

import contextlib
import http.client
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from software_signer import SoftwareSigner

from tokensign.authority import Authority, create_authority, load_profile
from tokensign.authority.http import Services, application
from tokensign.authority.http_server import HttpServer, address_of, listening
from tokensign.authority.ocsp_responder import OcspResponder
from tokensign.authority.ocsp_service import OcspService
from tokensign.authority.publications import Publications
from tokensign.authority.signing_queue import SigningQueue
from tokensign.authority.tsa import TimestampIssuer
from tokensign.store import Store

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping
    from email.message import Message
    from pathlib import Path

    from tokensign.certificates import Certificate

__all__ = ["Answer", "Pki", "ask", "get", "post", "served_pki"]


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class Pki:
    """The CAs "root" and "people", and what is served for both.

    Attributes:
        folder: Where the database is, and PEM files of the CAs.
        listener: Where it will be served.
        url: What the certificates name; "" for where it will be served.
        partitions: Over how many CRLs "people" spreads what it issues.
        new_key: Makes the keys of all.
    """

    folder: Path
    listener: socket.socket
    url: str = ""
    partitions: int = 1
    new_key: Callable[[], rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = new_key
    root: Authority = field(init=False)
    people: Authority = field(init=False)
    root_key: SoftwareSigner = field(init=False)
    people_key: SoftwareSigner = field(init=False)

    def __post_init__(self) -> None:
        self.store = Store(self.folder / "ca.sqlite")
        self.url = self.url or f"http://{address_of(self.listener)}"
        root, people = SoftwareSigner(self.new_key()), SoftwareSigner(self.new_key())
        self.root = create_authority(
            self.store,
            "root",
            root,
            "CN=Acme Root,O=Acme,C=CH",
            profile=load_profile("root-ca"),
            url=f"{self.url}/root",
        )
        self.root_key = SoftwareSigner(root.key, self.root.certificate)
        self.people = create_authority(
            self.store,
            "people",
            people,
            "CN=Acme People,O=Acme,C=CH",
            profile=load_profile("subordinate-ca"),
            parent=(self.root, self.root_key),
            url=f"{self.url}/pki/people",
            partitions=self.partitions,
        )
        self.people_key = SoftwareSigner(people.key, self.people.certificate)
        self.write("root.pem", self.root.certificate)
        self.write("people.pem", self.people.certificate)

    def write(self, name: str, *certificates: Certificate) -> Path:
        path = self.folder / name
        path.write_text("".join(one.pem() for one in certificates))
        return path

    def issue(
        self,
        profile: str = "smime-mailbox-strict",
        by: str = "people",
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
        **options: Any,  # noqa: ANN401 - those of `Authority.issue`
    ) -> SoftwareSigner:
        """A certificate, with a new key unless one is told; of Alice, unless told."""
        authority, signer = (self.root, self.root_key) if by == "root" else (self.people, self.people_key)
        key = key or self.new_key()
        if profile.startswith("smime-mailbox"):
            options = {"subject": "CN=alice@acme.example", "emails": ["alice@acme.example"]} | options
        issued = authority.issue(signer, key.public_key(), load_profile(profile), **options)
        return SoftwareSigner(key, issued.certificate, issued.chain)

    def services(self, *, ocsp: bool = True, timestamps: bool = True) -> Services:
        queue = SigningQueue()
        responders = []
        if ocsp:
            delegate = self.issue("ocsp-responder", subject="CN=Acme OCSP,O=Acme,C=CH")
            responders = [
                (self.people, OcspResponder(self.people.certificate, delegate)),
                (self.root, OcspResponder(self.root.certificate, self.root_key)),
            ]
        tsa = None
        if timestamps:
            tsa = TimestampIssuer(self.issue("timestamping", "root", subject="CN=Acme TSA,O=Acme,C=CH"))
        return Services(
            Publications([self.root, self.people]),
            queue,
            OcspService(responders, queue) if responders else None,
            tsa,
        )


@contextlib.contextmanager
def served_pki(folder: Path, **options: Any) -> Iterator[Pki]:  # noqa: ANN401 - those of `Pki`
    """A PKI that is served on the loopback address as long as the block lasts."""
    with listening("127.0.0.1", 0) as listener:
        pki = Pki(folder, listener, **options)
        server = HttpServer(application(pki.services()), listener)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield pki
        finally:
            server.stop()
            thread.join()
            pki.store.close()


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: Message


def ask(
    pki: Pki,
    method: str,
    path: str,
    body: bytes | None = None,
    kind: str = "",
    fields: Mapping[str, str] | None = None,
) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(pki.url).netloc, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, body, ({"Content-Type": kind} if kind else {}) | dict(fields or {}))
        response = connection.getresponse()
        return Answer(response.status, response.read(), response.headers)


def get(pki: Pki, path: str) -> Answer:
    return ask(pki, "GET", path)


def post(pki: Pki, path: str, body: bytes, kind: str) -> Answer:
    return ask(pki, "POST", path, body, kind)
