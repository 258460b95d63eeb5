"""`ca serve` and `timestamp reply`: the processes."""

# ruff: noqa: S310 - the URLs are those of our own server

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tokensign.certificates import load_certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Terminal


@pytest.fixture(scope="module")
def acme(new_terminal: Callable[[Path], Terminal], tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """A terminal with the CA "acme", and certified keys for OCSP and timestamps; for all tests here."""
    terminal = new_terminal(tmp_path_factory.mktemp("acme"))
    terminal.run("token", "init", "acme", "--so-pin-source", "file:so-pin")
    terminal.environment["TOKENSIGN_DATABASE"] = str(terminal.folder / "ca.sqlite")
    for key in ("ca", "ocsp", "tsa"):
        terminal.run("key", "generate", key, "--type", "ec:p256")
    subject = "CN=Acme CA,O=Acme,C=CH"
    url = "http://pki.acme.example/acme"
    terminal.run("ca", "init", "acme", "--key", "ca", "--subject", subject, "--url", url, "-o", "root.pem")
    for key, profile in (("ocsp", "ocsp-responder"), ("tsa", "timestamping")):
        terminal.run("cert", "request", key, "--subject", f"CN=Acme {key}", "-o", f"{key}.csr")
        terminal.run("ca", "issue", f"{key}.csr", "--profile", profile, "-o", f"{key}.pem")
        terminal.run("cert", "import", f"{key}.pem")
    return terminal


@pytest.fixture
def serving(acme: Terminal) -> Iterator[Callable[..., tuple[subprocess.Popen[bytes], dict[str, Any]]]]:
    """Start `ca serve` on a free port, and wait until it says where."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
        process = acme.start("ca", "serve", "--listen", "127.0.0.1:0", "--json", *options)
        started.append(process)
        text = b""
        while not text.endswith(b"\n}\n"):
            line = process.stdout.readline()  # type: ignore[union-attr]
            assert line, process.stderr.read()  # type: ignore[union-attr]
            text += line
        return process, json.loads(text)

    yield start
    for process in started:
        with process:
            process.kill()


def test_serves_until_it_is_told_to_stop(acme: Terminal, serving: Callable[..., Any]) -> None:
    process, told = serving("--ocsp-key", "ocsp", "--tsa-key", "tsa")
    assert told["authorities"] == [{"name": "acme", "path": "/acme", "ocsp": True}]
    root = acme.folder / "root.pem"
    asked = ["-url", f"{told['url']}/acme/ocsp", "-issuer", root, "-CAfile", root, "-cert"]
    for certificate, expected in (("tsa.pem", "good"), ("ocsp.pem", "good")):
        command = ["openssl", "ocsp", *asked, certificate]
        done = subprocess.run(command, cwd=acme.folder, capture_output=True, timeout=30, check=True)
        assert f"{certificate}: {expected}".encode() in done.stdout
        assert b"Response verify OK" in done.stderr
    with pytest.raises(urllib.error.HTTPError, match="404"):  # there is none yet
        urllib.request.urlopen(f"{told['url']}/acme/ca.crl", timeout=20)
    acme.run("ca", "crl", "-o", "ca.crl")
    with urllib.request.urlopen(f"{told['url']}/acme/ca.crl", timeout=20) as answer:
        assert answer.read() == (acme.folder / "ca.crl").read_bytes()
    (acme.folder / "data").write_text("letter")
    acme.run("timestamp", "query", "data", "-o", "data.tsq")
    query = urllib.request.Request(
        f"{told['url']}/tsa",
        (acme.folder / "data.tsq").read_bytes(),
        {"Content-Type": "application/timestamp-query"},
    )
    with urllib.request.urlopen(query, timeout=20) as answer:
        (acme.folder / "data.tsr").write_bytes(answer.read())
    acme.run("timestamp", "verify", "data.tsr", "--data", "data", "--trust", "root.pem")
    process.send_signal(signal.SIGTERM)
    acme.finish(process, 0)


def test_token_that_goes_away_and_comes_back(acme: Terminal, serving: Callable[..., Any]) -> None:
    _, told = serving("--ocsp-key", "ocsp")
    root = acme.folder / "root.pem"
    ask = ("openssl", "ocsp", "-url", f"{told['url']}/acme/ocsp", "-issuer", str(root), "-CAfile", str(root))

    def status(*options: str) -> str:
        done = subprocess.run(
            [*ask, "-cert", "tsa.pem", *options],
            cwd=acme.folder,
            capture_output=True,
            timeout=30,
            check=False,
        )
        return (done.stdout + done.stderr).decode()

    assert "tsa.pem: good" in status("-nonce")
    assert "tsa.pem: good" in status("-no_nonce")
    (token,) = (acme.folder / "tokens").iterdir()
    away = token.rename(acme.folder / "away")
    try:
        assert "internalerror" in status("-nonce")
        assert "tsa.pem: good" in status("-no_nonce")  # signed before
    finally:
        away.rename(token)
    end = time.monotonic() + 20
    while "tsa.pem: good" not in status("-nonce"):
        assert time.monotonic() < end


def test_six_hundred_silent_clients_keep_nobody_out(serving: Callable[..., Any]) -> None:
    process, told = serving()
    parts = urlsplit(told["url"])
    address = parts.hostname, parts.port
    before = resident(process.pid)
    with contextlib.ExitStack() as stack:
        for number in range(600):
            stream = stack.enter_context(socket.create_connection(address, timeout=20))
            if number % 2:
                stream.sendall(b"GET /acme/ca.cer HTTP/1.1\r\nX: " + b"x" * 10_000)
        with urllib.request.urlopen(f"{told['url']}/acme/ca.cer", timeout=20) as answer:
            assert answer.status == 200
        assert resident(process.pid) - before < 40_000


def resident(pid: int) -> int:
    """The resident memory of a process and its children, kB."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    statuses = [Path(f"/proc/{one}/status").read_text() for one in (pid, *children)]
    return sum(int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) for status in statuses)  # type: ignore[index]


def test_revoked_responder_is_refused_at_once(acme: Terminal) -> None:
    acme.run("key", "generate", "lost", "--type", "ec:p256")
    acme.run("cert", "request", "lost", "--subject", "CN=Acme lost", "-o", "lost.csr")
    acme.run("ca", "issue", "lost.csr", "--profile", "ocsp-responder", "-o", "lost.pem")
    acme.run("cert", "import", "lost.pem")
    (lost,) = load_certificates((acme.folder / "lost.pem").read_bytes())
    acme.run("ca", "revoke", f"{lost.serial_number:x}", "--reason", "keyCompromise")
    refused = acme.run("ca", "serve", "--ocsp-key", "lost", code=1)
    assert "is revoked by the CA acme" in refused.error


def test_key_without_the_certificate_is_refused_with_the_way_to_one(acme: Terminal) -> None:
    refused = acme.run("ca", "serve", "--ocsp-key", "tsa", code=3)
    assert "the key tsa has no certificate for ocsp signing" in refused.error
    assert "--profile ocsp-responder" in refused.error


def test_without_keys_it_serves_files(serving: Callable[..., Any]) -> None:
    _, told = serving()
    with urllib.request.urlopen(f"{told['url']}/acme/ca.cer", timeout=20) as answer:
        assert answer.headers["Content-Type"] == "application/pkix-cert"
    for path in ("/tsa", "/acme/ocsp"):
        with pytest.raises(urllib.error.HTTPError, match=r"40[45]"):
            urllib.request.urlopen(urllib.request.Request(told["url"] + path, b"x"), timeout=20)


def test_addresses_that_cannot_be_meant_are_refused(acme: Terminal) -> None:
    for address in ("8080", "localhost", "127.0.0.1:70000", "::1:80"):
        assert "is no address" in acme.run("ca", "serve", "--listen", address, code=2).error


def test_reply_is_a_timestamp_that_verifies(acme: Terminal) -> None:
    (acme.folder / "data").write_text("letter")
    acme.run("timestamp", "query", "data", "-o", "query.tsq")
    reply = ("timestamp", "reply", "query.tsq", "--key", "tsa", "-o", "reply.tsr")
    made = acme.run(*reply, "--accuracy", "0.5", "--json").json
    verify = ("timestamp", "verify", "reply.tsr", "--data", "data", "--query", "query.tsq")
    verified = acme.run(*verify, "--trust", "root.pem", "--json").json
    assert verified["serial_number"] == made["serial_number"]
    assert verified["accuracy_seconds"] == 0.5
    judge = ["openssl", "ts", "-verify", "-in", "reply.tsr", "-CAfile", "root.pem", "-untrusted", "tsa.pem"]
    for source in (["-queryfile", "query.tsq"], ["-data", "data"]):
        subprocess.run([*judge, *source], cwd=acme.folder, capture_output=True, timeout=30, check=True)
    acme.run(*reply, code=5)  # it exists
    acme.run("timestamp", "query", "data", "--policy", "1.2.3", "-o", "other.tsq")
    rejected = acme.run("timestamp", "reply", "other.tsq", "--key", "tsa", "-o", "other.tsr", code=4)
    assert "the request was rejected: the policy of this authority is 2.5.29.32.0" in rejected.error
    assert b"2.5.29.32.0" in (acme.folder / "other.tsr").read_bytes()
