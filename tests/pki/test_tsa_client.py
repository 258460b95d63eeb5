"""A timestamp authority that answers well, and in every wrong way."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from timestamping import POLICY, CarelessTsa, Holder, OpensslTsa, certify, now

from tokensign.algorithms import DIGESTS
from tokensign.cms.timestamp import TOKEN_SIZE_MAXIMUM, TimestampRequest
from tokensign.errors import NetworkError
from tokensign.pki.http import EVERYWHERE, HttpClient, Limits
from tokensign.pki.trust import TrustPolicy
from tokensign.pki.tsa_client import TimestampAuthority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from loopback import Exchange, Website

HASH = DIGESTS["sha256"].new(b"the contract").digest()
SECONDS = 1.0


@pytest.fixture(scope="module")
def root() -> Holder:
    return certify("Root", ca=True)


@pytest.fixture
def tsa(root: Holder, tmp_path: Path) -> OpensslTsa:
    return OpensslTsa(tmp_path / "tsa", root.issue("TSA", timestamping=True))


@pytest.fixture
def ask(website: Website, root: Holder) -> Callable[..., TimestampAuthority]:
    """Call it with what answers, and further options of the client."""

    def client(page: Callable[[Exchange], None], **options: object) -> TimestampAuthority:
        limits = Limits(seconds=SECONDS, octets=TOKEN_SIZE_MAXIMUM, redirects=0, private_networks=EVERYWHERE)
        trust = TrustPolicy((root.certificate,), revocation="off")
        values = {"fetch": HttpClient(limits), "trust": trust, **options}
        return TimestampAuthority(url=website.serve("/", page), **values)  # type: ignore[arg-type]

    return client


def test_an_honest_answer_is_taken(ask: Callable[..., TimestampAuthority], tsa: OpensslTsa) -> None:
    token = ask(tsa.page).timestamp(HASH)
    assert token.info.hashed_message == HASH
    assert token.info.policy == POLICY
    assert abs(token.info.time - now()) < timedelta(seconds=10)
    assert token.verify() == tsa.holder.certificate


def test_the_policy_that_is_asked_for_is_the_one_that_comes(
    ask: Callable[..., TimestampAuthority], tsa: OpensslTsa
) -> None:
    assert ask(tsa.page, policy=POLICY).timestamp(HASH).info.policy == POLICY


def test_every_request_has_another_nonce(ask: Callable[..., TimestampAuthority], tsa: OpensslTsa) -> None:
    client = ask(tsa.page)
    assert client.timestamp(HASH).info.nonce != client.timestamp(HASH).info.nonce


def test_a_refusal_is_told_with_its_reason(ask: Callable[..., TimestampAuthority], tsa: OpensslTsa) -> None:
    with pytest.raises(NetworkError, match=r"made no timestamp: .*unaccepted policy"):
        ask(tsa.page, policy="1.2.3.4.999").timestamp(HASH)


def test_an_answer_about_another_policy_is_refused(
    ask: Callable[..., TimestampAuthority], tsa: OpensslTsa
) -> None:
    page = changing(tsa, lambda request: replace(request, policy=None))
    with pytest.raises(NetworkError, match="under policy"):
        ask(page, policy="1.2.3.4.999").timestamp(HASH)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"nonce": 5}, "answers another request"),
        ({"nonce": None}, "answers another request"),
        ({"hashed_message": bytes(32)}, "about other data"),
        ({"digest": DIGESTS["sha512"], "hashed_message": bytes(64)}, "by sha512, not by sha256"),
        ({"wants_certificate": False}, "lacks the certificate"),
    ],
)
def test_an_answer_to_another_request_is_refused(
    ask: Callable[..., TimestampAuthority], tsa: OpensslTsa, change: dict[str, object], reason: str
) -> None:
    page = changing(tsa, lambda request: replace(request, **change))  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match=reason):
        ask(page).timestamp(HASH)


def test_an_old_answer_is_refused(ask: Callable[..., TimestampAuthority], tsa: OpensslTsa) -> None:
    request = TimestampRequest(digest=DIGESTS["sha256"], hashed_message=HASH, nonce=1)
    kept = tsa.reply(request.encode())
    with pytest.raises(NetworkError, match="answers another request"):
        ask(lambda exchange: exchange.answer(kept)).timestamp(HASH)


@pytest.mark.parametrize("off", [timedelta(minutes=7), timedelta(minutes=-7)])
def test_a_tsa_whose_clock_is_wrong_is_refused(
    ask: Callable[..., TimestampAuthority], tsa: OpensslTsa, off: timedelta
) -> None:
    with pytest.raises(NetworkError, match="not the time of now"):
        ask(CarelessTsa(tsa.holder, now() + off).page).timestamp(HASH)


def test_a_signature_that_is_wrong_is_refused(
    ask: Callable[..., TimestampAuthority], tsa: OpensslTsa
) -> None:
    def forge(exchange: Exchange) -> None:
        reply = bytearray(tsa.reply(exchange.body))
        reply[-1] ^= 1
        exchange.answer(bytes(reply))

    with pytest.raises(NetworkError, match="the signature is wrong"):
        ask(forge).timestamp(HASH)


@pytest.mark.parametrize("chained", [True, False])
def test_a_tsa_of_somebody_else_is_refused(
    ask: Callable[..., TimestampAuthority], tmp_path: Path, *, chained: bool
) -> None:
    stranger = certify("Root", ca=True).issue("TSA", timestamping=True)  # the same names, another key
    with pytest.raises(NetworkError, match="signature of the certificate of TSA"):
        ask(OpensslTsa(tmp_path / "other", stranger, chained=chained).page).timestamp(HASH)


def test_a_certificate_that_is_for_timestamps_and_more_is_refused(
    ask: Callable[..., TimestampAuthority], root: Holder
) -> None:
    holder = root.issue("TSA", timestamping=True, also=[ExtendedKeyUsageOID.SERVER_AUTH])
    page = CarelessTsa(holder, now()).page
    for trust in ({}, {"trust": None}):
        with pytest.raises(NetworkError, match="not meant for time stamping alone"):
            ask(page, **trust).timestamp(HASH)


def test_a_certificate_that_is_not_for_timestamps_is_refused(
    ask: Callable[..., TimestampAuthority], root: Holder
) -> None:
    with pytest.raises(NetworkError, match="not meant for time stamping alone"):
        ask(CarelessTsa(root.issue("Web server"), now()).page).timestamp(HASH)


def test_an_expired_tsa_is_refused(ask: Callable[..., TimestampAuthority], root: Holder) -> None:
    expired = root.issue("TSA", timestamping=True, days=0)
    with pytest.raises(NetworkError, match="expired on"):
        ask(CarelessTsa(expired, now() + timedelta(seconds=30)).page).timestamp(HASH)


def test_without_trust_the_answer_is_checked_but_not_who_issued_the_certificate(
    ask: Callable[..., TimestampAuthority], tmp_path: Path
) -> None:
    stranger = certify("Stranger", ca=True).issue("TSA", timestamping=True)
    page = OpensslTsa(tmp_path / "other", stranger).page
    assert ask(page, trust=None).timestamp(HASH).info.hashed_message == HASH


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (lambda exchange: exchange.never(), "no answer within"),
        (lambda exchange: exchange.dribble(b"HTTP/1.1 200 OK\r\n\r\n"), "no answer within"),
        (lambda exchange: exchange.pour(1 << 24), "larger than"),
        (lambda exchange: exchange.answer(b"", status=500), "status 500"),
        (lambda exchange: exchange.answer(b"<html>Sorry</html>"), "cannot be read|cut off|broken"),
        (lambda exchange: exchange.answer(b""), "cannot be read|cut off|empty"),
        (lambda exchange: exchange.redirect("/elsewhere", 307), "redirected"),
    ],
)
def test_a_bad_answer_ends_in_time_with_a_reason(
    ask: Callable[..., TimestampAuthority], page: Callable[[Exchange], None], reason: str
) -> None:
    start = time.monotonic()
    with pytest.raises(NetworkError, match=reason):
        ask(page).timestamp(HASH)
    assert time.monotonic() - start < SECONDS + 2


def test_an_answer_that_grants_and_holds_nothing_is_refused(
    ask: Callable[..., TimestampAuthority],
) -> None:
    granted = bytes.fromhex("30053003020100")
    with pytest.raises(NetworkError, match="its token does not fit"):
        ask(lambda exchange: exchange.answer(granted)).timestamp(HASH)


def changing(
    tsa: OpensslTsa, change: Callable[[TimestampRequest], TimestampRequest]
) -> Callable[[Exchange], None]:
    """A TSA that answers another request than the one it got."""

    def page(exchange: Exchange) -> None:
        request = change(TimestampRequest.load(exchange.body))
        exchange.answer(tsa.reply(request.encode()))

    return page
