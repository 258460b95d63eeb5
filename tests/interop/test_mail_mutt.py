"""What mutt shows to the reader of a mail that was composed here."""

from __future__ import annotations

import io
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from peers.mail import OLD_ENVELOPE, address_of
from peers.mutt import Mutt

from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.certificates import Certificate
from tokensign.smime.compose_mail import MailOptions, encrypt_mail, sign_mail

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from peers.identities import Authority, Person
    from peers.schemes import KeyType

    from tokensign.token import TokenKey

GOOD = "Good signature from: CN=token-rsa,O=tokensign"
TEXT = "See you at noon, in the café on the corner."
MAIL = f"""\
From: token-rsa@example.test
To: peer-rsa@example.test
Subject: Lunch
Content-Type: text/plain; charset=utf-8

{TEXT}
"""


@pytest.fixture(scope="module")
def mutt(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mutt]:
    if shutil.which("mutt") is None:
        if os.environ.get("CI"):
            pytest.fail("mutt is not installed")
        pytest.skip("mutt is not installed")
    program = Mutt(tmp_path_factory.mktemp("mutt"), authority)
    yield program
    program.close()


def signed(key: TokenKey, options: MailOptions) -> bytes:
    output = io.BytesIO()
    sign_mail(io.BytesIO(MAIL.encode()), [key], output, options)
    return output.getvalue()


@pytest.mark.parametrize("opaque", [False, True], ids=["clear", "opaque"])
def test_mutt_shows_our_signed_mail_as_good(
    mutt: Mutt, token_keys: Mapping[KeyType, TokenKey], *, opaque: bool
) -> None:
    shown = mutt.show(signed(token_keys["rsa"], MailOptions(opaque=opaque)))
    assert TEXT in shown
    assert GOOD in shown


def test_mutt_shows_a_changed_mail_as_bad(mutt: Mutt, token_keys: Mapping[KeyType, TokenKey]) -> None:
    mail = signed(token_keys["rsa"], MailOptions()).replace(b"at noon", b"at nine")
    shown = mutt.show(mail)
    assert "Good signature" not in shown
    assert "*BAD* signature from: CN=token-rsa,O=tokensign" in shown


def test_mutt_shows_our_encrypted_mail(
    mutt: Mutt, token_keys: Mapping[KeyType, TokenKey], people: Mapping[KeyType, Person]
) -> None:
    reader = people["rsa"]
    mutt.own(reader)
    output = io.BytesIO()
    encrypt_mail(
        io.BytesIO(MAIL.replace("peer-rsa@example.test", address_of(reader)).encode()),
        [Certificate(reader.certificate.public_bytes(Encoding.DER))],
        output,
        MailOptions(cipher=CONTENT_CIPHERS["aes-256-cbc"], key_transport=OLD_ENVELOPE.transport),
        signers=[token_keys["rsa"]],
    )
    shown = mutt.show(output.getvalue())
    assert TEXT in shown
    assert GOOD in shown
