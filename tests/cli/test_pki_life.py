"""The life of a PKI through the command line, from the key of the root to a certificate that is revoked."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from tokensign.authority.ocsp_service import LOOK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Finished, Terminal

LETTER = "The figures are good."
PEOPLE = ("alice", "bob")
PATIENCE = 30.0  # seconds until the server must listen


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Pki:
    """A terminal with a database, the tokens of the CA, of Alice and of Bob, and a place for the server."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.port = free_port()
        terminal.environment["TOKENSIGN_DATABASE"] = str(terminal.folder / "authority.sqlite")
        terminal.environment["XDG_CACHE_HOME"] = str(terminal.folder / "cache")

    def run(self, *arguments: str, code: int = 0, at: str = "ca") -> Finished:
        """Run a command at somebody's token."""
        return self.terminal.run(*arguments, "--token", at, code=code)

    def ask(self, *arguments: str, at: str = "ca") -> Any:  # noqa: ANN401 - a document
        return self.run(*arguments, "--json", at=at).json

    def make_authorities(self) -> None:
        """A root, a CA for people below it, and a key that answers OCSP for that."""
        self.run("token", "init", "ca", "--so-pin-source", "file:so-pin")
        for key in ("root", "people", "ocsp"):
            self.run("key", "generate", key, "--type", "ec:p256")
        url = f"http://127.0.0.1:{self.port}"
        root = ("--subject", "CN=Acme Root,O=Acme,C=CH", "--url", f"{url}/root", "-o", "root.pem")
        self.run("ca", "init", "root", "--key", "root", *root)
        people = ("--subject", "CN=Acme People,O=Acme,C=CH", "--url", f"{url}/people", "-o", "people.pem")
        parent = ("--parent", "root", "--profile", "smime-subordinate-ca")
        self.run("ca", "init", "people", "--key", "people", *parent, *people)
        self.run("cert", "request", "ocsp", "--subject", "CN=Acme OCSP,O=Acme,C=CH", "-o", "ocsp.csr")
        self.run("ca", "issue", "ocsp.csr", "--ca", "people", "--profile", "ocsp-responder", "-o", "ocsp.pem")
        self.run("cert", "import", "ocsp.pem")
        self.publish("root")
        self.publish("people")

    def publish(self, ca: str) -> None:
        self.run("ca", "crl", "--ca", ca, "-o", f"{ca}.crl")

    def certify(self, name: str) -> str:
        """A person's key, request, code, approval and certificate; returns the serial number."""
        address = f"{name}@acme.example"
        self.run("token", "init", name, "--so-pin-source", "file:so-pin", at=name)
        self.run("key", "generate", name, "--type", "rsa:2048", at=name)
        asked = ("--subject", f"CN={address}", "--email", address, "-o", f"{name}.csr")
        self.run("cert", "request", name, *asked, at=name)
        made = self.ask(
            "ra", "submit", f"{name}.csr", "--ca", "people", "--profile", "smime-mailbox-multipurpose",
            "--as", address,
        )  # fmt: skip
        number = str(made["id"])
        self.run("ra", "verify", number, made["codes"][address])
        assert "does not approve it" in self.run("ra", "approve", number, "--as", address, code=1).error
        assert self.ask("ra", "approve", number, "--as", "carol@acme.example")["state"] == "approved"
        issued = self.ask("ra", "issue", number, "-o", f"{name}.pem")
        self.run("cert", "import", f"{name}.pem", at=name)
        serial: str = issued["serial_number"]
        return serial

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        """The server, while the block lasts."""
        command = ("ca", "serve", "--listen", f"127.0.0.1:{self.port}", "--ocsp-key", "ocsp", "--token", "ca")
        with self.terminal.start(*command) as process:
            try:
                until = time.monotonic() + PATIENCE
                while True:
                    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                        break
                    assert process.poll() is None, process.communicate()[1].decode()
                    assert time.monotonic() < until
                    time.sleep(0.05)
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                self.terminal.finish(process, 0)

    def send_mail(self, sender: str, recipient: str) -> None:
        """Write a letter to `mail.eml`, signed and encrypted at the sender's token."""
        header = f"From: {sender}@acme.example\r\nTo: {recipient}@acme.example\r\nSubject: Figures\r\n"
        self.terminal.write("letter.eml", f"{header}\r\n{LETTER}\r\n")
        options = ("--to", f"{recipient}.pem", "--sign-with", sender, "-o", "mail.eml", "--force")
        self.run("mail", "encrypt", "letter.eml", *options, at=sender)
        assert LETTER.encode() not in self.terminal.read("mail.eml")

    def open_mail(self, *options: str, by: str = "bob", code: int = 0) -> Any:  # noqa: ANN401 - a document
        """Open `mail.eml` at the recipient's token; returns the report."""
        trust = ("--trust", "root.pem", "--untrusted", "people.pem", "--revocation", "require")
        opened = self.run(
            "mail", "open", "mail.eml", "--key", by, *trust, *options, "--json", code=code, at=by
        )
        return opened.json

    def forget_answers(self) -> None:
        """Another cache: what a server said before is asked again."""
        self.terminal.environment["XDG_CACHE_HOME"] += "-"


@pytest.fixture
def pki(bare_terminal: Terminal) -> Pki:
    return Pki(bare_terminal)


def last_word(report: Any) -> dict[str, Any]:  # noqa: ANN401 - a document
    """What was found out about the revocation of the signer's certificate."""
    signer = report["layers"][-1]["verification"]["signers"][0]
    answer: dict[str, Any] = signer["revocation"][-1]
    return answer


def test_from_the_root_to_a_revoked_certificate(pki: Pki) -> None:
    pki.make_authorities()
    serials = {name: pki.certify(name) for name in PEOPLE}
    for name in PEOPLE:
        (key,) = pki.ask("key", "list", at=name)
        assert (key["label"], key["local"], key["has_certificate"]) == (name, True, True)

    online = ("--allow-private", "127.0.0.1")
    by_crl = ("--no-fetch", "--crl", "root.crl", "--crl", "people.crl")
    with pki.served():
        pki.send_mail("bob", "alice")
        assert pki.open_mail(*online, by="alice")["verdict"] == "good"
        pki.send_mail("alice", "bob")
        opened = pki.open_mail(*online, "-o", "opened.eml")
        assert opened["verdict"] == "good"
        assert (last_word(opened)["status"], last_word(opened)["kind"]) == ("good", "ocsp")
        assert LETTER.encode() in pki.terminal.read("opened.eml")
        assert pki.open_mail(*by_crl)["verdict"] == "good"

        pki.run("ca", "revoke", serials["alice"], "--ca", "people", "--reason", "keyCompromise")
        assert pki.open_mail(*by_crl)["verdict"] == "good"  # no newer CRL was made yet
        time.sleep(LOOK_SECONDS + 1)  # as late as it may show
        pki.forget_answers()
        refused = pki.open_mail(*online, code=1)
        answer = last_word(refused)
        assert refused["verdict"] == "bad"
        assert "revoked" in refused["summary"]
        assert "keyCompromise" in refused["summary"]
        assert (answer["status"], answer["kind"], answer["source"]) == ("revoked", "ocsp", "fetched")
        assert answer["url"] == f"http://127.0.0.1:{pki.port}/people/ocsp"
        assert answer["serial_number"] == serials["alice"]
    pki.publish("people")
    refused = pki.open_mail(*by_crl, code=1)
    answer = last_word(refused)
    assert refused["verdict"] == "bad"
    assert "keyCompromise" in refused["summary"]
    assert (answer["status"], answer["kind"], answer["source"]) == ("revoked", "crl", "given")

    states = {one["serial_number"]: one["status"] for one in pki.ask("ca", "list", "--ca", "people")}
    assert (states[serials["alice"]], states[serials["bob"]]) == ("revoked", "good")
    assert [one["state"] for one in pki.ask("ra", "list", "--all")] == ["issued", "issued"]
