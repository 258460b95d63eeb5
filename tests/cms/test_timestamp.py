"""Requests, responses and tokens of the Time-Stamp Protocol, whole and broken."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from asn1crypto import tsp
from timestamping import CarelessTsa, OpensslTsa, certify, now

from tokensign import der
from tokensign.algorithms import DIGESTS
from tokensign.cms.timestamp import TimestampRequest, TimestampResponse, TimestampToken, TstInfo
from tokensign.errors import BadSignatureError, LegacyAlgorithmError, MalformedError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

SHA256 = DIGESTS["sha256"]
REQUEST = TimestampRequest(digest=SHA256, hashed_message=bytes(range(32)), nonce=(1 << 63) + 5)


@pytest.fixture(scope="module")
def response(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    tsa = OpensslTsa(tmp_path_factory.mktemp("tsa") / "tsa", certify("TSA", timestamping=True))
    return tsa.reply(REQUEST.encode())


@pytest.fixture(scope="module")
def token(response: bytes) -> TimestampToken:
    return TimestampToken.load(TimestampResponse.load(response).token or b"")


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        replace(REQUEST, nonce=None),
        replace(REQUEST, policy="1.2.3.4"),
        replace(REQUEST, wants_certificate=False),
        replace(REQUEST, digest=DIGESTS["sha512"], hashed_message=bytes(64)),
    ],
)
def test_requests_are_read_as_they_were_written(request_: TimestampRequest) -> None:
    assert TimestampRequest.load(request_.encode()) == request_


def test_openssl_reads_a_request(tmp_path: Path) -> None:
    (tmp_path / "request.tsq").write_bytes(replace(REQUEST, policy="1.2.3.4").encode())
    text = subprocess.run(
        ["openssl", "ts", "-query", "-in", tmp_path / "request.tsq", "-text"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    for line in (
        "Hash Algorithm: sha256",
        "Policy OID: 1.2.3.4",
        "0x8000000000000005",
        "Certificate required: yes",
    ):
        assert line in text


def test_openssl_writes_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"the contract")
    made = subprocess.run(
        ["openssl", "ts", "-query", "-data", tmp_path / "data", "-sha512", "-cert"],
        check=True,
        capture_output=True,
        timeout=30,
    ).stdout
    request = TimestampRequest.load(made)
    assert request.hashed_message == DIGESTS["sha512"].new(b"the contract").digest()
    assert request.wants_certificate
    assert request.nonce is not None


def test_a_token_says_what_was_asked(token: TimestampToken) -> None:
    token.check_request(REQUEST)
    assert token.info.digest == SHA256
    assert token.info.accuracy == timedelta(seconds=1)
    assert abs(token.info.time - now()) < timedelta(minutes=5)


def test_a_token_is_about_its_data_only(token: TimestampToken) -> None:
    token.check_digest(REQUEST.hashed_message)
    with pytest.raises(BadSignatureError, match="about other data"):
        token.check_digest(bytes(32))


def test_the_certificate_of_the_tsa_is_the_one_that_is_signed(token: TimestampToken) -> None:
    assert token.verify().subject == "CN=TSA"


def test_a_certificate_that_nobody_asked_for_is_refused(token: TimestampToken) -> None:
    with pytest.raises(MalformedError, match="nobody asked for"):
        token.check_request(replace(REQUEST, wants_certificate=False))


def test_a_hash_value_by_sha1_is_refused_unless_legacy() -> None:
    digest = DIGESTS["sha1"]
    holder = certify("TSA", timestamping=True)
    request = TimestampRequest(digest=digest, hashed_message=bytes(20))
    reply = CarelessTsa(holder, now()).reply(request.encode())
    token = TimestampToken.load(TimestampResponse.load(reply).token or b"")
    token.check_digest(bytes(20), legacy=True)
    with pytest.raises(LegacyAlgorithmError):
        token.check_digest(bytes(20))


@pytest.mark.parametrize(
    ("status", "word"),
    [(2, "rejection"), (3, "waiting"), (4, "revocation warning"), (5, "revocation notification")],
)
def test_a_refusal_has_no_token(status: int, word: str) -> None:
    refusal = TimestampResponse.load(der.sequence(der.sequence(der.integer(status))))
    assert refusal.token is None
    assert refusal.status == word


def test_the_reason_of_a_refusal_is_fit_to_be_shown() -> None:
    text = der.sequence(der.utf8_string("no\x1b[31m" + "o" * 300))
    refusal = TimestampResponse.load(der.sequence(der.sequence(der.integer(2), text, b"\x03\x02\x05\x20")))
    assert refusal.reason.isprintable()
    assert len(refusal.reason) <= 200


def test_a_refusal_with_a_token_is_refused(response: bytes) -> None:
    _, token = der.elements(response)
    with pytest.raises(MalformedError, match="does not fit"):
        TimestampResponse.load(der.sequence(der.sequence(der.integer(2)), token))


@pytest.mark.parametrize("octets", [b"", b"0", b"\x30\x00", b"\x30\x80", b"<html>", b"\x30\x02\x30\x00"])
def test_what_is_no_response_is_refused(octets: bytes) -> None:
    with pytest.raises(MalformedError):
        TimestampResponse.load(octets)


@pytest.mark.parametrize("octets", [b"", b"\x30\x00", b"\x30\x03\x02\x01\x01", b"\x04\x00"])
def test_what_is_no_request_is_refused(octets: bytes) -> None:
    with pytest.raises(MalformedError):
        TimestampRequest.load(octets)


def test_a_hash_value_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(MalformedError, match="size of a hash value by sha256"):
        TimestampRequest.load(replace(REQUEST, hashed_message=bytes(31)).encode())


def test_an_unknown_version_is_refused() -> None:
    request = REQUEST.encode().replace(b"\x02\x01\x01", b"\x02\x01\x02", 1)
    with pytest.raises(UnsupportedError, match="only version 1 is known"):
        TimestampRequest.load(request)


def test_an_endless_nonce_is_refused() -> None:
    with pytest.raises(MalformedError, match="nonce is larger"):
        TimestampRequest.load(replace(REQUEST, nonce=1 << 1000).encode())


def test_a_critical_extension_is_refused() -> None:
    request = tsp.TimeStampReq.load(REQUEST.encode())
    request["extensions"] = [{"extn_id": "1.2.3.4", "critical": True, "extn_value": b""}]
    with pytest.raises(UnsupportedError, match=r"critical extension 1\.2\.3\.4"):
        TimestampRequest.load(request.dump(force=True))


@pytest.mark.parametrize("time", [b"20261121", b"202611212130Z", b"20261121213000", b"20261121213000.50Z"])
def test_a_time_that_is_not_as_the_rfc_has_it_is_refused(token: TimestampToken, time: bytes) -> None:
    assert token.message.content is not None
    encoded = b"".join(token.message.content.chunks())
    fields = [
        der.tlv(0x18, time) if field[0] == 0x18 else field  # GeneralizedTime
        for field in der.elements(encoded)
    ]
    with pytest.raises(MalformedError):
        TstInfo.load(der.sequence(*fields))


def test_a_time_with_a_fraction_is_read(token: TimestampToken) -> None:
    assert token.message.content is not None
    encoded = b"".join(token.message.content.chunks())
    fields = [
        der.tlv(0x18, b"20261121213000.25Z") if field[0] == 0x18 else field for field in der.elements(encoded)
    ]
    assert TstInfo.load(der.sequence(*fields)).time.microsecond == 250_000


def test_a_message_of_another_kind_is_no_token(token: TimestampToken) -> None:
    other = token.encoded.replace(
        der.object_identifier("1.2.840.113549.1.9.16.1.4"), der.object_identifier("1.2.840.113549.1.9.16.1.5")
    )
    with pytest.raises(MalformedError, match="not a timestamp"):
        TimestampToken.load(other)
