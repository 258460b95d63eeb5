"""`mail sign` and `mail encrypt`, in this process, with a key on a token of their own."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from mail_people import person, trusting

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.pki.ca import self_signed
from tokensign.pki.policy import TrustPolicy
from tokensign.smime.mime import read_entity
from tokensign.smime.open_mail import open_mail
from tokensign.token import Pin, generate_key, import_certificate, open_key, open_token
from tokensign.verification import Expectations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.smime.mail_report import MailReport
    from tokensign.token import Module

BOB, CAROL, DAVE = (person(f"{name}@acme.example") for name in ("bob", "carol", "dave"))
MAIL = "From: Alice <alice@acme.example>\nTo: bob@acme.example\nSubject: Figures\n{}\nThe figures are good.\n"


@pytest.fixture(scope="module")
def alice(module: Module, new_token: Callable[..., str], user_pin: str) -> Certificate:
    """Alice's certificate; her key is on the token "mail"."""
    with open_token(module, new_token("mail"), Pin(user_pin), read_write=True) as token:
        key = open_key(token, generate_key(token, "alice", KeySpec.parse("ec:p256"), KeyUsage.SIGN))
        certificate = self_signed(key, "CN=Alice", ["alice@acme.example"], usage=KeyUsage.SIGN)
        import_certificate(token, certificate, label="alice")
    return certificate


@dataclass
class Desk:
    """A folder with `letter.eml` and certificates, and the command line."""

    folder: Path
    alice: Certificate
    pin_file: Path
    main: Callable[..., tuple[str, str]]

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What a command prints on standard output and on standard error."""
        common = ("--token", "mail", "--pin-source", f"file:{self.pin_file}")
        return self.main("mail", *arguments, *common, code=code)

    def opened(self, name: str, reader: Any = BOB) -> tuple[MailReport, bytes]:  # noqa: ANN401 - a person
        output = io.BytesIO()
        anchors = (self.alice, *trusting().trust.anchors)  # type: ignore[union-attr]
        expectations = Expectations(trust=TrustPolicy(anchors=anchors))
        message = io.BytesIO((self.folder / name).read_bytes())
        return open_mail(message, expectations, [reader], output), output.getvalue()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.suffix != ".pem"}


@pytest.fixture
def desk(
    alice: Certificate,
    pin_file: Path,
    desk_folder: Path,
    main_here: Callable[..., tuple[str, str]],
) -> Desk:
    for name, reader in (("bob", BOB), ("carol", CAROL), ("dave", DAVE)):
        (desk_folder / f"{name}.pem").write_text(reader.certificate.pem())
    made = Desk(desk_folder, alice, pin_file, main_here)
    made.write("letter.eml", MAIL.format(""))
    return made


def test_a_mail_is_signed_with_a_key_on_a_token(desk: Desk) -> None:
    _, told = desk.run("sign", "letter.eml", "--key", "alice", "-o", "signed.eml")
    assert told == "signed.eml: signed by CN=Alice (ecdsa with sha256)\n"
    report, text = desk.opened("signed.eml")
    assert report.verdict == "good"
    assert text.endswith(b"The figures are good.\r\n")
    assert {field.protection for field in report.headers.fields} == {"signed-only"}


@pytest.mark.parametrize(
    ("option", "media_type", "protected"),
    [
        ("--opaque", "application/pkcs7-mime", {"signed-only"}),
        ("--no-protect-headers", "multipart/signed", {"unprotected"}),
    ],
)
def test_the_form_of_a_signed_mail_is_chosen(
    desk: Desk, option: str, media_type: str, protected: set[str]
) -> None:
    desk.run("sign", "letter.eml", "--key", "alice", "-o", "signed.eml", option)
    report, _ = desk.opened("signed.eml")
    assert report.layers[0].media_type == media_type
    assert {field.protection for field in report.headers.fields} == protected


def test_digest_and_chain_are_those_that_were_asked_for(desk: Desk) -> None:
    options = ("--digest", "sha384", "--scheme", "ecdsa", "--chain", "bob.pem")
    shown, _ = desk.run("sign", "letter.eml", "--key", "alice", "-o", "signed.eml", *options, "--json")
    (signer,) = json.loads(shown)["signers"]
    assert (signer["signer"], signer["scheme"]) == ("CN=Alice", "ecdsa with sha384")
    assert b'micalg="sha-384"' in (desk.folder / "signed.eml").read_bytes()


def test_a_date_of_another_time_is_told(desk: Desk) -> None:
    desk.write("old.eml", MAIL.format("Date: Thu, 05 Nov 2020 09:00:00 +0100\n"))
    _, told = desk.run("sign", "old.eml", "--key", "alice", "-o", "signed.eml")
    assert "warning: Date is 2020-11-05 09:00:00+01:00, and the mail was signed at 20" in told


@pytest.mark.parametrize(
    ("sender", "shown"),
    [
        ("bob@acme.example", "is bob@acme.example, which is not in the certificate of CN=Alice"),
        (
            "alice@acme.example, bob@acme.example",
            "is alice@acme.example, bob@acme.example, which is not in the certificate of CN=Alice",
        ),
        ("nobody", "must be an address in the certificate of CN=Alice, and is none"),
    ],
)
def test_a_sender_who_is_not_the_signer_is_told(desk: Desk, sender: str, shown: str) -> None:
    desk.write("other.eml", f"From: {sender}\nSubject: x\n\nx\n")
    _, told = desk.run("sign", "other.eml", "--key", "alice", "-o", "signed.eml")
    assert f"warning: From {shown}\n" in told


def test_a_mail_is_encrypted_without_a_token(desk: Desk) -> None:
    _, told = desk.run("encrypt", "letter.eml", "--to", "bob.pem", "-o", "secret.eml")
    assert told == "secret.eml: encrypted with aes-256-gcm to CN=Bob\n"
    report, text = desk.opened("secret.eml")
    assert report.verdict == "unsigned"
    assert b"Subject: Figures\r\n" in text


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ((), ["encrypted", "signed"]),
        (("--compress", "--opaque"), ["encrypted", "compressed", "signed"]),
        (("--triple-wrap",), ["signed", "encrypted", "signed"]),
        (("--cipher", "aes-256-cbc"), ["encrypted", "signed"]),
    ],
)
def test_a_mail_is_signed_and_encrypted(desk: Desk, options: tuple[str, ...], kinds: list[str]) -> None:
    signing = ("--sign-with", "alice", "-o", "secret.eml")
    desk.run("encrypt", "letter.eml", "--to", "bob.pem", *signing, *options)
    report, text = desk.opened("secret.eml")
    assert ([layer.kind.value for layer in report.layers], report.verdict) == (kinds, "good")
    assert text.endswith(b"The figures are good.\r\n")


@pytest.mark.parametrize(
    ("options", "subject", "sender"),
    [
        ((), "[...]", "Alice <alice@acme.example>"),
        (("--hcp", "shy"), "[...]", "alice@acme.example"),
        (("--hcp", "no-confidentiality"), "Figures", "Alice <alice@acme.example>"),
        (("--no-protect-headers",), "Figures", "Alice <alice@acme.example>"),
    ],
)
def test_what_is_seen_outside_is_chosen(
    desk: Desk, options: tuple[str, ...], subject: str, sender: str
) -> None:
    desk.run("encrypt", "letter.eml", "--to", "bob.pem", "-o", "secret.eml", *options)
    outside = read_entity(io.BytesIO((desk.folder / "secret.eml").read_bytes())).fields
    assert (outside.text("Subject"), outside.text("From")) == (subject, sender)


def test_the_header_of_a_mail_that_was_signed_before_is_told_to_stay_readable(desk: Desk) -> None:
    desk.run("sign", "letter.eml", "--key", "alice", "-o", "signed.eml")
    encrypt = ("encrypt", "signed.eml", "--to", "bob.pem", "-o")
    _, told = desk.run(*encrypt, "secret.eml")
    assert "warning: the mail was signed or encrypted before; its Subject stays readable outside\n" in told
    shown, _ = desk.run(*encrypt, "again.eml", "--json")
    assert json.loads(shown)["headers_protected"] is False


def test_each_recipient_in_bcc_gets_a_file(desk: Desk) -> None:
    desk.write("blind.eml", MAIL.format("Bcc: carol@acme.example, dave@acme.example\n"))
    to = ("--to", "bob.pem", "--to", "carol.pem", "--to", "dave.pem")
    shown, _ = desk.run("encrypt", "blind.eml", *to, "-o", "out.eml", "--sign-with", "alice", "--json")
    names = ["out.eml", "out.bcc-1.eml", "out.bcc-2.eml"]
    assert [copy["output"] for copy in json.loads(shown)["copies"]] == names
    assert [copy["recipients"] for copy in json.loads(shown)["copies"]] == [
        ["CN=Bob"],
        ["CN=Carol"],
        ["CN=Dave"],
    ]
    for name, reader in zip(names, (BOB, CAROL, DAVE), strict=True):
        report, text = desk.opened(name, reader)
        assert report.verdict == "good"
        assert b"carol" not in text.lower()


def test_a_mail_to_bcc_only_has_no_file_for_all(desk: Desk) -> None:
    desk.write("blind.eml", "From: alice@acme.example\nBcc: bob@acme.example\n\nx\n")
    _, told = desk.run("encrypt", "blind.eml", "--to", "bob.pem", "-o", "out.eml")
    assert "out.bcc-1.eml: for bob@acme.example alone; send it with `tokensign mail send --to bob@" in told
    assert desk.files() == {"letter.eml", "blind.eml", "out.bcc-1.eml"}


@pytest.mark.parametrize(
    ("header", "arguments", "code", "error"),
    [
        ("Cc: eve@acme.example\n", ("--to", "bob.pem"), 2, "there is no certificate for eve@acme.example"),
        ("Bcc: eve@acme.example\n", ("--to", "bob.pem"), 2, "there is no certificate for eve@acme.example"),
        ("", ("--to", "bob.pem", "--triple-wrap"), 2, "--triple-wrap signs the mail twice"),
        ("", (), 2, "no certificate to encrypt to is known for bob@acme.example"),
        ("Content-Type: a/b\nContent-Type: c/d\n", ("--to", "bob.pem"), 4, "the mail is damaged"),
        ("Bcc: <broken\n", ("--to", "bob.pem"), 4, "no list of mail addresses"),
    ],
)
def test_a_mail_that_cannot_be_encrypted_leaves_no_file(
    desk: Desk, header: str, arguments: tuple[str, ...], code: int, error: str
) -> None:
    desk.write("bad.eml", MAIL.format(header))
    _, told = desk.run("encrypt", "bad.eml", *arguments, "-o", "out.eml", code=code)
    assert error in told
    assert desk.files() == {"letter.eml", "bad.eml"}


def test_nobody_is_asked_for_a_pin_before_the_recipients_are_known(desk: Desk) -> None:
    desk.write("bad.eml", MAIL.format("Cc: eve@acme.example\n"))
    desk.pin_file.unlink()
    arguments = ("--to", "bob.pem", "--sign-with", "alice", "-o", "out.eml")
    _, told = desk.run("encrypt", "bad.eml", *arguments, code=2)
    assert "there is no certificate for eve@acme.example" in told


def test_copies_for_bcc_do_not_fit_on_standard_output(desk: Desk) -> None:
    desk.write("blind.eml", MAIL.format("Bcc: carol@acme.example\n"))
    to = ("--to", "bob.pem", "--to", "carol.pem")
    _, told = desk.run("encrypt", "blind.eml", *to, "-o", "-", code=2)
    assert "each gets a file" in told


def test_a_file_is_not_replaced_unless_asked(desk: Desk) -> None:
    desk.write("out.eml", "mine")
    arguments = ("encrypt", "letter.eml", "--to", "bob.pem", "-o", "out.eml")
    _, told = desk.run(*arguments, code=5)
    assert "out.eml exists already" in told
    desk.run(*arguments, "--force")
    assert desk.opened("out.eml")[0].encrypted
