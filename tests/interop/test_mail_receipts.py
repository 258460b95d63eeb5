"""Signed receipts for OpenSSL's messages, and OpenSSL's for ours (RFC 2634)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from peers.peer import PeerRefusedError

from tokensign.certificates import Certificate
from tokensign.cms.signer_info import SigningOptions
from tokensign.errors import BadSignatureError
from tokensign.ess.receipt_request import Receivers, request_receipt
from tokensign.ess.receipts import SentSignature
from tokensign.pki.policy import TrustPolicy
from tokensign.smime.compose_mail import MailOptions, sign_mail
from tokensign.smime.open_mail import open_mail
from tokensign.smime.receipts import owed_receipt, read_sent, verify_receipt, write_receipt_mail
from tokensign.verification import Expectations

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from peers.identities import Authority, Person
    from peers.openssl import OpenSsl
    from peers.schemes import KeyType

    from tokensign.token import TokenKey

MAIL = b"""\
From: %s@example.test
To: %s@example.test
Subject: Lunch
Content-Type: text/plain; charset=us-ascii

See you at noon.
"""
TOKEN, PEER = "token-rsa", "peer-rsa"


@pytest.fixture
def openssl(start_peer: Callable[[str], OpenSsl]) -> OpenSsl:
    return start_peer("OpenSSL")


@pytest.fixture
def expectations(authority: Authority) -> Expectations:
    return Expectations(trust=TrustPolicy(anchors=(Certificate(authority.der),)))


@pytest.fixture
def signer(people: dict[KeyType, Person], openssl: OpenSsl) -> tuple[str | Path, ...]:
    person = people["rsa"]
    certificate = openssl.file(person.certificate.public_bytes(Encoding.PEM), ".pem")
    return "-signer", certificate, "-inkey", openssl.file(person.pem(), ".pem")


def ask(openssl: OpenSsl, signer: tuple[str | Path, ...], *options: str) -> bytes:
    """A mail of the peer's that asks for a receipt."""
    body = MAIL.partition(b"Subject: Lunch\n")[2]
    mail = openssl.path(".eml")
    openssl.run(
        *("openssl", "cms", "-sign", *signer, "-in", openssl.file(body), "-out", mail),
        *("-from", f"{PEER}@example.test", "-to", f"{TOKEN}@example.test", "-subject", "Lunch"),
        *("-receipt_request_to", f"{PEER}@example.test", *options),
    )
    return mail.read_bytes()


def verify(openssl: OpenSsl, receipt: bytes, mail: bytes) -> bool:
    """Whether the peer takes a receipt for a mail; what it refuses is an error."""
    done = openssl.run(
        *("openssl", "cms", "-verify_receipt", openssl.file(receipt), "-in", openssl.file(mail)),
        *("-CAfile", openssl.file(openssl.authority.pem)),
    )
    return b"Verification successful" in done.stderr + done.stdout


def our_mail(key: TokenKey, *, asked: Receivers = Receivers.ALL) -> bytes:
    """A mail of the token's that asks for a receipt."""
    request = request_receipt([f"{TOKEN}@example.test"], asked)
    signing = SigningOptions(signed_attributes=(request.as_attribute(),))
    output = io.BytesIO()
    sign_mail(io.BytesIO(MAIL % (TOKEN.encode(), PEER.encode())), [key], output, MailOptions(signing=signing))
    return output.getvalue()


@pytest.mark.parametrize(
    ("options", "key_type"),
    [
        (("-receipt_request_all",), "rsa"),
        (("-receipt_request_first",), "p256"),
        (("-receipt_request_from", "token-p384@example.test"), "p384"),
    ],
    ids=["everybody", "first tier", "a list"],
)
def test_openssl_verifies_our_receipt(
    openssl: OpenSsl,
    signer: tuple[str | Path, ...],
    token_keys: Mapping[KeyType, TokenKey],
    expectations: Expectations,
    options: tuple[str, ...],
    key_type: KeyType,
) -> None:
    mail = ask(openssl, signer, *options)
    report = open_mail(io.BytesIO(mail), expectations)
    key = token_keys[key_type]
    owed = owed_receipt(report, key.certificates[0])
    assert owed.receivers == (f"{PEER}@example.test",)
    receipt = io.BytesIO()
    write_receipt_mail(owed, key, receipt)
    assert verify(openssl, receipt.getvalue(), mail)


def test_openssl_refuses_our_receipt_for_another_mail(
    openssl: OpenSsl,
    signer: tuple[str | Path, ...],
    token_keys: Mapping[KeyType, TokenKey],
    expectations: Expectations,
) -> None:
    mail, other = (ask(openssl, signer, "-receipt_request_all") for _ in range(2))
    key = token_keys["rsa"]
    receipt = io.BytesIO()
    report = open_mail(io.BytesIO(mail), expectations)
    write_receipt_mail(owed_receipt(report, key.certificates[0]), key, receipt)
    with pytest.raises(PeerRefusedError):
        verify(openssl, receipt.getvalue(), other)


@pytest.mark.parametrize("key_type", ["rsa", "p384"])
def test_we_verify_the_receipt_of_openssl(
    openssl: OpenSsl,
    signer: tuple[str | Path, ...],
    token_keys: Mapping[KeyType, TokenKey],
    expectations: Expectations,
    key_type: KeyType,
) -> None:
    mail = our_mail(token_keys[key_type])
    receipt = openssl.path(".eml")
    openssl.run(
        *(
            "openssl",
            "cms",
            "-sign_receipt",
            *signer,
            "-from",
            f"{PEER}@example.test",
            "-in",
            openssl.file(mail),
            "-out",
            receipt,
        ),
    )
    sent = read_sent(io.BytesIO(mail))
    with receipt.open("rb") as stream:
        report = verify_receipt(stream, sent, expectations)
        assert report.verdict == "good"
        assert report.sender_address == f"{PEER}@example.test"
        other = read_sent(io.BytesIO(our_mail(token_keys[key_type])))
        stream.seek(0)
        with pytest.raises(BadSignatureError, match="another message"):
            verify_receipt(stream, other, expectations)
    assert isinstance(sent[0], SentSignature)
