"""`mail receipt` and the options about receipts and labels, in this process, with keys on a token."""

from __future__ import annotations

import email
import email.policy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.pki.ca import issue, root_certificate
from tokensign.token import Pin, generate_key, import_certificate, open_key, open_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokensign.token import Module

TOKEN = "mail-receipt"
MAIL = (
    b"From: alice@acme.example\r\nTo: bob@acme.example\r\nSubject: Lunch\r\n"
    b"Message-ID: <1@acme.example>\r\n\r\nSee you at noon.\r\n"
)
ASK = ("--request-receipt", "alice@acme.example")


@pytest.fixture(scope="module")
def certificates(
    module: Module, new_token: Callable[..., str], user_pin: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with `ca.pem` and the certificates of Alice, Bob and Carol, whose keys are on the token."""
    folder = tmp_path_factory.mktemp("certificates")
    with open_token(module, new_token(TOKEN), Pin(user_pin), read_write=True) as token:

        def key(label: str, usage: KeyUsage = KeyUsage.SIGN, spec: str = "ec:p256"):  # noqa: ANN202
            return open_key(token, generate_key(token, label, KeySpec.parse(spec), usage))

        authority = key("ca")
        root = root_certificate(authority, "CN=Root")
        (folder / "ca.pem").write_text(root.pem())
        for label, spec in (("alice", "rsa:2048"), ("bob", "ec:p256"), ("carol", "ec:p256")):
            usage = KeyUsage.BOTH if spec.startswith("rsa") else KeyUsage.SIGN
            public_key = key(label, usage, spec).public_key
            name, addresses = f"CN={label.title()}", [f"{label}@acme.example"]
            certificate = issue(authority, root, public_key, name, addresses, usage=usage)
            import_certificate(token, certificate, label=label)
            (folder / f"{label}.pem").write_text(certificate.pem())
    return folder


@dataclass
class Desk:
    """A folder with `lunch.eml`, and the command line."""

    folder: Path
    certificates: Path
    pin_file: Path
    main: Callable[..., tuple[str, str]]

    def mail(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What `tokensign mail` prints on standard output and on standard error."""
        return self.main(
            "mail", *arguments, "--token", TOKEN, "--pin-source", f"file:{self.pin_file}", code=code
        )

    @property
    def trust(self) -> tuple[str, str]:
        return "--trust", str(self.certificates / "ca.pem")

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@pytest.fixture
def desk(
    certificates: Path,
    pin_file: Path,
    desk_folder: Path,
    main_here: Callable[..., tuple[str, str]],
) -> Desk:
    (desk_folder / "lunch.eml").write_bytes(MAIL)
    return Desk(desk_folder, certificates, pin_file, main_here)


def test_receipt_is_asked_for_given_and_verified(desk: Desk) -> None:
    desk.mail("sign", "lunch.eml", "--key", "alice", *ASK, "-o", "signed.eml")
    shown, _ = desk.mail("open", "signed.eml", *desk.trust)
    assert "receipt   asked, for alice@acme.example; see `tokensign mail receipt make`" in shown
    _, told = desk.mail("receipt", "make", "signed.eml", "--key", "bob", *desk.trust, "-o", "receipt.eml")
    assert told == "receipt.eml: a receipt of CN=Bob for alice@acme.example\n"
    receipt = email.message_from_bytes(desk.read("receipt.eml"), policy=email.policy.default)
    assert (receipt["From"], receipt["To"]) == ("bob@acme.example", "alice@acme.example")
    assert receipt["In-Reply-To"] == "<1@acme.example>"
    verify = ("receipt", "verify", "receipt.eml", *desk.trust, "--email", "bob@acme.example")
    shown, _ = desk.mail(*verify, "--sent", "signed.eml")
    assert shown.startswith("GOOD: ")
    desk.mail("receipt", "record", "signed.eml", "-o", "kept.json")
    shown, _ = desk.mail(*verify, "--sent", "kept.json")
    assert shown.startswith("GOOD: ")


def test_receipt_that_is_not_the_expected_one_is_refused(desk: Desk) -> None:
    for name in ("first", "second"):
        desk.mail("sign", "lunch.eml", "--key", "alice", *ASK, "-o", f"{name}.eml")
    desk.mail("receipt", "make", "first.eml", "--key", "bob", *desk.trust, "-o", "receipt.eml")
    verify = ("receipt", "verify", "receipt.eml", *desk.trust)
    _, told = desk.mail(*verify, "--sent", "second.eml", code=1)
    assert told.startswith("error: the receipt is for another message\n")
    shown, _ = desk.mail(*verify, "--sent", "first.eml", "--email", "carol@acme.example", code=1)
    assert shown.startswith("BAD: ")


def test_encrypted_receipt_is_decrypted_with_the_token(desk: Desk) -> None:
    desk.mail("sign", "lunch.eml", "--key", "alice", *ASK, "-o", "signed.eml")
    desk.mail("receipt", "make", "signed.eml", "--key", "bob", *desk.trust, "-o", "receipt.eml")
    desk.mail("encrypt", "receipt.eml", "--to", str(desk.certificates / "alice.pem"), "-o", "secret.eml")
    verify = ("receipt", "verify", "secret.eml", "--sent", "signed.eml", "--key", "alice", "--json")
    shown, _ = desk.mail(*verify, *desk.trust)
    assert (json.loads(shown)["verdict"], json.loads(shown)["encrypted"]) == ("good", True)


def test_mail_that_was_encrypted_to_others_is_told_from_its_receipt(desk: Desk) -> None:
    desk.mail("sign", "lunch.eml", "--key", "alice", *ASK, "-o", "signed.eml")
    desk.mail("encrypt", "signed.eml", "--password-source", f"file:{desk.pin_file}", "-o", "sent.eml")
    _, told = desk.mail("receipt", "record", "sent.eml", "-o", "kept.json", code=4)
    assert told.startswith("error: the mail that was sent is encrypted, and what verifies its receipts is in")
    assert "hint: name the mail as it was signed" in told


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((*ASK, "--receipt-from", "carol@acme.example"), "a receipt is asked of others, not of CN=Bob"),
        ((), "the mail does not ask for a receipt"),
    ],
)
def test_no_receipt_appears_where_none_is_owed(desk: Desk, options: tuple[str, ...], reason: str) -> None:
    desk.mail("sign", "lunch.eml", "--key", "alice", *options, "-o", "signed.eml")
    make = ("receipt", "make", "signed.eml", "--key", "bob", *desk.trust, "-o", "receipt.eml")
    _, told = desk.mail(*make, code=1)
    assert told.startswith(f"error: {reason}\n")
    assert not (desk.folder / "receipt.eml").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--receipt-from", "bob@acme.example"),
        (*ASK, "--receipt-from", "first-tier", "--receipt-from", "bob@acme.example"),
        ("--request-receipt", "alice"),
        ("--security-label", "secret"),
        ("--security-label", "acme:secret"),
        ("--security-label", "1.2.3.4:cosmic"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(desk: Desk, options: tuple[str, ...]) -> None:
    desk.mail("sign", "lunch.eml", "--key", "alice", *options, "-o", "signed.eml", code=2)
    assert not (desk.folder / "signed.eml").exists()


def test_label_that_nobody_signs_is_refused(desk: Desk) -> None:
    to = ("--to", str(desk.certificates / "alice.pem"))
    _, told = desk.mail(
        "encrypt", "lunch.eml", *to, "--security-label", "1.2.3.4:secret", "-o", "secret.eml", code=2
    )
    assert told.startswith("error: --security-label is signed, and nobody signs\n")


def test_inspect_shows_what_a_mail_asks(desk: Desk) -> None:
    desk.mail("sign", "lunch.eml", "--key", "alice", *ASK, "-o", "signed.eml")
    shown, _ = desk.main("inspect", "signed.eml")
    assert "receipt request:" in shown
    assert "to: alice@acme.example" in shown


def test_mail_beyond_the_clearance_is_not_written(desk: Desk) -> None:
    label = ("--security-label", "1.2.3.4:secret:eyes only")
    desk.mail("sign", "lunch.eml", "--key", "alice", *label, "-o", "signed.eml")
    open_ = ("open", "signed.eml", *desk.trust, "--label-policy", "clearance.toml", "-o", "opened.eml")
    clearance = desk.folder / "clearance.toml"
    clearance.write_text('[[policy]]\nid = "1.2.3.4"\nname = "Acme"\nhighest = "confidential"\n')
    _, told = desk.mail(*open_, code=1)
    assert told.startswith("error: the content is secret by policy Acme, you may see confidential\n")
    assert not (desk.folder / "opened.eml").exists()
    clearance.write_text('[[policy]]\nid = "1.2.3.4"\nhighest = "top-secret"\n')
    shown, _ = desk.mail(*open_)
    assert "label     secret by policy 1.2.3.4 (eyes only)" in shown
    assert (desk.folder / "opened.eml").exists()
