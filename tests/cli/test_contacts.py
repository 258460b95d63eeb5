"""`tokensign contacts`, and what `mail encrypt` does with them."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from correspondents import BOB, NOW, Authority, private_key
from dns_server import Domain, resolver
from software_signer import SoftwareSigner
from sqlalchemy import update

from tokensign.algorithms import CONTENT_CIPHERS
from tokensign.cli.mail.composing import Composing
from tokensign.cli.root import root
from tokensign.cms.capabilities import Capability, encode_capabilities
from tokensign.cms.encryption_key_preference import encryption_key_preference
from tokensign.cms.envelope import read_envelope
from tokensign.cms.signer_info import SigningOptions
from tokensign.contacts import ContactStore
from tokensign.contacts.smimea import smimea_name
from tokensign.errors import TokensignError, UnsupportedError, UntrustedError, UsageError
from tokensign.smime.compose_mail import MailOptions, sign_mail
from tokensign.smime.unwrap import open_message
from tokensign.store import Store
from tokensign.store.tables import CONTACTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from tokensign.certificates import Certificate

HELLO = f"From: Bob <{BOB}>\r\nTo: alice@acme.example\r\nSubject: Hello\r\n\r\nHello\r\n".encode()
LETTER = "From: alice@acme.example\r\nTo: {}\r\nSubject: Secret\r\n\r\nHello\r\n"


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """Commands attach a handler to the library's logger."""
    yield
    logger = logging.getLogger("tokensign")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Acme CA")


class Shell:
    """Runs commands in a folder, with contacts of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = folder / "data" / "contacts.sqlite"

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def certificate(self, name: str, certificate: Certificate) -> Path:
        return self.write(name, certificate.pem())

    def invoke(self, *arguments: str | Path) -> Result:
        """Run a command, whatever comes of it."""
        environment = {"TOKENSIGN_CONTACTS": str(self.place), "XDG_CONFIG_HOME": str(self.folder)}
        return CliRunner().invoke(root, list(map(str, arguments)), env=environment)

    def run(self, *arguments: str | Path) -> Result:
        """Run a command that must succeed."""
        result = self.invoke(*arguments)
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    def refuse(self, *arguments: str | Path) -> TokensignError:
        """Run a command that must fail, with an error that is not a bug."""
        error = self.invoke(*arguments).exception
        assert isinstance(error, TokensignError)
        return error

    def listed(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.run("contacts", "list", "--json").stdout)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def signed_mail(certificate: Certificate, key: str = "bob", message: bytes = HELLO) -> bytes:
    output = io.BytesIO()
    sign_mail(io.BytesIO(message), [SoftwareSigner(private_key(key), certificate)], output, MailOptions())
    return output.getvalue()


# --- adding files, showing, removing


def test_a_certificate_file_becomes_a_contact_of_each_of_its_addresses(
    shell: Shell, authority: Authority
) -> None:
    certificate = authority.issue(emails=[BOB, "robert@acme.example"])
    result = shell.run("contacts", "add", shell.certificate("bob.pem", certificate), "--json")
    assert [change["address"] for change in json.loads(result.stdout)] == [BOB, "robert@acme.example"]
    (bob, _) = shell.listed()
    (known,) = bob["certificates"]
    assert (known["state"], known["origin"], known["sha256"]) == ("current", "hand", certificate.sha256.hex())
    assert bob["capabilities"] is None
    assert BOB in shell.run("contacts", "list").stdout
    assert certificate.sha256.hex() in shell.run("contacts", "show", BOB).stdout


def test_the_certificates_of_cas_in_a_file_are_no_contacts(shell: Shell, authority: Authority) -> None:
    between = Authority("Acme People CA", authority)
    certificate = between.issue()
    shell.run("contacts", "add", shell.write("chain.pem", certificate.pem() + between.certificate.pem()))
    assert [contact["address"] for contact in shell.listed()] == [BOB]
    with ContactStore(shell.place) as store:
        assert store.issuers_of(certificate) == (between.certificate,)


def test_a_certificate_without_an_address_needs_one(shell: Shell, authority: Authority) -> None:
    file = shell.certificate("bob.pem", authority.issue(emails=[]))
    assert "names no address" in shell.refuse("contacts", "add", file).message
    shell.run("contacts", "add", file, "--email", BOB)
    assert [contact["address"] for contact in shell.listed()] == [BOB]


def test_another_key_of_a_correspondent_is_shown(shell: Shell, authority: Authority) -> None:
    first, second = authority.issue(), authority.issue("bob 2")
    assert "warning" not in shell.run("contacts", "add", shell.certificate("1.pem", first)).stderr
    result = shell.run("contacts", "add", shell.certificate("2.pem", second))
    assert f"warning: the key of {BOB} changed" in result.stderr
    assert first.sha256.hex()[:16] in result.stderr
    assert second.sha256.hex()[:16] in result.stderr
    states = [known["state"] for known in shell.listed()[0]["certificates"]]
    assert states == ["current", "retired"]


def test_what_is_removed_is_gone(shell: Shell, authority: Authority) -> None:
    first, second = authority.issue(), authority.issue("bob 2")
    shell.run("contacts", "add", shell.certificate("1.pem", first), shell.certificate("2.pem", second))
    shell.run("contacts", "remove", BOB, "--certificate", first.sha256.hex()[:16].upper())
    assert [known["sha256"] for known in shell.listed()[0]["certificates"]] == [second.sha256.hex()]
    shell.run("contacts", "remove", BOB)
    assert shell.listed() == []
    assert shell.run("contacts", "list").stdout == "There is no contact.\n"


@pytest.mark.parametrize("command", ["show", "remove"])
def test_who_is_not_known_is_told(shell: Shell, command: str) -> None:
    error = shell.refuse("contacts", command, BOB)
    assert (error.message, error.exit_code) == (f"{BOB} is not among the contacts", 2)


def test_a_certificate_that_is_not_known_or_ambiguous_is_not_removed(
    shell: Shell, authority: Authority
) -> None:
    first, second = authority.issue(), authority.issue("bob 2")
    shell.run("contacts", "add", shell.certificate("1.pem", first), shell.certificate("2.pem", second))
    for digit in "0123456789abcdefg":
        arguments = ["contacts", "remove", BOB, "--certificate", digit]
        matching = sum(entry.sha256.hex().startswith(digit) for entry in (first, second))
        if matching != 1:
            assert f"of {matching} certificates" in shell.refuse(*arguments).message
    assert len(shell.listed()[0]["certificates"]) == 2


def test_an_expired_certificate_is_not_added(shell: Shell, authority: Authority) -> None:
    error = shell.refuse("contacts", "add", shell.certificate("bob.pem", authority.issue(days=(-9, -1))))
    assert isinstance(error, UntrustedError)
    assert shell.listed() == []


def test_exactly_one_source_is_asked_for(shell: Shell) -> None:
    for arguments in ([], ["bob.pem", "--smimea", BOB], ["--from-mail", "a.eml", "--smimea", BOB]):
        error = shell.refuse("contacts", "add", *arguments)
        assert isinstance(error, UsageError)
        assert error.hint == "give CERT, --from-mail or --smimea"


def test_the_configuration_says_where_the_contacts_are(shell: Shell, authority: Authority) -> None:
    config = shell.write("config.toml", 'contacts = "mine.sqlite"')
    file = shell.certificate("bob.pem", authority.issue())
    arguments = ["contacts", "add", str(file), "--config", str(config)]
    done = CliRunner().invoke(root, arguments, env={"TOKENSIGN_CONTACTS": None})
    assert done.exit_code == 0
    with ContactStore(shell.folder / "mine.sqlite") as store:
        assert [contact.address for contact in store.all()] == [BOB]


def test_without_a_word_about_it_the_contacts_are_in_the_users_data_folder(shell: Shell) -> None:
    environment = {"TOKENSIGN_CONTACTS": None, "XDG_DATA_HOME": str(shell.folder / "share")}
    done = CliRunner().invoke(root, ["contacts", "list"], env=environment)
    assert done.exit_code == 0
    assert (shell.folder / "share" / "tokensign" / "contacts.sqlite").exists()


# --- from mail


def test_a_signed_mail_makes_its_sender_a_contact(shell: Shell, authority: Authority) -> None:
    certificate = authority.issue()
    mail = shell.write("hello.eml", signed_mail(certificate))
    anchor = shell.certificate("ca.pem", authority.certificate)
    shell.run("contacts", "add", "--from-mail", mail, "--trust", anchor)
    (bob,) = shell.listed()
    assert bob["address"] == BOB
    assert bob["capabilities"] == [
        "aes-256-gcm", "aes-256-cbc", "aes-128-gcm", "aes-128-cbc", "rsaes-oaep"
    ]  # fmt: skip
    assert [known["origin"] for known in bob["certificates"]] == ["mail"]
    assert "reads: aes-256-gcm" in shell.run("contacts", "show", BOB).stdout


@pytest.mark.parametrize("fault", ["changed", "from another", "untrusted", "unsigned"])
def test_nothing_is_learned_from_a_mail_that_proves_nothing(
    shell: Shell, authority: Authority, fault: str
) -> None:
    message = signed_mail(authority.issue())
    match fault:
        case "changed":
            message = message.replace(b"\r\n\r\nHello", b"\r\n\r\nHallo")
        case "from another":
            message = signed_mail(authority.issue(), message=HELLO.replace(b"bob@", b"carol@"))
        case "untrusted":
            message = signed_mail(Authority("Other CA").issue())
        case "unsigned":
            message = HELLO
    anchor = shell.certificate("ca.pem", authority.certificate)
    error = shell.refuse("contacts", "add", "--from-mail", shell.write("m.eml", message), "--trust", anchor)
    assert isinstance(error, UntrustedError)
    assert error.message.startswith("nothing is learned from the mail: ")
    assert shell.listed() == []


def test_without_a_trust_anchor_no_mail_is_learned_from(shell: Shell, authority: Authority) -> None:
    mail = shell.write("hello.eml", signed_mail(authority.issue()))
    error = shell.refuse("contacts", "add", "--from-mail", mail)
    assert "no trust anchor" in error.message
    assert error.hint == "name one with --trust or in the configuration"  # there is no --signature-only here
    assert "--signature-only" in (shell.refuse("mail", "open", mail).hint or "")


def test_a_mail_that_is_opened_makes_its_sender_a_contact_where_that_is_asked_for(
    shell: Shell, authority: Authority
) -> None:
    mail = shell.write("hello.eml", signed_mail(authority.issue()))
    anchor = shell.certificate("ca.pem", authority.certificate)
    shell.run("mail", "open", mail, "--trust", anchor)
    assert shell.listed() == []
    shell.run("mail", "open", mail, "--trust", anchor, "--learn")
    assert [contact["address"] for contact in shell.listed()] == [BOB]


def test_opening_a_mail_that_proves_nothing_teaches_nothing(shell: Shell, authority: Authority) -> None:
    mail = shell.write(
        "hello.eml", signed_mail(authority.issue()).replace(b"\r\n\r\nHello", b"\r\n\r\nHallo")
    )
    anchor = shell.certificate("ca.pem", authority.certificate)
    result = shell.invoke("mail", "open", mail, "--trust", anchor, "--learn")
    assert result.exit_code == 1
    assert "nothing is learned from the mail" in result.stderr
    assert shell.listed() == []


@pytest.mark.parametrize("option", ["--signature-only", "--legacy", "--at=2026-01-01"])
def test_nothing_is_learned_from_a_weaker_judgement(shell: Shell, option: str) -> None:
    error = shell.refuse("mail", "open", shell.write("hello.eml", HELLO), "--learn", option)
    assert error.message == "--learn believes only what holds now"


def test_who_signs_tells_to_which_other_certificate_mail_is_encrypted(
    shell: Shell, authority: Authority
) -> None:
    signing = authority.issue(usage=("digital_signature",))
    encrypting = authority.issue("bob 2", usage=("key_agreement",))
    options = composing(encryption_certificate=str(shell.certificate("bob-2.pem", encrypting))).signing()
    output = io.BytesIO()
    signer = SoftwareSigner(private_key("bob"), signing)
    sign_mail(io.BytesIO(HELLO), [signer], output, MailOptions(signing=options))
    anchor = shell.certificate("ca.pem", authority.certificate)
    shell.run("contacts", "add", "--from-mail", shell.write("m.eml", output.getvalue()), "--trust", anchor)
    states = {known["sha256"]: known["state"] for known in shell.listed()[0]["certificates"]}
    assert states == {encrypting.sha256.hex(): "current", signing.sha256.hex(): "signs"}


def test_what_cannot_be_learned_and_who_cannot_be_encrypted_to_is_said(
    shell: Shell, authority: Authority
) -> None:
    signing = authority.issue(usage=("digital_signature",))
    elsewhere = encryption_key_preference(authority.issue("bob 2", usage=("key_agreement",)))
    output = io.BytesIO()
    options = MailOptions(signing=SigningOptions(signed_attributes=(elsewhere,)))
    sign_mail(io.BytesIO(HELLO), [SoftwareSigner(private_key("bob"), signing)], output, options)
    anchor = shell.certificate("ca.pem", authority.certificate)
    mail = shell.write("m.eml", output.getvalue())
    said = shell.run("contacts", "add", "--from-mail", mail, "--trust", anchor).stderr
    assert f"warning: {BOB}: the certificate that the sender prefers for encryption is not used" in said
    assert f"{BOB}: no certificate can be used to encrypt" in said
    assert "none can be used" in shell.run("contacts", "list").stdout
    shell.run("contacts", "add", shell.certificate("bob.pem", authority.issue("bob 3")))
    said = shell.run("contacts", "add", "--from-mail", mail, "--trust", anchor).stderr
    assert "as before" in said


def test_a_certificate_that_only_signs_is_not_told_as_one_to_encrypt_to(
    shell: Shell, authority: Authority
) -> None:
    file = shell.certificate("bob.pem", authority.issue(usage=("digital_signature",)))
    with pytest.raises(UntrustedError, match="not meant for encryption"):
        composing(encryption_certificate=str(file)).signing()


def composing(**given: Any) -> Composing:  # noqa: ANN401 - options of several types
    """The options of `mail sign`, of which some are given."""
    defaults: dict[str, Any] = {entry.name: None for entry in fields(Composing)}
    return Composing(**(defaults | {"chain": ()} | given))


# --- from the DNS


def test_a_certificate_comes_from_the_dns(shell: Shell, authority: Authority) -> None:
    certificate = authority.issue()
    domain = Domain(f"{smimea_name(BOB)} 60 IN SMIMEA 3 0 0 {certificate.der.hex()}\n")
    anchor = shell.write("root.ds", domain.anchor)
    with resolver(domain) as port:
        arguments = ["contacts", "add", "--smimea", BOB, "--nameserver", f"127.0.0.1#{port}"]
        assert isinstance(shell.refuse(*arguments), UntrustedError)  # the real root did not sign it
        assert isinstance(shell.refuse(*arguments, "--trust-resolver"), UntrustedError)
        shell.run(*arguments, "--dns-anchor", anchor)
    (bob,) = shell.listed()
    assert [known["origin"] for known in bob["certificates"]] == ["smimea"]


@pytest.mark.parametrize("nameserver", ["127.0.0.1#x", "localhost"])
def test_what_is_no_resolver_is_refused(shell: Shell, nameserver: str) -> None:
    error = shell.refuse("contacts", "add", "--smimea", BOB, "--nameserver", nameserver)
    assert error.message == f"{nameserver} is not a resolver"


# --- mail is encrypted to contacts


def recipients(message: Path) -> tuple[str, int]:
    """The content cipher and the number of recipients of an encrypted mail."""
    with message.open("rb") as stream, open_message(stream) as opened:
        envelope = read_envelope(opened.cms)
        return envelope.encryption.cipher.name, len(envelope.recipients)


def announce(shell: Shell, cipher: str) -> None:
    """Have all contacts read one cipher only."""
    capabilities = encode_capabilities([Capability(CONTENT_CIPHERS[cipher].oid)])
    with Store(shell.place) as store, store.writing() as connection:
        connection.execute(update(CONTACTS).values(capabilities=capabilities, capabilities_at=NOW))


def test_mail_is_encrypted_to_those_whom_it_names(shell: Shell, authority: Authority) -> None:
    shell.run("contacts", "add", shell.certificate("bob.pem", authority.issue()))
    letter = shell.write("letter.eml", LETTER.format(BOB))
    shell.run("mail", "encrypt", letter, "-o", shell.folder / "secret.eml")
    assert recipients(shell.folder / "secret.eml") == ("aes-256-gcm", 1)


def test_mail_is_encrypted_with_what_the_recipient_can_read_unless_told(
    shell: Shell, authority: Authority
) -> None:
    shell.run("contacts", "add", shell.certificate("bob.pem", authority.issue()))
    letter = shell.write("letter.eml", LETTER.format(BOB))
    announce(shell, "aes-128-cbc")
    shell.run("mail", "encrypt", letter, "-o", shell.folder / "1.eml")
    shell.run("mail", "encrypt", letter, "-o", shell.folder / "2.eml", "--cipher", "aes-192-gcm")
    assert recipients(shell.folder / "1.eml") == ("aes-128-cbc", 1)
    assert recipients(shell.folder / "2.eml") == ("aes-192-gcm", 1)
    announce(shell, "des-ede3-cbc")
    error = shell.refuse("mail", "encrypt", letter, "-o", shell.folder / "3.eml")
    assert isinstance(error, UnsupportedError)
    assert f"{BOB} can only read des-ede3-cbc" in error.message
    assert not (shell.folder / "3.eml").exists()


def test_each_address_in_bcc_gets_a_copy_for_nobody_else(shell: Shell, authority: Authority) -> None:
    for name in ("bob", "alice", "carol"):
        certificate = authority.issue(name, [f"{name}@acme.example"])
        shell.run("contacts", "add", shell.certificate(f"{name}.pem", certificate))
    text = LETTER.format(f"{BOB}, alice@acme.example").replace(
        "Subject", "Bcc: carol@acme.example\r\nSubject"
    )
    shell.run("mail", "encrypt", shell.write("letter.eml", text), "-o", shell.folder / "secret.eml")
    assert recipients(shell.folder / "secret.eml") == ("aes-256-gcm", 2)
    assert recipients(shell.folder / "secret.bcc-1.eml") == ("aes-256-gcm", 1)


def test_a_certificate_that_the_user_gave_serves_an_address_that_it_does_not_name_but_not_in_bcc(
    shell: Shell, authority: Authority
) -> None:
    """Nothing else would keep it out of the copies for the others."""
    file = shell.certificate("bob.pem", authority.issue(emails=[]))
    shell.run("contacts", "add", file, "--email", BOB)
    letter = shell.write("letter.eml", LETTER.format(BOB))
    shell.run("mail", "encrypt", letter, "-o", shell.folder / "secret.eml")
    assert recipients(shell.folder / "secret.eml") == ("aes-256-gcm", 1)
    blind = shell.write("blind.eml", LETTER.format(BOB).replace("To:", "Bcc:"))
    error = shell.refuse("mail", "encrypt", blind, "-o", shell.folder / "blind-secret.eml")
    assert "was not issued for it, which Bcc needs" in error.message


def test_all_whom_the_contacts_do_not_know_are_named(shell: Shell, authority: Authority) -> None:
    shell.run("contacts", "add", shell.certificate("bob.pem", authority.issue()))
    letter = shell.write("letter.eml", LETTER.format(f"carol@acme.example, {BOB}, dave@acme.example"))
    error = shell.refuse("mail", "encrypt", letter, "-o", shell.folder / "secret.eml")
    assert "is known for carol@acme.example, dave@acme.example" in error.message
    assert not (shell.folder / "secret.eml").exists()


def test_a_mail_for_nobody_is_not_encrypted(shell: Shell) -> None:
    letter = shell.write("letter.eml", HELLO.replace(b"To: alice@acme.example\r\n", b""))
    error = shell.refuse("mail", "encrypt", letter, "-o", shell.folder / "secret.eml")
    assert error.message == "the mail is for nobody"
