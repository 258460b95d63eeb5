"""`mail open`, in this process, with keys on a token of their own."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from mail_reports import check_mail_document

from tokensign.algorithms import CONTENT_CIPHERS, KeySpec, KeyUsage
from tokensign.cms.certificates_only import write_certificates_only
from tokensign.pki.ca import issue, root_certificate, self_signed
from tokensign.smime.compose import write_pkcs7_mime
from tokensign.smime.compose_mail import MailOptions, encrypt_mail, sign_mail
from tokensign.token import Pin, TokenKey, generate_key, import_certificate, open_key, open_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokensign.token import Module, Token

MAIL = (
    b"From: Alice <alice@acme.example>\r\nTo: bob@acme.example\r\nSubject: Figures\r\n\r\nThey are good.\r\n"
)
TOKEN = "mail-open"


@pytest.fixture(scope="module")
def mails(
    module: Module, new_token: Callable[..., str], user_pin: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with mails of Alice to Bob, whose keys are on the token, and with `ca.pem`."""
    folder = tmp_path_factory.mktemp("mails")
    with open_token(module, new_token(TOKEN), Pin(user_pin), read_write=True) as token:
        authority = _key(token, "ca", "ec:p256")
        root = root_certificate(authority, "CN=Root")
        alice = _certified(token, "alice", "ec:p256", KeyUsage.SIGN, authority, root)
        bob = _certified(token, "bob", "rsa:2048", KeyUsage.DECRYPT, authority, root)
        stranger = _key(token, "stranger", "ec:p256")
        unknown = open_key(
            token, stranger.info, certificate=self_signed(stranger, "CN=Alice", ["alice@acme.example"])
        )
        (folder / "ca.pem").write_text(root.pem())

        def write(name: str, compose: Callable[[io.BytesIO, io.BytesIO], object]) -> None:
            output = io.BytesIO()
            compose(io.BytesIO(MAIL), output)
            (folder / name).write_bytes(output.getvalue())

        assert bob.certificate is not None
        readers = [bob.certificate]
        cbc = MailOptions(cipher=CONTENT_CIPHERS["aes-256-cbc"])
        write("signed.eml", lambda message, output: sign_mail(message, [alice], output))
        write("stranger.eml", lambda message, output: sign_mail(message, [unknown], output))
        write("secret.eml", lambda message, output: encrypt_mail(message, readers, output, signers=[alice]))
        write("cbc.eml", lambda message, output: encrypt_mail(message, readers, output, cbc))
        (folder / "plain.eml").write_bytes(MAIL)
        original = (folder / "signed.eml").read_bytes()
        changed = original.replace(b"Subject: Figures", b"Subject: Holidays", 1)
        (folder / "changed.eml").write_bytes(changed)
        (folder / "cut.eml").write_bytes(original[:-100])
        certificates = io.BytesIO()
        write_pkcs7_mime(io.BytesIO(write_certificates_only(readers)), "certs-only", certificates)
        (folder / "certs.eml").write_bytes(certificates.getvalue())
        squeezed = MailOptions(opaque=True, compress=True)
        write("squeezed.eml", lambda message, output: sign_mail(message, [alice], output, squeezed))
        secret = (folder / "cbc.eml").read_bytes()
        (folder / "mixed.eml").write_bytes(
            b"From: mallory@evil.example\r\nContent-Type: multipart/mixed; boundary==m\r\n\r\n"
            b'--=m\r\nContent-Type: text/html\r\n\r\n<img src="http://evil.example/\r\n--=m\r\n'
            + secret[secret.index(b"MIME-Version:") :] + b"\r\n--=m--\r\n"
        )  # fmt: skip
    return folder


def _key(token: Token, label: str, spec: str, usage: KeyUsage = KeyUsage.SIGN) -> TokenKey:
    return open_key(token, generate_key(token, label, KeySpec.parse(spec), usage))


def _certified(
    token: Token,
    label: str,
    spec: str,
    usage: KeyUsage,
    authority: TokenKey,
    root: Any,  # noqa: ANN401
) -> TokenKey:
    key = _key(token, label, spec, usage)
    address = f"{label}@acme.example"
    certificate = issue(authority, root, key.public_key, f"CN={label.title()}", [address], usage=usage)
    import_certificate(token, certificate, label=label)
    return open_key(token, key.info, certificate=certificate)


@dataclass
class Desk:
    """A folder for what is opened, and the command line."""

    folder: Path
    mails: Path
    pin_file: Path
    main: Callable[..., tuple[str, str]]

    def run(self, *arguments: str, code: int = 0, pin: str | None = None) -> tuple[str, str]:
        """What `mail open` prints on standard output and on standard error."""
        common = ("--token", TOKEN, "--pin-source", pin or f"file:{self.pin_file}")
        return self.main("mail", "open", *arguments, *common, code=code)

    def open(self, name: str, *arguments: str, **options: Any) -> tuple[str, str]:  # noqa: ANN401
        trust = ("--trust", str(self.mails / "ca.pem"))
        return self.run(str(self.mails / name), *trust, *arguments, **options)

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture
def desk(
    mails: Path,
    pin_file: Path,
    desk_folder: Path,
    main_here: Callable[..., tuple[str, str]],
) -> Desk:
    return Desk(desk_folder, mails, pin_file, main_here)


def test_a_mail_that_is_signed_and_encrypted_is_opened_and_told(desk: Desk) -> None:
    shown, _ = desk.open("secret.eml", "--key", "bob", "-o", "opened.eml")
    lines = shown.splitlines()
    assert (
        lines[0]
        == "GOOD: the mail is unchanged since it was signed by Alice <alice@acme.example> (says Root)"
    )
    assert "  ✓ sender    signed by alice@acme.example, as From says" in lines
    assert (
        "the mail is encrypted (aes-256-gcm, unchanged since it was encrypted, opened with the key of CN=Bob)"
        in lines
    )
    assert "part 1 is signed (multipart/signed)" in lines
    assert "header Subject: Figures (signed and encrypted; hidden outside)" in lines
    text = (desk.folder / "opened.eml").read_bytes()
    assert b"Subject: Figures\r\n" in text
    assert text.endswith(b"They are good.\r\n")
    assert (desk.folder / "opened.eml").stat().st_mode & 0o077 == 0


def test_the_key_is_found_without_its_name(desk: Desk) -> None:
    shown, _ = desk.open("secret.eml")
    assert shown.startswith("GOOD:")
    assert desk.files == set()


def test_no_pin_is_asked_for_where_nothing_is_encrypted(desk: Desk) -> None:
    shown, _ = desk.open("signed.eml", "--key", "bob", pin="file:/no/such/file")
    assert shown.startswith("GOOD:")
    desk.open("secret.eml", "--key", "bob", pin="file:/no/such/file", code=3)


def test_nothing_appears_where_the_verdict_is_bad(desk: Desk) -> None:
    shown, _ = desk.open("stranger.eml", "-o", "opened.eml", "--report", "report.json", code=1)
    assert shown.startswith("BAD: the signature of Alice on the mail does not hold: ")
    assert desk.files == {"report.json"}
    document = json.loads((desk.folder / "report.json").read_text())
    check_mail_document(document)
    assert document["verdict"] == "bad"
    shown, _ = desk.run(str(desk.mails / "stranger.eml"), "--signature-only", "-o", "opened.eml")
    assert shown.startswith("INTACT:")
    assert "opened.eml" in desk.files


def test_what_nobody_authenticated_is_marked(desk: Desk) -> None:
    shown, _ = desk.open("cbc.eml", "-o", "opened.eml")
    assert shown.startswith("UNSIGNED: ")
    assert "anybody may have sent or changed it" in shown
    assert "(aes-256-cbc, not authenticated, anybody may have changed it" in shown


@pytest.mark.parametrize("name", ["plain.eml", "cbc.eml", "mixed.eml"])
def test_scripts_can_demand_that_a_mail_is_signed(desk: Desk, name: str) -> None:
    desk.open(name)
    desk.open(name, "--require-signed", "-o", "opened.eml", code=1)
    assert desk.files == set()
    desk.open("signed.eml", "--require-signed")


def test_an_encrypted_part_is_opened_only_where_it_is_named(desk: Desk) -> None:
    shown, _ = desk.open("mixed.eml", "-o", "whole.eml", pin="file:/no/such/file")
    assert "part 2 is encrypted, and was not opened" in shown
    assert b"They are good." not in (desk.folder / "whole.eml").read_bytes()
    desk.open("mixed.eml", "--part", "2", "-o", "part.eml")
    text = (desk.folder / "part.eml").read_bytes()
    assert b"They are good." in text
    assert b"evil.example" not in text
    _, told = desk.open("mixed.eml", "--part", "9", code=2)
    assert "the mail has no part 9" in told


def test_programs_get_one_document(desk: Desk) -> None:
    shown, told = desk.open("secret.eml", "--json")
    document = json.loads(shown)
    check_mail_document(document)
    assert document["verdict"] == "good"
    assert [layer["kind"] for layer in document["layers"]] == ["encrypted", "signed"]
    assert told == ""
    shown, told = desk.open("signed.eml", "-o", "-")
    assert shown.endswith(("They are good.\r\n", "They are good.\n"))
    assert told.startswith("GOOD:")


def test_old_files_are_replaced_only_when_told(desk: Desk) -> None:
    desk.open("signed.eml", "-o", "opened.eml")
    desk.open("signed.eml", "-o", "opened.eml", code=5)
    desk.open("signed.eml", "-o", "opened.eml", "--force")


@pytest.mark.parametrize(
    ("name", "code", "line"),
    [
        ("changed.eml", 0, "header Subject: Figures (signed; changed outside to Holidays)"),
        ("certs.eml", 0, "the mail carries certificates, and no signature: CN=Bob"),
        ("squeezed.eml", 0, "the mail is compressed"),
        (
            "cut.eml",
            1,
            "BAD: the signature on the mail cannot be verified: it is cut off: its last boundary is missing",
        ),
    ],
)
def test_each_layer_and_field_is_told(desk: Desk, name: str, code: int, line: str) -> None:
    shown, _ = desk.open(name, code=code)
    assert line in shown.splitlines()


def test_trust_must_be_named(desk: Desk) -> None:
    _, told = desk.run(str(desk.mails / "signed.eml"), code=2)
    assert "no trust anchor is given" in told
