"""A gateway that is killed loses no mail, and sends none twice."""

from __future__ import annotations

import random
import re
import smtplib
import ssl
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from servers import PASSWORD, has_sieve

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Gateway, Post

NUMBER = re.compile(rb"^Message-ID: <number-([0-9]+)@acme\.example>", re.MULTILINE)


@pytest.mark.parametrize(
    "count", [pytest.param(30, id="some"), pytest.param(500, id="many", marks=pytest.mark.full)]
)
def test_no_mail_is_lost_and_none_doubled_by_a_gateway_that_is_killed_again_and_again(
    post: Post, outgoing: Gateway, count: int, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(count)  # noqa: S311 - moments, not secrets
    outgoing.kill()
    submit(post, count)
    kills = 0
    end = time.monotonic() + 120 + count
    while not post.first.is_idle() and time.monotonic() < end:
        outgoing.start()
        post.first.flush()
        if not worked_for(post, chance.randint(1, 6), chance.uniform(0, 0.05)):
            outgoing.kill()
            kills += 1
    post.wait_until_idle()
    arrived = Counter(
        int(NUMBER.search(mail.read_bytes())[1])  # type: ignore[index]
        for mail in post.wait_for("bob@acme.example", count)
    )
    record_property("tally", f"gateway: {count} mails, killed {kills} times, {arrived.total()} arrived")
    assert kills >= 2  # it was killed in the middle of its work
    assert sorted(arrived) == list(range(count))
    assert {number: times for number, times in arrived.items() if times > 1} == {}


def test_a_mailbox_with_the_filter_of_the_manual_drops_a_second_copy(post: Post) -> None:
    if not has_sieve():
        pytest.skip("Sieve is not installed: dovecot-sieve")
    with smtplib.LMTP("127.0.0.1", post.office.dovecot.lmtp, "here") as lmtp:
        for delivery, text in (("00", "a"), ("00", "a, signed once more"), ("01", "b")):
            mail = f"Tokensign-Delivery: {delivery}\r\nSubject: x\r\n\r\n{text}\r\n"
            for name in ("once", "bob"):
                lmtp.sendmail("alice@acme.example", [f"{name}@acme.example"], mail)
    assert len(post.wait_for("bob@acme.example", 3)) == 3
    assert len(post.wait_for("once@acme.example", 2)) == 2


def submit(post: Post, count: int) -> None:
    tls = ssl.create_default_context(cafile=post.office.tls.ca)
    with smtplib.SMTP_SSL("localhost", post.office.submission, "localhost", context=tls) as smtp:
        smtp.login("alice@acme.example", PASSWORD)
        for number in range(count):
            smtp.sendmail(
                "alice@acme.example",
                ["bob@acme.example"],
                f"From: alice@acme.example\r\nTo: bob@acme.example\r\nSubject: {number}\r\n"
                f"Message-ID: <number-{number}@acme.example>\r\n\r\nNumber {number}\r\n",
            )


def worked_for(post: Post, mails: int, seconds: float) -> bool:
    """Let the gateway work until so many more mails are there, and longer; whether it is done by then."""
    before = len(post.office.dovecot.mails("bob@acme.example"))
    until = None
    while until is None or time.monotonic() < until:
        if post.first.is_idle():
            return True
        if until is None and len(post.office.dovecot.mails("bob@acme.example")) >= before + mails:
            until = time.monotonic() + seconds
        time.sleep(0.005)
    return False
