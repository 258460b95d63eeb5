"""A mail goes from Alice by Postfix, the gateway, Postfix and Dovecot to Bob, and Bob opens it."""

from __future__ import annotations

import email
import email.policy
import io
import json
import smtplib
from email.message import EmailMessage
from typing import TYPE_CHECKING

import pytest
from asn1crypto import cms as asn1_cms
from click.testing import CliRunner

from tokensign.algorithms import content_cipher
from tokensign.cli.root import root
from tokensign.contacts import ContactStore
from tokensign.smime.compose_mail import MailOptions, encrypt_mail, sign_mail
from tokensign.smime.unwrap import open_message

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result
    from conftest import Gateway, Organisation, Post


def letter(to: str = "bob@acme.example", by: str = "alice@acme.example") -> EmailMessage:
    mail = EmailMessage(policy=email.policy.SMTP)
    mail["From"] = f"Alice <{by}>"
    mail["To"] = to
    mail["Subject"] = "Figures"
    mail["Message-ID"] = "<1@acme.example>"
    mail.set_content("Dear Bob,\n\nthe figures are attached. Zürich is fine.\n.\n..\n\nAlice\n")
    mail.add_attachment(bytes(range(256)) * 400, "application", "octet-stream", filename="figures.bin")
    mail.add_attachment("a;b\n1;2\n", subtype="csv", filename="table.csv")
    return mail


def run(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(root, list(map(str, arguments)))
    assert result.exit_code == code, f"{result.output}{result.exception!r}"
    return result


@pytest.fixture
def config(post: Post, acme: Organisation, tmp_path: Path) -> Path:
    path = tmp_path / "people.toml"
    path.write_text(f"""
token = "acme"
pin-source = "file:{acme.folder / "pin"}"
trust = ["{acme.folder / "ca.pem"}"]

[mail]
submission = "smtps://alice%40acme.example@localhost:{post.office.submission}"
imap = "imaps://bob%40acme.example@localhost:{post.office.dovecot.imaps}"
password-source = "file:{acme.folder / "password"}"
trust = ["{post.office.tls.ca}"]
""")
    return path


@pytest.mark.usefixtures("outgoing")
def test_signed_and_encrypted_by_the_gateway_fetched_and_opened_by_bob(
    post: Post, config: Path, tmp_path: Path
) -> None:
    sent = letter()
    (tmp_path / "letter.eml").write_bytes(sent.as_bytes())
    run("--config", config, "mail", "send", tmp_path / "letter.eml")
    assert len(post.wait_for("bob@acme.example", 1)) == 1
    (tmp_path / "mails").mkdir()
    run("--config", config, "mail", "fetch", "--unseen", "-o", tmp_path / "mails")
    (fetched,) = (tmp_path / "mails").iterdir()
    assert b"figures" not in fetched.read_bytes()  # it travelled encrypted
    run(
        *("--config", config, "mail", "open", fetched),
        *("-o", tmp_path / "opened.eml", "--report", tmp_path / "report.json"),
    )
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert report["verdict"] == "good"
    assert [layer["kind"] for layer in report["layers"]] == ["encrypted", "signed"]
    assert report["sender_address"] == "alice@acme.example"
    opened = read(tmp_path / "opened.eml")
    assert opened["Subject"] == "Figures"
    assert attachments(opened) == attachments(sent)


def attachments(mail: EmailMessage) -> dict[str | None, object]:
    """The parts by their names; mail has CR LF at the ends of lines of text."""
    contents = {part.get_filename(): part.get_content() for part in mail.walk() if not part.is_multipart()}
    return {
        name: content.replace("\r\n", "\n") if isinstance(content, str) else content
        for name, content in contents.items()
    }


@pytest.mark.usefixtures("incoming")
def test_the_gateway_opens_what_comes_in_and_says_what_it_found(post: Post, acme: Organisation) -> None:
    plain = letter()
    plain["Authentication-Results"] = "mail.acme.example; smime=pass reason=forged"
    plain["Authentication-Results"] = "other.example; spf=pass"
    bring(post, encrypted(plain, acme))
    arrived = only(post, "bob@acme.example")
    assert arrived["Subject"] == "Figures"
    assert attachments(arrived) == attachments(letter())
    own = [value for value in arrived.get_all("Authentication-Results") if "mail.acme.example" in value]
    assert len(own) == 1
    assert "smime=pass" in own[0]
    assert "body.smime-identifier=alice@acme.example" in own[0]
    assert any("other.example" in value for value in arrived.get_all("Authentication-Results"))


@pytest.mark.usefixtures("incoming")
def test_a_signed_mail_keeps_its_signature_and_one_that_was_changed_is_told(
    post: Post, acme: Organisation
) -> None:
    with io.BytesIO() as output:
        sign_mail(io.BytesIO(letter().as_bytes()), [acme.alice], output)
        signed = output.getvalue()
    bring(post, signed)
    arrived = only(post, "bob@acme.example", remove=True)
    assert arrived.get_content_type() == "multipart/signed"
    assert "smime=pass" in arrived["Authentication-Results"]
    bring(post, signed.replace(b"figures are", b"figures were"))
    assert "smime=fail" in only(post, "bob@acme.example")["Authentication-Results"]


@pytest.mark.usefixtures("incoming")
def test_a_mail_that_cannot_be_opened_arrives_as_it_was(post: Post, acme: Organisation) -> None:
    mail = encrypted(letter(), acme)
    broken = mail[:-400] + mail[-400:].replace(b"A", b"B")
    for_carol = mail.replace(b"To: bob@", b"To: carol@")
    bring(post, broken)
    bring(post, for_carol, "carol@elsewhere.example")
    for address, sent in (("bob@acme.example", broken), ("carol@elsewhere.example", for_carol)):
        (path,) = post.wait_for(address, 1)
        assert "smime=neutral" in read(path)["Authentication-Results"]
        assert body(path.read_bytes()) == body(sent)


@pytest.mark.usefixtures("incoming")
def test_what_is_encrypted_without_protection_and_not_signed_stays_closed(
    post: Post, acme: Organisation
) -> None:
    bring(post, encrypted(letter(), acme, signed=False, cipher="aes-256-cbc"))
    arrived = only(post, "bob@acme.example")
    assert arrived.get_content_type() == "application/pkcs7-mime"
    assert "without protection" in arrived["Authentication-Results"]


@pytest.mark.usefixtures("outgoing")
def test_who_is_not_in_the_header_gets_a_copy_that_the_others_do_not_see(
    post: Post, acme: Organisation, config: Path, tmp_path: Path
) -> None:
    with ContactStore(acme.folder / "contacts.sqlite") as contacts:
        (bob,) = contacts.certificates_for("bob@acme.example")
        carol = acme.for_carol
        contacts.add(carol, "carol@acme.example")
    mail = letter()
    mail["Bcc"] = "carol@acme.example"
    (tmp_path / "letter.eml").write_bytes(mail.as_bytes())
    run("--config", config, "mail", "send", tmp_path / "letter.eml")
    recipients = {
        name: recipients_of(post.wait_for(f"{name}@acme.example", 1)[0].read_bytes())
        for name in ("bob", "carol")
    }
    assert recipients == {"bob": [bob.certificate.serial_number], "carol": [carol.serial_number]}


@pytest.mark.usefixtures("outgoing")
def test_a_recipient_without_a_certificate_is_refused_and_the_sender_told(
    post: Post, config: Path, tmp_path: Path
) -> None:
    (tmp_path / "letter.eml").write_bytes(letter(to="bob@acme.example, dave@acme.example").as_bytes())
    run("--config", config, "mail", "send", tmp_path / "letter.eml")
    bounce = only(post, "alice@acme.example")
    assert "no certificate to encrypt to is known for this recipient" in words(bounce)
    assert len(post.wait_for("bob@acme.example", 1)) == 1
    assert post.office.dovecot.mails("dave@acme.example") == []


@pytest.mark.usefixtures("outgoing")
def test_nobody_signs_in_the_name_of_alice(post: Post, config: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.eml").write_bytes(letter(by="office@acme.example").as_bytes())
    run("--config", config, "mail", "send", tmp_path / "letter.eml", "--from", "mallory@acme.example")
    assert "From is not the one address" in words(only(post, "mallory@acme.example"))
    assert post.office.dovecot.mails("bob@acme.example") == []


@pytest.mark.usefixtures("outgoing")
def test_a_refusal_of_the_next_server_reaches_the_sender_and_the_others_get_the_mail(
    post: Post, config: Path, tmp_path: Path
) -> None:
    (tmp_path / "letter.eml").write_bytes(
        letter(to="bob@acme.example, nobody@acme.example", by="office@acme.example").as_bytes()
    )
    run("--config", config, "mail", "send", tmp_path / "letter.eml")
    assert "no such person" in words(only(post, "office@acme.example"))
    assert len(post.wait_for("bob@acme.example", 1)) == 1


def test_a_gateway_that_is_told_to_end_ends_in_good_order(outgoing: Gateway) -> None:
    assert outgoing.stop() == 0
    assert "the gateway has ended" in outgoing.log.read_text()
    outgoing.start()


def bring(post: Post, mail: bytes, to: str = "bob@acme.example") -> None:
    """A stranger's server delivers a mail."""
    with smtplib.SMTP("127.0.0.1", post.office.inward, "elsewhere") as smtp:
        smtp.sendmail("alice@acme.example", [to], mail, ["body=8bitmime"])


def encrypted(
    mail: EmailMessage, acme: Organisation, *, signed: bool = True, cipher: str = "aes-256-gcm"
) -> bytes:
    with ContactStore(acme.folder / "contacts.sqlite") as contacts:
        (bob,) = contacts.certificates_for("bob@acme.example")
    with io.BytesIO() as output:
        options = MailOptions(cipher=content_cipher(cipher))
        signers = [acme.alice] if signed else []
        encrypt_mail(io.BytesIO(mail.as_bytes()), [bob.certificate], output, options, signers=signers)
        return output.getvalue()


def only(post: Post, address: str, *, remove: bool = False) -> EmailMessage:
    """The one mail of an address."""
    (path,) = post.wait_for(address, 1)
    mail = read(path)
    if remove:
        path.unlink()
    return mail


def read(path: Path) -> EmailMessage:
    return email.message_from_bytes(path.read_bytes(), policy=email.policy.SMTP)


def words(mail: EmailMessage) -> str:
    """All of a mail on one line, because Postfix breaks what it cites."""
    return " ".join(mail.as_string().split())


def body(mail: bytes) -> bytes:
    """Dovecot keeps lines with LF."""
    return mail.replace(b"\r\n", b"\n").partition(b"\n\n")[2]


def recipients_of(mail: bytes) -> list[int]:
    """The serial numbers of the certificates that a mail is encrypted to."""
    with open_message(io.BytesIO(mail)) as opened:
        info = asn1_cms.ContentInfo.load(opened.cms.read())
    return [
        entry.chosen["rid"].chosen["serial_number"].native for entry in info["content"]["recipient_infos"]
    ]
