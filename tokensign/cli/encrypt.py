"""`tokensign encrypt`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.forms import FORMS, written_as, written_as_smime
from tokensign.cli.inputs import (
    default_output,
    open_token,
    password_from,
    read_certificates,
    require_valid_now,
)
from tokensign.cli.output import named
from tokensign.errors import UsageError
from tokensign.files import STANDARD_STREAM, open_input, open_output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.certificates import Certificate
    from tokensign.cms.encrypt import Recipient
    from tokensign.keys import KeyTransport

__all__ = ["encrypt"]


@click.command(cls=Command)
@click.argument("source", metavar="INPUT", type=PATH)
@click.option(
    "--to",
    "recipients",
    metavar="CERT|URI",
    type=PATH,
    multiple=True,
    help="Who can read it: a certificate file, or a certificate or AES key on a token; may be repeated.",
)
@click.option(
    "--password-source", metavar="SPEC", help="A password can read it, too: prompt, env:, file: or fd:."
)
@click.option(
    "--cipher", default="aes-256-gcm", show_default=True, metavar="NAME", help="Encrypts the content."
)
@click.option(
    "--key-transport",
    type=click.Choice(["oaep", "pkcs1"]),
    default="oaep",
    show_default=True,
    help="Encrypts the key to RSA certificates.",
)
@click.option(
    "--oaep-digest",
    type=click.Choice(["sha1", "sha224", "sha256", "sha384", "sha512"]),
    default="sha256",
    show_default=True,
    help="The hash of OAEP and its MGF1.",
)
@click.option("--form", type=FORMS, default="der", show_default=True)
@click.option("-o", "--output", metavar="OUT", type=PATH, help="Where the result goes. [default: INPUT.p7m]")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def encrypt(
    cli: Cli,
    source: str,
    recipients: tuple[str, ...],
    password_source: str | None,
    cipher: str,
    key_transport: str,
    oaep_digest: str,
    form: str,
    output: str | None,
    force: bool,
) -> None:
    """Encrypt INPUT to the holders of certificates, of AES keys and of a password, in any mixture.

    Nobody needs a token for it, unless --to names an object on one. Ciphers are aes-256-gcm, aes-256-ccm,
    chacha20-poly1305 (AuthEnvelopedData) and aes-256-cbc (EnvelopedData), which older programs read, but
    which does not show changes on the way; those of AES also with 192 and 128 bits.

    \b
    Examples:
      tokensign encrypt contract.pdf --to bob.pem -o contract.pdf.p7m
      tokensign encrypt contract.pdf --password-source prompt
      tokensign encrypt contract.pdf --to "pkcs11:token=acme;object=archive;type=secret-key"
      tokensign encrypt contract.pdf --to bob.pem --cipher aes-256-cbc --form smime -o mail.eml
    """
    from tokensign.algorithms import content_cipher
    from tokensign.cms.encrypt import encrypt as encrypt_content

    if not recipients and password_source is None:
        raise UsageError("nobody could read it", hint="name recipients with --to, or a --password-source")
    chosen = content_cipher(cipher)
    transport = _transport(key_transport, oaep_digest)
    target = output or default_output(source, ".eml" if form == "smime" else ".p7m")
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open_input(source))
        named_recipients = [entry for name in recipients for entry in _recipients(cli, stack, name)]
        if password_source is not None:
            named_recipients.append(_password(password_source))
        readers = [reader for _, reader in named_recipients]
        destination = stack.enter_context(open_output(target, force=force))
        content = stack.enter_context(cli.output.progress(stream, f"encrypting {source}"))
        if form == "smime":
            kind = "authEnveloped-data" if chosen.authenticated else "enveloped-data"
            with written_as_smime(content, source, kind, destination) as (entity, message):
                encrypt_content(entity, readers, message, cipher=chosen, transport=transport)
        else:
            with written_as(form, destination) as message:
                encrypt_content(content, readers, message, cipher=chosen, transport=transport)
    names = [name for name, _ in named_recipients]
    cli.output.status(f"{named(target)}: encrypted with {chosen.name} to {'; '.join(names)}")
    cli.output.document(
        {
            "output": target,
            "form": form,
            "cipher": chosen.name,
            "key_transport": str(transport),
            "recipients": names,
        },
        on_stderr=target == STANDARD_STREAM,
    )


def _recipients(cli: Cli, stack: contextlib.ExitStack, name: str) -> Sequence[tuple[str, Recipient]]:
    """What --to names, with their names: certificates in a file, or a certificate or AES key on a token."""
    from tokensign.uri import KeyUri, is_uri

    if not is_uri(name):
        return [_certificate(certificate) for certificate in read_certificates([name])]
    from tokensign.cms.recipients.kek import KekRecipient
    from tokensign.token import find_certificate, open_secret_key

    token = stack.enter_context(open_token(cli, name))
    if KeyUri.parse(name).type == "secret-key":
        key = open_secret_key(token, name)
        return [(f"the key {key.label}", KekRecipient(key))]
    return [_certificate(find_certificate(token, name).certificate)]


def _certificate(certificate: Certificate) -> tuple[str, Recipient]:
    """A recipient's certificate; refused where it is not valid now or was not issued for encryption."""
    from tokensign.pki.purpose import check_encryption_use

    require_valid_now(certificate, "ask the recipient for a current one")
    check_encryption_use(certificate)
    return certificate.subject, certificate


def _password(source: str) -> tuple[str, Recipient]:
    from tokensign.cms.recipients.password import PasswordRecipient

    return "a password", PasswordRecipient(password_from(source, "the message", repeat=True))


def _transport(name: str, oaep_digest: str) -> KeyTransport:
    from tokensign.algorithms import digest
    from tokensign.keys import OaepTransport, Pkcs1Transport

    return Pkcs1Transport() if name == "pkcs1" else OaepTransport(digest(oaep_digest), digest(oaep_digest))
