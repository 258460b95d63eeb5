"""The HTTP client against servers that are late, large, wrong, or elsewhere."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import loopback
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tokensign.errors import NetworkError
from tokensign.pki import http
from tokensign.pki.http import EVERYWHERE, HttpClient, Limits, fetch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Toolbox
    from loopback import Exchange, Website

HERE = (ipaddress.ip_network("127.0.0.1/32"),)
QUICK = Limits(seconds=0.5, octets=1 << 20, private_networks=HERE)
SLACK = 0.5  # seconds that a busy machine may add to a limit


def test_a_body_is_fetched(website: Website) -> None:
    url = website.serve("/list.crl?a=b", lambda exchange: exchange.answer(b"a list"))
    assert fetch(url, limits=QUICK) == b"a list"


def test_a_body_is_posted_with_its_type(website: Website) -> None:
    def echo(exchange: Exchange) -> None:
        media = exchange.handler.headers["Content-Type"]
        exchange.answer(exchange.handler.command.encode() + b" " + media.encode() + b" " + exchange.body)

    url = website.serve("/ocsp", echo)
    client = HttpClient(QUICK)
    assert client(url, body=b"request", content_type="application/ocsp-request") == (
        b"POST application/ocsp-request request"
    )


BAD_PAGES: dict[str, tuple[Callable[[Exchange], None], str]] = {
    "never answers": (lambda exchange: exchange.never(), "gave no answer within 0.5 seconds"),
    "dribbles headers": (
        lambda exchange: exchange.dribble(b"HTTP/1.1 200 OK\r\nX-Slow: "),
        "gave no answer within 0.5 seconds",
    ),
    "dribbles its body": (
        lambda exchange: exchange.dribble(b"HTTP/1.1 200 OK\r\n\r\n"),
        "gave no answer within 0.5 seconds",
    ),
    "has endless headers": (
        lambda exchange: exchange.dribble(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000, 0),
        "cannot ask",
    ),
    "pours more than is taken": (
        lambda exchange: exchange.pour(1 << 24),
        "larger than the 1048576 octets that are taken",
    ),
    "is compressed unasked": (
        lambda exchange: exchange.answer(b"\x1f\x8b", Content_Encoding="gzip"),
        "in an encoding that was not asked for",
    ),
    "does not find it": (lambda exchange: exchange.answer(b"no", status=404), "answered with status 404"),
    "has nothing new": (lambda exchange: exchange.answer(b"", status=304), "answered with status 304"),
    "speaks no HTTP": (
        lambda exchange: exchange.handler.wfile.write(b"220 smtp\r\n\r\n") and None,
        "cannot ask",
    ),
    "hangs up": (lambda exchange: exchange.handler.connection.shutdown(socket.SHUT_RDWR), "cannot ask"),
}


@pytest.mark.parametrize("what", BAD_PAGES)
def test_a_server_that_does_not_do_as_it_should_costs_no_more_than_the_limits(
    website: Website, what: str
) -> None:
    page, reason = BAD_PAGES[what]
    url = website.serve("/page", page)
    started = time.monotonic()
    with pytest.raises(NetworkError, match=reason):
        fetch(url, limits=QUICK)
    assert time.monotonic() - started < QUICK.seconds + SLACK


def test_a_shorter_time_than_the_limit_may_be_asked_for(website: Website) -> None:
    url = website.serve("/page", lambda exchange: exchange.never())
    started = time.monotonic()
    with pytest.raises(NetworkError, match=r"gave no answer within 0\.2 seconds"):
        fetch(url, limits=QUICK, seconds=0.2)
    assert time.monotonic() - started < 0.2 + SLACK
    with pytest.raises(NetworkError, match=r"within 0\.5 seconds"):
        fetch(url, limits=QUICK, seconds=60)


def test_redirects_share_one_limit_of_time(website: Website) -> None:
    def late(exchange: Exchange) -> None:
        time.sleep(0.3)
        exchange.redirect("/page")

    url = website.serve("/page", late)
    started = time.monotonic()
    with pytest.raises(NetworkError, match=r"gave no answer within 0\.5 seconds"):
        fetch(url, limits=QUICK)
    assert time.monotonic() - started < QUICK.seconds + SLACK


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(website: Website, status: int) -> None:
    website.serve("/new", lambda exchange: exchange.answer(b"here"))
    url = website.serve("/old", lambda exchange: exchange.redirect("new", status))
    assert fetch(url, limits=QUICK) == b"here"


def test_a_request_with_a_body_is_repeated_only_where_that_is_meant(website: Website) -> None:
    website.serve("/new", lambda exchange: exchange.answer(exchange.body))
    repeated = website.serve("/307", lambda exchange: exchange.redirect("/new", 307))
    assert fetch(repeated, body=b"request", limits=QUICK) == b"request"
    lost = website.serve("/302", lambda exchange: exchange.redirect("/new"))
    with pytest.raises(NetworkError, match="redirects a request that it should answer"):
        fetch(lost, body=b"request", limits=QUICK)


def test_a_loop_of_redirects_ends(website: Website) -> None:
    url = website.serve("/loop", lambda exchange: exchange.redirect("/loop"))
    with pytest.raises(NetworkError, match="was redirected more than 3 times"):
        fetch(url, limits=QUICK)
    assert len(website.asked) == 4


@pytest.mark.parametrize(
    "location", ["http://127.0.0.2:{port}/page", "http://[::1]:{port}/", "http://localhost.:{port}"]
)
def test_a_redirect_to_an_address_that_is_not_public_is_not_followed(website: Website, location: str) -> None:
    """Only the address of the server itself is allowed, for the test's sake."""
    target = location.format(port=website.port).replace("localhost.", "0x7f000002")
    url = website.serve("/page", lambda exchange: exchange.redirect(target))
    with pytest.raises(NetworkError, match="is not public"):
        fetch(url, limits=QUICK)
    assert website.asked == ["/page"]


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/", "file:///etc/passwd", "ldap://127.0.0.1/cn=ca"])
def test_a_redirect_to_another_protocol_is_not_followed(website: Website, location: str) -> None:
    url = website.serve("/page", lambda exchange: exchange.redirect(location))
    with pytest.raises(NetworkError, match="only http and https are spoken"):
        fetch(url, limits=QUICK)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "2130706433", "0x7f.1", "0.0.0.0", "[::1]",  # noqa: S104 - asked, not bound
        "[::]", "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1",
        "169.254.169.254", "[fe80::1]", "[fd00::1]", "224.0.0.1", "[ff02::1]", "255.255.255.255", "192.0.2.1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_not_asked(website: Website, host: str) -> None:
    website.serve("/", lambda exchange: exchange.answer(b"secret"))
    with pytest.raises(NetworkError, match=r"is not asked: its address .* is not public") as refusal:
        fetch(f"http://{host}:{website.port}/")
    assert "allow-private" in (refusal.value.hint or "")
    assert website.asked == []


@pytest.mark.parametrize(
    "host", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "::ffff:8.8.8.8"]
)
def test_a_public_address_may_be_asked(host: str) -> None:
    assert http._is_allowed(ipaddress.ip_address(host), ())  # noqa: SLF001 - none is asked in a test


def test_private_networks_are_asked_where_that_is_allowed(website: Website) -> None:
    website.serve("/", lambda exchange: exchange.answer(b"here"))
    assert fetch(website.at("/", "localhost"), limits=Limits(private_networks=EVERYWHERE)) == b"here"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ldap://ca.example/cn=ca?certificateRevocationList", "only http and https are spoken, not 'ldap'"),
        ("file:///etc/passwd", "only http and https are spoken"),
        ("list.crl", "only http and https are spoken, not 'nothing'"),
        ("http://", "names no host"),
        ("http://alice:secret@127.0.0.1/", "or a user"),
        ("http://127.0.0.1:99999/", "cannot ask"),
        ("http://127.0.0.1/a b", "is not asked"),
        ("http://127.0.0.1/\r\nX: y", "is not asked"),
        ("http://ex\u00e4mple/", "is not asked"),
        ("http://[::1", "cannot ask"),
        ("http://127.0.0.1/" + "x" * 5000, "is not asked"),
        ("http://" + "x" * 300 + "/", "cannot ask"),
    ],
)
def test_a_url_that_nobody_can_mean_is_not_asked(url: str, reason: str) -> None:
    with pytest.raises(NetworkError, match=reason):
        fetch(url, limits=QUICK)


def test_nobody_listening_is_said_so() -> None:
    with pytest.raises(NetworkError, match="Connection refused"):
        fetch(f"http://127.0.0.1:{loopback.closed_port()}/", limits=QUICK)


def test_a_proxy_of_the_environment_is_not_used(website: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{loopback.closed_port()}")
    url = website.serve("/page", lambda exchange: exchange.answer(b"direct"))
    assert fetch(url, limits=QUICK) == b"direct"


def test_the_name_is_resolved_once_and_the_address_that_was_judged_is_asked(
    website: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that leads to a public address first and to a private one then (DNS rebinding)."""
    answers = ["127.0.0.1", "127.0.0.2"]
    real = socket.getaddrinfo

    def rebinding(host: str, *arguments: object, **options: object) -> object:
        return real(answers.pop(0) if host == "rebind.example" else host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    website.serve("/", lambda exchange: exchange.answer(exchange.handler.headers["Host"].encode()))
    url = website.at("/", "rebind.example")
    assert fetch(url, limits=QUICK) == f"rebind.example:{website.port}".encode()
    assert answers == ["127.0.0.2"]
    with pytest.raises(NetworkError, match=r"127\.0\.0\.2 is not public"):
        fetch(url, limits=QUICK)


def test_a_resolver_that_is_late_costs_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: done.wait(loopback.PATIENCE) and [])
    started = time.monotonic()
    try:
        with pytest.raises(NetworkError, match=r"gave no answer within 0\.5 seconds"):
            fetch("http://ca.example/", limits=QUICK)
    finally:
        done.set()
    assert time.monotonic() - started < QUICK.seconds + SLACK


def test_a_server_that_never_shakes_hands_costs_no_more_than_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(NetworkError, match=r"gave no answer within 0\.5 seconds"):
            fetch(f"https://127.0.0.1:{silent.getsockname()[1]}/", limits=QUICK)
    assert time.monotonic() - started < QUICK.seconds + SLACK


@pytest.mark.parametrize("is_trusted", [True, False])
def test_https_needs_a_certificate_of_a_trusted_ca(
    toolbox: Toolbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_trusted: bool
) -> None:
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    times = {"start": now - timedelta(days=1), "end": now + timedelta(days=1)}
    server = toolbox.forge("127.0.0.1", extra=[(names, False)], **times)
    (tmp_path / "server.pem").write_bytes(
        server.loaded.public_bytes(Encoding.PEM)
        + server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    monkeypatch.setenv(
        "SSL_CERT_FILE", str(tmp_path / "server.pem") if is_trusted else str(tmp_path / "none")
    )
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nothing"))
    http._tls.cache_clear()  # noqa: SLF001 - the system's CAs are read once a process
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with loopback.website(context) as site:
        site.serve("/", lambda exchange: exchange.answer(b"over TLS"))
        url = f"https://127.0.0.1:{site.port}/"
        try:
            if is_trusted:
                assert fetch(url, limits=QUICK) == b"over TLS"
            else:
                with pytest.raises(NetworkError, match="self-signed certificate"):
                    fetch(url, limits=QUICK)
        finally:
            http._tls.cache_clear()  # noqa: SLF001 - as above
