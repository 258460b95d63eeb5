"""What strangers ask of `ca serve` that it does not answer: wrong methods, paths, types, sizes, and junk."""

from __future__ import annotations

import base64
import random
import secrets
import socket
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from cryptography.x509 import ocsp
from pki_serving import Answer, Pki, ask, get, post, served_pki

from tokensign.algorithms import DIGESTS
from tokensign.authority import Authority
from tokensign.authority.http import BODY_SIZE_MAXIMUM
from tokensign.cms.timestamp import TimestampRequest, TimestampResponse
from tokensign.errors import FileError
from tokensign.pki.revocation.ocsp import ocsp_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

OCSP = "/pki/people/ocsp"
OCSP_TYPE = "application/ocsp-request"
TSA_TYPE = "application/timestamp-query"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pki]:
    with served_pki(tmp_path_factory.mktemp("pki")) as served:
        yield served


def assert_refused(answer: Answer, status: int) -> None:
    """All refusals look alike: a line of text that nobody keeps."""
    assert answer.status == status
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert len(answer.body.splitlines()) <= 1
    assert answer.headers["Server"] is None


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "//",
        "/ca.cer",
        "/root",
        "/root/",
        "/root//ca.cer",
        "//root/ca.cer",
        "/root/./ca.cer",
        "/root/x/../ca.cer",
        "/root/../../etc/passwd",
        "/root/..%2f..%2fetc%2fpasswd",
        "/root/ca.cer/",
        "/root/ca.cer%00.crl",
        "/root/ca.cer;x",
        "/ROOT/ca.cer",
        "/pki%252fpeople/ca.cer",
        "/root/other.cer",
        "/root/0.crl",
        "/root/ca--1.crl",
        "/root/ca-99999999999999999999.crl",
        "/docs",
        "/openapi.json",
        "/%ff%fe",
        "/" + "x" * 30_000,
    ],
)
def test_other_paths_than_those_of_the_files_lead_nowhere(pki: Pki, path: str) -> None:
    assert_refused(get(pki, path), 404)


def test_path_may_be_quoted(pki: Pki) -> None:
    assert get(pki, "/%72oot/ca%2Ecer?x=y").body == pki.root.certificate.der


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/root/ca.cer", "GET, HEAD"),
        ("PUT", "/root/ca.cer", "GET, HEAD"),
        ("DELETE", "/root/ca.crl", "GET, HEAD"),
        ("OPTIONS", "/tsa", "POST"),
        ("TRACE", OCSP, "POST"),
        ("PUT", f"{OCSP}/MEUw", "GET, HEAD"),
        ("PATCH", "/nowhere", "GET, HEAD"),
    ],
)
def test_wrong_methods_are_refused_with_the_right_ones(
    pki: Pki, method: str, path: str, allowed: str
) -> None:
    answer = ask(pki, method, path)
    assert_refused(answer, 405)
    assert sorted(answer.headers["Allow"].split(", ")) == allowed.split(", ")


@pytest.mark.parametrize("path", ["/tsa", OCSP])
def test_other_media_types_are_refused(pki: Pki, path: str) -> None:
    for kind in ("text/plain", "", "application/x-www-form-urlencoded"):
        assert_refused(post(pki, path, b"x", kind), 415)


@pytest.mark.parametrize(("path", "kind"), [("/tsa", TSA_TYPE), (OCSP, OCSP_TYPE)])
def test_large_bodies_are_refused_before_they_are_read(pki: Pki, path: str, kind: str) -> None:
    for size in (1 << 40, BODY_SIZE_MAXIMUM + 1):
        with socket.create_connection(pki.listener.getsockname(), timeout=20) as stream:
            fields = f"Host: x\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n"
            stream.sendall(f"POST {path} HTTP/1.1\r\n{fields}".encode() + b"x")
            assert stream.recv(100).startswith(b"HTTP/1.1 413 ")
    assert post(pki, path, bytes(BODY_SIZE_MAXIMUM + 1), kind).status == 413
    assert post(pki, path, bytes(BODY_SIZE_MAXIMUM), kind).status == 200  # an answer of the protocol


@pytest.mark.parametrize("encoded", ["M", "%ff", "MEUw MEUw", "ME-_", "=", "a" * 20_001])
def test_get_without_base64_is_refused(pki: Pki, encoded: str) -> None:
    assert_refused(get(pki, f"{OCSP}/{quote(encoded, safe='%')}"), 400)


def test_head_is_get_without_the_content(pki: Pki) -> None:
    encoded, _ = ocsp_request(pki.root.certificate, pki.root.certificate)
    for path in ("/root/ca.cer", f"/root/ocsp/{quote(base64.b64encode(encoded).decode(), safe='')}"):
        answer = ask(pki, "HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 100


def damaged(whole: bytes, count: int) -> Iterator[bytes]:
    """Copies with octets that are changed, cut off, or there twice; the same each time."""
    chance = random.Random(1)  # noqa: S311 - for tests
    for _ in range(count):
        octets = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            octets[chance.randrange(len(octets))] = chance.randrange(256)
        start = chance.randrange(len(octets))
        yield bytes(chance.choice((octets, octets[:start], octets + octets[start:])))


def test_damaged_ocsp_requests_get_an_ocsp_response(pki: Pki) -> None:
    encoded, _ = ocsp_request(pki.issue().certificate, pki.people.certificate)
    refused = {
        ocsp.OCSPResponseStatus.MALFORMED_REQUEST,
        ocsp.OCSPResponseStatus.UNAUTHORIZED,
        ocsp.OCSPResponseStatus.SUCCESSFUL,  # about another serial number, or with another nonce
    }
    found = set()
    for request in damaged(encoded, 150):
        answer = post(pki, OCSP, request, OCSP_TYPE)
        assert answer.status == 200
        found.add(ocsp.load_der_ocsp_response(answer.body).response_status)
    assert found == refused


def test_damaged_timestamp_requests_get_a_timestamp_response(pki: Pki) -> None:
    digest = DIGESTS["sha256"]
    encoded = TimestampRequest(
        digest=digest, hashed_message=digest.new(b"letter").digest(), nonce=1 << 60
    ).encode()
    found = set()
    for request in damaged(encoded, 150):
        answer = post(pki, "/tsa", request, TSA_TYPE)
        assert answer.status == 200
        found.add(TimestampResponse.load(answer.body).status)
    assert found == {"granted", "rejection"}


def test_messages_of_other_kinds_are_malformed_requests(pki: Pki, corpora: Callable[[str], Path]) -> None:
    files = [*sorted(corpora("fuzz-cms").iterdir())[:60], *sorted(corpora("fuzz-crl").iterdir())[:60]]
    for content in (file.read_bytes()[:BODY_SIZE_MAXIMUM] for file in files):
        answer = post(pki, OCSP, content, OCSP_TYPE)
        response = ocsp.load_der_ocsp_response(answer.body)
        assert response.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST
        rejected = TimestampResponse.load(post(pki, "/tsa", content, TSA_TYPE).body)
        assert rejected.status == "rejection"


def test_junk_ends_with_a_refusal_or_the_connection(pki: Pki) -> None:
    for _ in range(20):
        with socket.create_connection(pki.listener.getsockname(), timeout=20) as stream:
            stream.sendall(secrets.token_bytes(200) + b"\r\n\r\n")
            assert b"200 OK" not in stream.recv(4096)
    assert get(pki, "/root/ca.cer").status == 200


def test_trouble_is_for_the_log_and_not_for_strangers(
    pki: Pki, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FileError("the database secret.sqlite cannot be used")

    monkeypatch.setattr(Authority, "latest_crl", fail)
    for _ in range(20):
        answer = get(pki, "/root/delta.crl")
        assert_refused(answer, 503)
        assert b"secret" not in answer.body
    ours = [record for record in caplog.records if record.name.startswith("tokensign")]
    assert [record.getMessage() for record in ours] == [
        "a request could not be answered: the database secret.sqlite cannot be used"
    ]
