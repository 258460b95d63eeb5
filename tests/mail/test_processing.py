"""What the gateway makes of a mail, without mail servers."""

from __future__ import annotations

import io

import pytest
from mail_people import person

from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.cms.capabilities import Capability
from tokensign.contacts import Recipient
from tokensign.errors import UsageError
from tokensign.gateway import processing
from tokensign.gateway.delivery import Refused
from tokensign.gateway.policy import Encryption, IncomingSettings, SenderRule
from tokensign.gateway.processing import Incoming, Outgoing
from tokensign.smime.transport.smtp_client import Envelope
from tokensign.verification import Expectations

ALICE, BOB, CAROL = "alice@acme.example", "bob@acme.example", "carol@acme.example"
MAIL = f"From: {ALICE}\r\nTo: {BOB}, {CAROL}\r\nSubject: x\r\n\r\ntext\r\n".encode()
TO_BOTH = Envelope(ALICE, (BOB, CAROL))
OWN = "mail.acme.example"


def outgoing(encrypt: Encryption) -> Outgoing:
    return Outgoing([SenderRule("acme.example", "acme", encrypt)], {"acme": person(ALICE)}, object())  # type: ignore[arg-type, dict-item]


@pytest.fixture(autouse=True)
def _bob_reads_weak_ciphers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    weak = (Capability(CONTENT_CIPHERS["des-ede3-cbc"].oid),)

    def recipients_for(addresses: list[str], *_: object, **__: object) -> list[Recipient]:
        if addresses == [CAROL]:
            return [Recipient(CAROL, person(CAROL).certificate, None)]
        if addresses == [BOB]:
            return [Recipient(BOB, person(BOB).certificate, weak)]
        raise UsageError("nobody")

    monkeypatch.setattr(processing, "recipients_for", recipients_for)


def test_who_reads_weak_ciphers_only_does_not_hold_up_what_need_not_be_encrypted() -> None:
    (copy,) = outgoing("prefer").process(TO_BOTH, io.BytesIO(MAIL), "00")
    copy.content.close()
    assert (copy.recipients, copy.outcome) == (TO_BOTH.recipients, "signed")


def test_what_must_be_encrypted_is_refused_for_who_reads_weak_ciphers_only() -> None:
    with pytest.raises(Refused) as caught:
        outgoing("require").process(TO_BOTH, io.BytesIO(MAIL), "00")
    assert caught.value.recipients == (BOB,)
    (copy,) = outgoing("require").process(Envelope(ALICE, (CAROL,)), io.BytesIO(MAIL), "00")
    copy.content.close()
    assert copy.outcome == "signed and encrypted"


@pytest.mark.parametrize(
    "start",
    [
        b" ; smime=pass body.smime-identifier=bob@acme.example\r\n",
        b"\t\r\n ; smime=pass\r\n",
        b"X: x\rAuthentication-Results: mail.acme.example; smime=pass\r\n",
        b'Authentication-Results: "mail\\.acme.example"; smime=pass\r\n',
    ],
)
def test_no_stranger_writes_the_result(start: bytes) -> None:
    incoming = Incoming(IncomingSettings(authserv_id=OWN), {}, Expectations(trust=None))
    (copy,) = incoming.process(Envelope(BOB, (ALICE,)), io.BytesIO(start + MAIL), "00")
    with copy.content as content:
        header = content.read().partition(b"\r\n\r\n")[0]
    assert b"smime=none" in header
    assert b"smime=pass" not in header
