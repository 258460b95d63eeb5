# ruff: noqa: T201 - a benchmark prints what it measured
"""OCSP answers per second of `tokensign ca serve` beside `openssl ocsp`, in the same run, in turns.

    python -m benchmarks.ocsp

Both know the same certificates and have a P-256 key; that of tokensign is on a token of SoftHSM. openssl
signs each answer and ends each connection. So all are asked over new connections; tokensign also over
connections that stay, as proxies keep them, and for answers with a nonce, which it signs one by one, too.

The clients share the machine. What a server does in a second of its own processor time depends on them least,
so the ratios are of that.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import ocsp

from benchmarks.identities import USER_PIN, throwaway_token
from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.authority import create_authority, load_profile
from tokensign.pki.revocation.ocsp import certificate_id, ocsp_request
from tokensign.store import Store
from tokensign.token import generate_key, import_certificate, open_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.certificates import Certificate
    from tokensign.token import Token

CERTIFICATES = 50
CLIENTS = 4
PATH = "/acme/ocsp"  # of a CA without a URL: its name


@dataclass(frozen=True)
class Server:
    """A process that answers.

    Attributes:
        pid: Its number.
        address: Where it listens.
    """

    pid: int
    address: tuple[str, int]

    def processor_seconds(self) -> float:
        """What it and its child, which has the token, have taken so far, user and system."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        ticks = 0
        for pid in (self.pid, *children):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # utime and stime of proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Rate:
    """What one turn showed.

    Attributes:
        by_clock: Answers per second.
        by_processor: Answers per second of the server's processor time.
    """

    by_clock: float
    by_processor: float


@dataclass(frozen=True)
class Contender:
    """A responder, and how it is asked.

    Attributes:
        name: What to call it.
        server: The process.
        path: Of its URL.
        requests: OCSPRequests, DER.
        stays: Whether a client asks all over one connection.
    """

    name: str
    server: Server
    path: str
    requests: Sequence[bytes]
    stays: bool = False


class Scene:
    """A CA whose keys are on a token, and what both responders need.

    Args:
        token: The token.
        folder: Where files go.
    """

    def __init__(self, token: Token, folder: Path) -> None:
        self.folder = folder
        database = folder / "ca.sqlite"
        (folder / "pin").touch(mode=0o600)
        (folder / "pin").write_text(f"{USER_PIN}\n")
        self.environment = os.environ | {
            "TOKENSIGN_PIN_SOURCE": f"file:{folder / 'pin'}",
            "TOKENSIGN_DATABASE": str(database),
        }
        ca, delegate = (
            open_key(token, generate_key(token, label, KeySpec.parse("ec:p256"), KeyUsage.SIGN))
            for label in ("ca", "ocsp")
        )
        peer = ec.generate_private_key(ec.SECP256R1())
        with Store(database) as store:
            self.authority = create_authority(store, "acme", ca, "CN=Acme", profile=load_profile("root-ca"))

            def issue(key: PublicKeyTypes, subject: str, profile: str) -> Certificate:
                issued = self.authority.issue(ca, key, load_profile(profile), subject=subject)
                return issued.certificate

            import_certificate(token, issue(delegate.public_key, "CN=Acme OCSP", "ocsp-responder"))
            certified = issue(peer.public_key(), "CN=Peer OCSP", "ocsp-responder")
            person = peer.public_key()  # whose key it is makes no difference to anybody here
            self.certificates = [
                issue(person, f"CN=Alice {number}", "tls-client") for number in range(CERTIFICATES)
            ]
        self._prepare_openssl(peer, certified)

    def _prepare_openssl(self, key: ec.EllipticCurvePrivateKey, certificate: Certificate) -> None:
        """Its key, certified by the same CA, and the index of `openssl ca`."""
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.folder / "peer.key").write_bytes(pem)
        (self.folder / "peer.pem").write_text(certificate.pem())
        (self.folder / "root.pem").write_text(self.authority.certificate.pem())
        lines = (
            f"V\t{one.not_after:%y%m%d%H%M%S}Z\t\t{_hexadecimal(one)}\tunknown\t/CN={number}\n"
            for number, one in enumerate(self.certificates)
        )
        (self.folder / "index.txt").write_text("".join(lines))

    def requests(self, *, nonce: bool) -> list[bytes]:
        """What is asked, again and again."""
        issuer = self.authority.certificate
        return [ocsp_request(one, issuer)[0] if nonce else _plain(one, issuer) for one in self.certificates]

    @contextlib.contextmanager
    def tokensign(self) -> Iterator[Server]:
        """`ca serve`."""
        command = [sys.executable, "-m", "tokensign", "ca", "serve", "--listen", "127.0.0.1:0"]
        with subprocess.Popen(
            [*command, "--ocsp-key", "ocsp", "--json"],
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
        ) as process:
            try:
                told = json.loads("".join(_up_to(process.stdout or (), "}\n")))
                host, port = told["url"].removeprefix("http://").split(":")
                yield Server(process.pid, (host, int(port)))
            finally:
                process.terminate()

    @contextlib.contextmanager
    def openssl(self) -> Iterator[Server]:
        """`openssl ocsp`."""
        files = ["-index", "index.txt", "-CA", "root.pem", "-rsigner", "peer.pem", "-rkey", "peer.key"]
        command = ["openssl", "ocsp", "-port", "0", *files, "-nmin", "60"]
        with (
            (self.folder / "log").open("wb") as log,  # a line for each request
            subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=subprocess.DEVNULL) as process,
        ):
            try:
                port = _told_port(self.folder / "log")
                yield Server(process.pid, ("127.0.0.1", port))
            finally:
                process.kill()


def _up_to(lines: Iterable[str], last: str) -> Iterator[str]:
    for line in lines:
        yield line
        if line == last:
            return


def _hexadecimal(certificate: Certificate) -> str:
    """A serial number in whole octets, as the index of `openssl ca` has it."""
    text = f"{certificate.serial_number:X}"
    return text if len(text) % 2 == 0 else f"0{text}"


def _plain(certificate: Certificate, issuer: Certificate) -> bytes:
    """An OCSPRequest without a nonce, as most clients send it."""
    names = certificate_id(certificate, issuer)
    request = ocsp.OCSPRequestBuilder().add_certificate_by_hash(*names, hashes.SHA1())  # noqa: S303 - as they do
    return request.build().public_bytes(Encoding.DER)


def _exchange(stream: socket.socket, contender: Contender, request: bytes) -> None:
    """One request and its whole answer, which must be a signed one."""
    head = (
        f"POST {contender.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/ocsp-request\r\n"
        f"Content-Length: {len(request)}\r\n"
    )
    end = "\r\n" if contender.stays else "Connection: close\r\n\r\n"
    stream.sendall((head + end).encode() + request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(stream, contender)
    fields, _, body = data.partition(b"\r\n\r\n")
    lines = fields.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length"))
    while len(body) < length:
        body += _received(stream, contender)
    status = ocsp.load_der_ocsp_response(body).response_status
    if status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise ValueError(f"{contender.name} did not answer: {status}")


def _received(stream: socket.socket, contender: Contender) -> bytes:
    piece = stream.recv(8192)
    if not piece:
        raise ConnectionError(f"{contender.name} closed the connection")
    return piece


def _client(contender: Contender, until: float, counts: list[int]) -> None:
    count = 0
    while time.monotonic() < until:
        with socket.create_connection(contender.server.address, timeout=30) as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                _exchange(stream, contender, contender.requests[count % len(contender.requests)])
                count += 1
                if not contender.stays or time.monotonic() >= until:
                    break
    counts.append(count)


def _rate(contender: Contender, seconds: float) -> Rate:
    """Let CLIENTS ask at once."""
    counts: list[int] = []
    begun, taken = time.monotonic(), contender.server.processor_seconds()
    threads = [
        threading.Thread(target=_client, args=(contender, begun + seconds, counts)) for _ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(counts) < CLIENTS:
        raise RuntimeError(f"a client of {contender.name} failed")
    taken = contender.server.processor_seconds() - taken
    return Rate(sum(counts) / (time.monotonic() - begun), sum(counts) / taken)


def _measure(contenders: Sequence[Contender], rounds: int, seconds: float) -> dict[str, list[Rate]]:
    """All take turns, in an order that moves on by one each round."""
    found: dict[str, list[Rate]] = {one.name: [] for one in contenders}
    for number in range(rounds):
        start = number % len(contenders)
        for one in (*contenders[start:], *contenders[:start]):
            found[one.name].append(_rate(one, seconds))
    return found


def _told_port(log: Path) -> int:
    """The port of "ACCEPT [::]:1234 PID=5"; openssl takes up a whole core when a client says nothing."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        told = re.match(r"ACCEPT .*:(\d+) PID", log.read_text())
        if told is not None:
            return int(told[1])
        time.sleep(0.05)
    raise TimeoutError("openssl ocsp does not start")


def main() -> None:
    """Measure, and print medians and ratios."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ocsp", description="OCSP answers per second beside openssl ocsp."
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="that a turn lasts")
    options = parser.parse_args()
    with throwaway_token() as token, tempfile.TemporaryDirectory() as folder:
        scene = Scene(token, Path(folder))
        with scene.tokensign() as own, scene.openssl() as peer:
            plain, nonce = scene.requests(nonce=False), scene.requests(nonce=True)
            contenders = [
                Contender("openssl ocsp, a connection each", peer, "/", plain),
                Contender("tokensign, a connection each", own, PATH, plain),
                Contender("tokensign, connections that stay", own, PATH, plain, stays=True),
                Contender("openssl ocsp, nonce, a connection each", peer, "/", nonce),
                Contender("tokensign, nonce, a connection each", own, PATH, nonce),
            ]
            found = _measure(contenders, options.rounds, options.seconds)
    print(f"{CLIENTS} clients, {options.rounds} rounds of {options.seconds} s each; medians")
    print(f"{'answers per second, of processor time':>83}{'ratio':>9}")
    for one in contenders:
        rates = found[one.name]
        ratio = statistics.median(
            rate.by_processor / other.by_processor
            for rate, other in zip(rates, found[contenders[0].name], strict=True)
        )
        by_clock = statistics.median(rate.by_clock for rate in rates)
        by_processor = statistics.median(rate.by_processor for rate in rates)
        print(f"{one.name:40}{by_clock:>22,.0f}{by_processor:>21,.0f}{ratio:>8.2f}x")


if __name__ == "__main__":
    main()
