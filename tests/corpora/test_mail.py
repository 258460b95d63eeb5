"""Published mail, and published people who write each other: RFC 4134 sections 4.8 and 4.9, RFC 9216."""

from __future__ import annotations

import email
import email.policy
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tokensign.certificates import Certificate
from tokensign.cms.signer_info import SigningOptions
from tokensign.errors import NoRecipientError
from tokensign.pki.policy import TrustPolicy
from tokensign.report import Status
from tokensign.smime.compose_mail import MailOptions, encrypt_mail
from tokensign.smime.open_mail import open_mail
from tokensign.verification import Expectations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokensign.token import TokenKey

CORRESPONDENTS = ("alice", "bob", "carlos", "dana")
AUTHORITIES = {"alice": "rsa", "bob": "rsa", "carlos": "25519", "dana": "25519"}
MOMENT = datetime(2026, 6, 1, 12, tzinfo=UTC)


# --- RFC 4134: SHA-1 and DSA


@pytest.fixture
def published_mail(corpora: Callable[[str], Path]) -> Callable[[str], io.BytesIO]:
    return lambda name: io.BytesIO(corpora(f"rfc4134/{name}.eml").read_bytes())


@pytest.fixture
def old_expectations(corpora: Callable[[str], Path]) -> Expectations:
    alice = Certificate(corpora("rfc4134/AliceDSSSignByCarlNoInherit.cer").read_bytes())
    return Expectations(trust=None, certificates=(alice,), legacy=True)


@pytest.mark.parametrize(
    ("name", "media_type"), [("4.8", "multipart/signed"), ("4.9", "application/pkcs7-mime")]
)
def test_published_signed_mail_is_read_with_legacy(
    name: str,
    media_type: str,
    published_mail: Callable[[str], io.BytesIO],
    old_expectations: Expectations,
) -> None:
    mail = published_mail(name).getvalue().replace(b"aliceDss@examples.com", b"AliceDSS@example.com")
    output = io.BytesIO()
    report = open_mail(io.BytesIO(mail), old_expectations, output=output, legacy=True)
    (layer,) = report.layers
    assert (layer.media_type, layer.holds) == (media_type, True)
    assert report.verdict == "intact"
    assert b"This is some sample content." in output.getvalue()


@pytest.mark.parametrize("name", ["4.8", "4.9"])
def test_published_mail_is_not_from_the_address_that_it_says(
    name: str, published_mail: Callable[[str], io.BytesIO], old_expectations: Expectations
) -> None:
    """The RFC's own slip: its From is not the address in the certificate."""
    report = open_mail(published_mail(name), old_expectations, legacy=True)
    assert report.verdict == "bad"
    verification = report.layers[0].verification
    assert verification is not None
    verdicts = verification.signers[0].verdicts
    assert verdicts["integrity"].status is Status.PASSED
    assert verdicts["identity"].reason == (
        "the certificate belongs to AliceDSS@example.com, not to aliceDss@examples.com"
    )


@pytest.mark.parametrize("name", ["4.8", "4.9"])
def test_published_signed_mail_is_refused_without_legacy(
    name: str, published_mail: Callable[[str], io.BytesIO]
) -> None:
    output = io.BytesIO()
    report = open_mail(published_mail(name), Expectations(trust=None), output=output)
    assert report.verdict == "bad"
    assert output.getvalue() == b""


# --- RFC 9216: everybody writes to everybody


def letter(sender: str, recipient: str) -> io.BytesIO:
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    message["From"], message["To"] = f"{sender}@smime.example", f"{recipient}@smime.example"
    message["Subject"] = f"{sender} to {recipient}"
    message["Date"] = MOMENT
    message.set_content("Dear friend,\nsee you at noon.\n")
    return io.BytesIO(message.as_bytes())


@pytest.mark.parametrize("recipient", CORRESPONDENTS)
@pytest.mark.parametrize("sender", CORRESPONDENTS)
def test_sample_people_write_each_other(
    sender: str,
    recipient: str,
    person: Callable[[str], TokenKey],
    certificate: Callable[[str], Certificate],
) -> None:
    mail, opened = io.BytesIO(), io.BytesIO()
    encrypt_mail(
        letter(sender, recipient),
        [certificate(f"{recipient}.encrypt")],
        mail,
        MailOptions(signing=SigningOptions(signing_time=MOMENT)),
        signers=[person(f"{sender}.sign")],
    )
    assert f"Subject: {sender}".encode() not in mail.getvalue()
    policy = TrustPolicy(anchors=(certificate(f"ca.{AUTHORITIES[sender]}"),))
    report = open_mail(
        io.BytesIO(mail.getvalue()),
        Expectations(trust=policy, moment=MOMENT),
        [person(f"{recipient}.encrypt")],
        opened,
    )
    assert report.verdict == "good"
    assert report.sender_address == f"{sender}@smime.example"
    read = email.message_from_bytes(opened.getvalue(), policy=email.policy.default)
    assert read["Subject"] == f"{sender} to {recipient}"
    assert "see you at noon" in read.get_content()


def test_mail_of_one_sample_person_is_not_for_another(
    person: Callable[[str], TokenKey], certificate: Callable[[str], Certificate]
) -> None:
    mail = io.BytesIO()
    encrypt_mail(letter("alice", "bob"), [certificate("bob.encrypt")], mail, signers=[person("alice.sign")])
    with pytest.raises(NoRecipientError):
        open_mail(io.BytesIO(mail.getvalue()), Expectations(trust=None), [person("dana.encrypt")])
