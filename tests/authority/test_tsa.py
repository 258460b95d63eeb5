"""The timestamp authority, held against RFC 3161, against our own reader and against OpenSSL's."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import timestamping
from asn1crypto import tsp

from tokensign import der
from tokensign.algorithms import DIGESTS
from tokensign.authority.tsa import ANY_POLICY, MonotonicClock, TimestampIssuer
from tokensign.cms.timestamp import TimestampRequest, TimestampResponse, TimestampToken
from tokensign.errors import TokenRemovedError, UntrustedError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

DATA = b"a contract between Alice and Bob"


@pytest.fixture(scope="module")
def root() -> timestamping.Holder:
    return timestamping.certify("Root", ca=True)


@pytest.fixture(scope="module")
def tsa(root: timestamping.Holder) -> timestamping.Holder:
    return root.issue("TSA", timestamping=True)


def request(digest: str = "sha256", **fields: object) -> TimestampRequest:
    chosen = DIGESTS[digest]
    return TimestampRequest(digest=chosen, hashed_message=chosen.new(DATA).digest(), **fields)  # type: ignore[arg-type]


def granted(encoded: bytes) -> TimestampToken:
    response = TimestampResponse.load(encoded)
    assert (response.status, response.reason) == ("granted", "")
    assert response.token is not None
    return TimestampToken.load(response.token)


def failure(encoded: bytes) -> set[str]:
    (only,) = der.elements(encoded)
    status = tsp.PKIStatusInfo.load(only, strict=True)
    assert status["status"].native == "rejection"
    found: set[str] = status["fail_info"].native
    return found


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512", "sha3_256"])
@pytest.mark.parametrize("wants_certificate", [True, False])
def test_token_answers_its_request(tsa: timestamping.Holder, digest: str, *, wants_certificate: bool) -> None:
    asked = request(digest, nonce=2**63 - 1, wants_certificate=wants_certificate)
    before = datetime.now(UTC)
    token = granted(TimestampIssuer(tsa, accuracy=timedelta(seconds=1)).reply(asked.encode()).encoded)
    token.check_request(asked)
    assert token.verify([tsa.certificate]) == tsa.certificate
    assert before <= token.info.time <= datetime.now(UTC)
    assert token.info.accuracy == timedelta(seconds=1)
    assert token.info.policy == ANY_POLICY


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, {}),
        ({"accuracy": timedelta(microseconds=1_002_003), "policy": "1.2.3.4"}, {"nonce": 5}),
        ({"accuracy": timedelta(milliseconds=20), "ordering": True}, {"policy": ANY_POLICY}),
        ({}, {"wants_certificate": False}),
    ],
)
def test_openssl_accepts_the_token(
    tmp_path: Path, root: timestamping.Holder, tsa: timestamping.Holder, options: dict, asked: dict
) -> None:
    asked = request(**asked)
    (tmp_path / "q").write_bytes(asked.encode())
    (tmp_path / "r").write_bytes(TimestampIssuer(tsa, **options).reply(asked.encode()).encoded)
    (tmp_path / "root.pem").write_text(root.certificate.pem())
    (tmp_path / "tsa.pem").write_text(tsa.certificate.pem())
    (tmp_path / "data").write_bytes(DATA)
    for source in (["-queryfile", tmp_path / "q"], ["-data", tmp_path / "data"]):
        command = ["openssl", "ts", "-verify", *source, "-in", tmp_path / "r"]
        command += ["-CAfile", tmp_path / "root.pem", "-untrusted", tmp_path / "tsa.pem"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        assert "Verification: OK" in done.stdout + done.stderr


def test_openssl_reads_accuracy_ordering_and_fractions(tmp_path: Path, tsa: timestamping.Holder) -> None:
    moment = datetime.now(UTC).replace(microsecond=120_000)
    issuer = TimestampIssuer(
        tsa, accuracy=timedelta(microseconds=2_000_005), clock=lambda: moment, ordering=True
    )
    (tmp_path / "r").write_bytes(issuer.reply(request().encode()).encoded)
    command = ["openssl", "ts", "-reply", "-in", tmp_path / "r", "-text"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    assert f"{moment:Time stamp: %b} {moment.day:2} {moment:%H:%M:%S}.12 {moment:%Y} GMT" in text
    assert "Accuracy: 0x02 seconds, unspecified millis, 0x05 micros" in text
    assert "Ordering: yes" in text


def test_serial_numbers_differ_without_any_memory(tsa: timestamping.Holder) -> None:
    asked = request().encode()
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda _: TimestampIssuer(tsa).reply(asked), range(40)))
    numbers = {granted(reply.encoded).info.serial_number for reply in replies}
    assert len(numbers) == 40
    assert max(numbers).bit_length() > 120
    assert all(0 < number < 2**160 for number in numbers)


def test_ordered_times_rise_though_the_clock_goes_back(tsa: timestamping.Holder) -> None:
    begin = datetime.now(UTC)
    shown = iter([begin, begin, begin - timedelta(hours=1), begin + timedelta(seconds=1)])
    issuer = TimestampIssuer(tsa, clock=MonotonicClock(lambda: next(shown)), ordering=True)
    times = [granted(issuer.reply(request().encode()).encoded).info.time for _ in range(4)]
    assert all(earlier < later for earlier, later in pairwise(times))
    assert times[-1] == begin + timedelta(seconds=1)


def raw(**changed: object) -> bytes:
    """A request with fields that our own writer does not make."""
    fields = {
        "version": "v1",
        "message_imprint": {"hash_algorithm": {"algorithm": "sha256"}, "hashed_message": bytes(32)},
    }
    return bytes(tsp.TimeStampReq(fields | changed).dump())


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (b"", "bad_data_format"),
        (b"\x30\x80", "bad_data_format"),
        (request(policy="1.2.3.4.5").encode(), "unaccepted_policy"),
        (request("sha1").encode(), "bad_alg"),
        (raw(message_imprint={"hash_algorithm": {"algorithm": "1.2.3"}, "hashed_message": b"x"}), "bad_alg"),
        (
            raw(message_imprint={"hash_algorithm": {"algorithm": "sha256"}, "hashed_message": b"short"}),
            "bad_data_format",
        ),
        (raw(extensions=[{"extn_id": "1.2.3", "extn_value": b"\x05\x00"}]), "unaccepted_extensions"),
        (
            raw(extensions=[{"extn_id": "1.2.3", "critical": True, "extn_value": b"\x05\x00"}]),
            "unaccepted_extensions",
        ),
        (raw(nonce=1 << 1024), "bad_data_format"),
    ],
    ids=range(9),
)
def test_what_cannot_be_granted_is_rejected_with_the_reason_of_the_rfc(
    tsa: timestamping.Holder, encoded: bytes, expected: str
) -> None:
    reply = TimestampIssuer(tsa).reply(encoded)
    assert failure(reply.encoded) == {expected}
    assert reply.serial_number is None
    assert TimestampResponse.load(reply.encoded).reason.startswith(reply.reason)


def test_trouble_of_the_token_is_not_told_to_strangers(
    tsa: timestamping.Holder, caplog: pytest.LogCaptureFixture
) -> None:
    class Removed(timestamping.Holder):
        def sign(self, *_: object) -> bytes:
            raise TokenRemovedError("the token acme was removed")

    reply = TimestampIssuer(Removed(tsa.loaded, tsa.key)).reply(request().encode())
    assert failure(reply.encoded) == {"system_failure"}
    assert b"acme" not in reply.encoded
    assert "the token acme was removed" in caplog.text


def test_revoked_certificate_ends_it(tsa: timestamping.Holder, caplog: pytest.LogCaptureFixture) -> None:
    revoked: list[bool] = []

    def check() -> None:
        if revoked:
            raise UntrustedError("the certificate of TSA is revoked")

    issuer = TimestampIssuer(tsa, check=check)
    assert granted(issuer.reply(request().encode()).encoded)
    revoked.append(True)
    assert failure(issuer.reply(request().encode()).encoded) == {"system_failure"}
    assert "the certificate of TSA is revoked" in caplog.text


def test_no_time_is_told_outside_of_the_certificate(tsa: timestamping.Holder) -> None:
    late = TimestampIssuer(tsa, clock=lambda: tsa.certificate.not_after + timedelta(seconds=1))
    assert failure(late.reply(request().encode()).encoded) == {"system_failure"}


def test_key_needs_a_certificate_for_time_stamping_alone(root: timestamping.Holder) -> None:
    with pytest.raises(UntrustedError, match="alone"):
        TimestampIssuer(root.issue("Alice"))
    with pytest.raises(UsageError, match="accuracy"):
        TimestampIssuer(root.issue("TSA", timestamping=True), accuracy=timedelta(0))
