"""`tokensign demo`: the whole story on a throw-away SoftHSM token, step by step."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import time
from contextlib import ExitStack
from email import message_from_bytes
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tokensign.cli.command import Cli, Command
from tokensign.errors import DecryptionError, FileError, ModuleError, VerificationError

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.token import Token, TokenKey
    from tokensign.verification import VerificationReport

__all__ = ["demo"]

_MARKER: Final = ".tokensign-demo"  # what tells a folder of an earlier demo from one that must not be touched
_CONFIGURATION: Final = "softhsm2.conf"
_LABEL: Final = "demo"
_ALICE: Final = "alice@acme.example"
_BOB: Final = "bob@acme.example"
_FIGURES: Final = "quarter;revenue\nQ1;1204\nQ2;1377\nQ3;1290\nQ4;1518\n"


@click.command(cls=Command)
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, readable=False),
    default="tokensign-demo",
    show_default=True,
    help="Where the token and the mails go.",
)
@click.pass_obj
def demo(cli: Cli, folder: str) -> None:
    """Show the whole story: keys, certificates, a signed and encrypted mail, and what tampering does to it.

    Everything happens in DIR, on a SoftHSM token of its own; your tokens are not touched.

    \b
    Example:
      tokensign demo --dir /tmp/story
    """
    place = _prepare(Path(folder).absolute())
    started = time.monotonic()
    story = _Story(cli, place)
    story.tell()
    cli.output.text("")
    cli.output.text(f"Done in {time.monotonic() - started:.1f} s. The files are in {place}; have a look:")
    cli.output.text(f"  openssl cms -verify -in {place}/signed.eml -CAfile {place}/ca.pem")
    cli.output.text(f"  export SOFTHSM2_CONF={place}/{_CONFIGURATION}")
    cli.output.text(f"  tokensign doctor --token {_LABEL} --pin-source file:{place}/pin")
    cli.output.document({"folder": str(place), "token": _LABEL, "files": sorted(story.files)})


def _prepare(place: Path) -> Path:
    """An empty private folder; only that of an earlier demo is emptied."""
    if place.exists() and any(place.iterdir()):
        if not (place / _MARKER).is_file():
            raise FileError(
                f"{place} is not empty and not from an earlier demo", hint="name another folder with --dir"
            )
        shutil.rmtree(place)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    (place / _MARKER).touch()
    return place


class _Story:
    """The steps of the demonstration, and the files that they leave."""

    def __init__(self, cli: Cli, place: Path) -> None:
        self._cli = cli
        self._place = place
        self.files: list[str] = []

    def tell(self) -> None:
        from tokensign.token import open_token

        module = self._make_token()
        with ExitStack() as stack:
            token = stack.enter_context(
                open_token(module, _LABEL, f"file:{self._place}/pin", read_write=True)
            )
            ca_certificate = self._make_people(token)
            mail = self._write_mail()
            signed = self._sign(token, mail)
            encrypted = self._encrypt(token, signed)
            decrypted = self._decrypt(token, encrypted)
            self._verify(decrypted, ca_certificate)
            self._tamper(token, signed, encrypted, ca_certificate)

    def _make_token(self) -> Path:
        from tokensign.cli.loading import load
        from tokensign.token import Pin, find_module, initialize_token

        self._headline("A token of its own")
        (self._place / "tokens").mkdir(mode=0o700)
        configuration = f"directories.tokendir = {self._place}/tokens\nobjectstore.backend = file\n"
        self._save(_CONFIGURATION, configuration.encode())
        so_pin, pin = secrets.token_hex(8), secrets.token_hex(4)
        for name, value in (("pin", pin), ("so-pin", so_pin)):
            (self._place / name).touch(mode=0o600)
            self._save(name, value.encode())
        os.environ["SOFTHSM2_CONF"] = str(self._place / _CONFIGURATION)  # read when the module is loaded
        path = find_module(self._cli.module)
        if "softhsm" not in path.name:
            raise ModuleError(
                "the demo needs SoftHSM, which is not in the usual places",
                hint="install softhsm2, or name it with --module",
            )
        initialize_token(load(self._cli, path), _LABEL, Pin(so_pin), Pin(pin))
        self._step("token", f"SoftHSM made the token {_LABEL!r}; its PIN is in the file `pin`")
        return path

    def _make_people(self, token: Token) -> Certificate:
        from tokensign.algorithms import KeySpec, KeyUsage
        from tokensign.pki.ca import issue, root_certificate
        from tokensign.token import check_key, generate_key, import_certificate, open_key

        self._headline("Keys that never leave it, and certificates")
        generate_key(token, "ca", KeySpec.parse("ec:p384"), KeyUsage.SIGN)
        ca = open_key(token, "ca", KeyUsage.SIGN)
        root = root_certificate(ca, "CN=Demo CA,O=Acme")
        import_certificate(token, root)
        self._save("ca.pem", root.pem().encode())
        self._step("token", "an EC P-384 key for the CA")
        self._step("host", "the CA's certificate is assembled; the token signs it")
        for name, mailbox in (("alice", _ALICE), ("bob", _BOB)):
            made = generate_key(token, name, KeySpec.parse("rsa:3072"), KeyUsage.BOTH)
            check_key(token, made).require_strong()
            key = open_key(token, made)
            subject = f"CN={name.capitalize()},O=Acme"
            certificate = issue(ca, root, key.public_key, subject, [mailbox], usage=KeyUsage.BOTH)
            import_certificate(token, certificate)
            self._save(f"{name}.pem", certificate.pem().encode())
            self._step("token", f"an RSA 3072 key for {name.capitalize()}: sensitive, not extractable")
            self._step("token", f"the CA's key signs the certificate of {mailbox}")
        return root

    def _write_mail(self) -> bytes:
        from datetime import UTC, datetime

        mail = EmailMessage()
        mail["From"] = f"Alice <{_ALICE}>"
        mail["To"] = f"Bob <{_BOB}>"
        mail["Subject"] = "The figures of the year"
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = f"<{secrets.token_hex(12)}@acme.example>"
        mail.set_content("Hello Bob,\n\nhere are the figures, and the contract for you to sign.\n\nAlice\n")
        mail.add_attachment(_FIGURES, subtype="csv", filename="figures.csv")
        contract = b"%PDF-1.4\n% a contract of 40 KiB that is not one\n" + secrets.token_bytes(40 * 1024)
        mail.add_attachment(contract, maintype="application", subtype="pdf", filename="contract.pdf")
        encoded = mail.as_bytes().replace(b"\n", b"\r\n")
        self._save("mail.eml", encoded)
        self._headline("Alice writes to Bob, with two attachments")
        self._step("host", f"mail.eml, {len(encoded)} bytes")
        return encoded

    def _sign(self, token: Token, mail: bytes) -> bytes:
        from tokensign.cms.signed import schemes_of, sign_detached
        from tokensign.smime.compose import split_message, write_multipart_signed

        alice = self._key(token, "alice")
        fields, entity = split_message(mail)
        signature = sign_detached(io.BytesIO(entity), [alice])
        signed = io.BytesIO()
        (scheme,) = schemes_of([alice])
        write_multipart_signed(io.BytesIO(entity), signature, [scheme.digest], signed, fields)
        self._save("signed.eml", signed.getvalue())
        self._step("host", f"hashes the mail with {scheme.digest.name} and builds the signed attributes")
        self._step("token", f"Alice's key signs them ({scheme.family}), the only thing it ever sees")
        self._step("host", "verifies the fresh signature and writes signed.eml (multipart/signed)")
        return signed.getvalue()

    def _encrypt(self, token: Token, signed: bytes) -> bytes:
        from tokensign.cms.encrypt import encrypt
        from tokensign.smime.compose import split_message, write_pkcs7_mime

        certificate = self._key(token, "bob").certificates[0]
        fields, entity = split_message(signed)
        message, encrypted = io.BytesIO(), io.BytesIO()
        encrypt(io.BytesIO(entity), [certificate], message)
        message.seek(0)
        write_pkcs7_mime(message, "authEnveloped-data", encrypted, fields)
        self._save("encrypted.eml", encrypted.getvalue())
        self._step("host", "encrypts it with AES-256-GCM and the session key to Bob's certificate (RSA-OAEP)")
        return encrypted.getvalue()

    def _decrypt(self, token: Token, encrypted: bytes) -> bytes:
        self._headline("Bob opens it")
        decrypted = self._open(token, encrypted)
        self._save("decrypted.eml", decrypted)
        self._step("token", "Bob's key unwraps the session key")
        self._step("host", "decrypts the mail with it, checks the tag, and writes decrypted.eml")
        return decrypted

    def _open(self, token: Token, encrypted: bytes) -> bytes:
        from tokensign.cms.decrypt import decrypt
        from tokensign.smime.unwrap import open_message

        content = io.BytesIO()
        with open_message(io.BytesIO(encrypted)) as opened:
            decrypt(opened.cms, [self._key(token, "bob")], content)
        return content.getvalue()

    def _verify(self, decrypted: bytes, root: Certificate) -> None:
        content = io.BytesIO()
        report = self._check(decrypted, root, content)
        for name, verdict in report.signers[0].verdicts.items():
            self._step("host", f"{name}: {verdict.reason}")
        opened = message_from_bytes(content.getvalue())
        names = [part.get_filename() for part in opened.walk() if part.get_filename()]
        self._save("content.eml", content.getvalue())
        self._step("host", f"content.eml holds what Alice signed, with {' and '.join(map(str, names))}")

    def _check(
        self, signed: bytes, root: Certificate, content: io.BytesIO | None = None
    ) -> VerificationReport:
        from tokensign.pki.policy import TrustPolicy
        from tokensign.smime.unwrap import open_message
        from tokensign.verification import Expectations, verify

        expectations = Expectations(trust=TrustPolicy(anchors=(root,)), email=_ALICE)
        with open_message(io.BytesIO(signed)) as opened:
            return verify(opened.cms, expectations, opened.content, content)

    def _tamper(self, token: Token, signed: bytes, encrypted: bytes, root: Certificate) -> None:
        self._headline("Somebody tampers with it")
        forged = signed.replace(b"here are the figures", b"here are my figures!"[:20], 1)
        self._save("tampered-signed.eml", forged)
        try:
            self._check(forged, root)
        except VerificationError as error:
            self._step("host", f"a changed word: {error.message}")
        else:
            raise RuntimeError("a forged mail was accepted")
        head, gap, body = encrypted.partition(b"\r\n\r\n")
        middle = len(body) // 2 // 66 * 66 + 10  # a character of base64 inside a line
        changed = b"B" if body[middle : middle + 1] != b"B" else b"C"
        forged = head + gap + body[:middle] + changed + body[middle + 1 :]
        self._save("tampered-encrypted.eml", forged)
        try:
            self._open(token, forged)
        except DecryptionError as error:
            self._step("host", f"a changed byte of the encrypted mail: {error.message}")
        else:
            raise RuntimeError("a damaged mail was decrypted")

    def _key(self, token: Token, name: str) -> TokenKey:
        from tokensign.token import open_key

        return open_key(token, name)

    def _save(self, name: str, content: bytes) -> None:
        (self._place / name).write_bytes(content)
        self.files.append(name)

    def _headline(self, text: str) -> None:
        self._cli.output.text("")
        self._cli.output.text("", prefix=click.style(text, bold=True))

    def _step(self, where: str, text: str) -> None:
        colour = "green" if where == "token" else "blue"
        self._cli.output.text(text, prefix=click.style(f"  [{where}]".ljust(11), fg=colour))
