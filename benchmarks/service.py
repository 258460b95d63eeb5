# ruff: noqa: T201 - a benchmark prints what it measured
"""Signatures a second through `tokensign serve`, beside the raw token loop, in turns.

    python -m benchmarks.service [--rounds N] [--seconds S] [--clients N] [--plain] [--case N]

All processes are on this machine: the clients, the service, its lanes. Grants are checked, and the audit is
on the disk before a signature leaves. The raw loop signs a ready hash value in one process and does nothing
else. Rates are of elapsed time.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pkcs11

from benchmarks import peers
from benchmarks.http_load import Load, Target, post
from benchmarks.identities import LABEL, USER_PIN, certified_key, throwaway_token
from tokensign.service.granting import GrantTerms, add_grant
from tokensign.service.identities import add_identity, create_api_key
from tokensign.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.rounds import Contender
    from tokensign.token import Token

_READY_SECONDS = 30


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        spec: The type of the key.
        workers: Of the lane.
        digests: In a request.
        clients: That ask at once.
    """

    spec: str
    workers: int
    digests: int
    clients: int

    def __str__(self) -> str:
        return f"{self.spec}, {self.workers} workers, {self.digests} a request, {self.clients} clients"


CASES = (
    Case("rsa:2048", 1, 1, 64),
    Case("rsa:2048", 2, 1, 64),
    Case("rsa:4096", 1, 1, 64),
    Case("rsa:4096", 2, 1, 64),
    Case("ec:p256", 1, 1, 64),
    Case("ec:p256", 1, 100, 8),
)


class Place:
    """The files of a service, and who may use it.

    Args:
        token: Its token.
        folder: Where they go.
        plain: Whether clients have API keys and no TLS, as behind a proxy; otherwise certificates.
    """

    def __init__(self, token: Token, folder: Path, *, plain: bool) -> None:
        self._folder = folder
        self._module = token.module.path
        self._plain = plain
        (folder / "pin").touch(mode=0o600)
        (folder / "pin").write_text(USER_PIN)
        with Store(folder / "service.sqlite") as store:
            add_grant(store, "alice", GrantTerms(key="*", operations=("sign",)))
            add_identity(store, "alice", "uri", "urn:acme:alice")
            self._bearer, _ = create_api_key(store, "alice", days=1)
        for name, names in (("server", "DNS:localhost"), ("client", "URI:urn:acme:alice")):
            self._certify(name, names)

    def _certify(self, name: str, names: str) -> None:
        """A certificate that vouches for itself."""
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
        options = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"]
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(
            [*command.split(), *options, *files], cwd=self._folder, check=True, capture_output=True
        )

    @contextlib.contextmanager
    def service(self, workers: int) -> Iterator[Target]:
        """`tokensign serve`, with so many workers."""
        lines = ['database = "service.sqlite"', "[service]", 'listen = "localhost:0"']
        if not self._plain:
            lines += ["[service.tls]", 'certificate = "server.pem"', 'key = "server.key"']
            lines += ['client-ca = "client.pem"']
        lines += ["[[service.lanes]]", f'name = "{LABEL}"', f'module = "{self._module}"']
        lines += [f'token = "{LABEL}"', 'pin-source = "file:pin"', f"workers = {workers}"]
        (self._folder / "service.toml").write_text("\n".join(lines))
        command = [
            sys.executable,
            "-m",
            "tokensign",
            "serve",
            "--config",
            self._folder / "service.toml",
            "--json",
        ]
        with (
            (self._folder / "log").open("w") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
        ):
            try:
                told = json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")
                target = self._target(told["url"])
                self._wait_for_workers(told["url"], target)
                yield target
            finally:
                process.terminate()

    def request(self, key: str, digests: int) -> bytes:
        """A request for signatures over so many digests."""
        values = [hashlib.sha256(os.urandom(32)).digest() for _ in range(digests)]
        body = json.dumps({"digests": [base64.b64encode(one).decode() for one in values]}).encode()
        bearer = [f"Authorization: Bearer {self._bearer}"] if self._plain else []
        return post(f"/v1/keys/{LABEL}/{key.replace(':', '=3A')}/signatures", body, *bearer)

    def _target(self, url: str) -> Target:
        port = urlsplit(url).port
        if self._plain:
            return Target(("localhost", port))
        context = ssl.create_default_context(cafile=self._folder / "server.pem")
        context.load_cert_chain(self._folder / "client.pem", self._folder / "client.key")
        return Target(("localhost", port), context)

    def _wait_for_workers(self, url: str, target: Target) -> None:
        """Until the service is ready; its further workers are then, too, after a second."""
        end = time.monotonic() + _READY_SECONDS
        place = f"{urlsplit(url).scheme}://localhost:{urlsplit(url).port}/readyz"
        while time.monotonic() < end:
            with contextlib.suppress(OSError), urllib.request.urlopen(place, context=target.tls, timeout=5):  # noqa: S310 - ours
                break
            time.sleep(0.1)
        time.sleep(1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a turn (default: 3)")
    parser.add_argument("--clients", type=int, help="that ask at once (default: as many as fill the service)")
    parser.add_argument("--plain", action="store_true", help="API keys without TLS instead of certificates")
    parser.add_argument("--case", type=int, action="append", help="only the case of this number, from 0")
    arguments = parser.parse_args()
    with throwaway_token() as token, tempfile.TemporaryDirectory() as folder:
        place = Place(token, Path(folder), plain=arguments.plain)
        raw = dict(_raw_loops(token))
        chosen = [CASES[number] for number in arguments.case or range(len(CASES))]
        for case in [replace(one, clients=arguments.clients or one.clients) for one in chosen]:
            with place.service(case.workers) as target:
                load = Load(target, [place.request(case.spec, case.digests) for _ in range(16)])
                load.run(case.clients, 1.0)  # until everything is warm
                load.latencies.clear()
                _measure(case, raw[case.spec], load, arguments.rounds, arguments.seconds)


def _raw_loops(token: Token) -> Iterator[tuple[str, Contender]]:
    session = None
    for spec in sorted({case.spec for case in CASES}):
        key = certified_key(token, spec)
        session = session or pkcs11.lib(str(token.module.path)).get_token(token_label=LABEL).open()
        yield spec, peers.raw(session, key, hashlib.sha256(b"content").digest())


def _measure(case: Case, raw: Contender, load: Load, rounds: int, seconds: float) -> None:
    """In turns, so that what else the machine does disturbs both."""
    raw_rates, rates = [], []
    for _ in range(rounds):
        raw_rates.append(_raw_rate(raw, seconds))
        rates.append(load.run(case.clients, seconds) * case.digests)
    rate, alone = statistics.median(rates), statistics.median(raw_rates)
    ratio = statistics.median(one / other for one, other in zip(rates, raw_rates, strict=True))
    latencies = sorted(load.latencies)
    p50, p99 = (1e3 * latencies[len(latencies) * part // 100] for part in (50, 99))
    print(
        f"{case!s:50} {rate:8,.0f} /s  {ratio:6.1%} of {alone:,.0f} /s   p50 {p50:.1f} ms  p99 {p99:.1f} ms"
    )
    for status, count in load.refused.items():
        print(f"{'':50} {count:8,} answers with {status.decode()}")


def _raw_rate(raw: Contender, seconds: float) -> float:
    count, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < seconds:
        raw.repeat(100)
        count += 100
    return count / elapsed


if __name__ == "__main__":
    main()
