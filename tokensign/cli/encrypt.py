"""`tokensign encrypt`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.forms import written_as
from tokensign.cli.inputs import default_output, read_certificates, require_valid_now
from tokensign.cli.output import named
from tokensign.files import STANDARD_STREAM, open_input, open_output, spool

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.keys import KeyTransport

__all__ = ["encrypt"]


@click.command(cls=Command)
@click.argument("source", metavar="INPUT", type=PATH)
@click.option(
    "--to",
    "recipients",
    metavar="CERT",
    type=PATH,
    multiple=True,
    required=True,
    help="Who can read it; may be repeated.",
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
@click.option("--form", type=click.Choice(["der", "pem", "smime"]), default="der", show_default=True)
@click.option("-o", "--output", metavar="OUT", type=PATH, help="Where the result goes. [default: INPUT.p7m]")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def encrypt(
    cli: Cli,
    source: str,
    recipients: tuple[str, ...],
    cipher: str,
    key_transport: str,
    oaep_digest: str,
    form: str,
    output: str | None,
    force: bool,
) -> None:
    """Encrypt INPUT to the holders of certificates. Nobody needs a token for it.

    Ciphers are aes-256-gcm, aes-192-gcm, aes-128-gcm (AuthEnvelopedData) and aes-256-cbc, aes-192-cbc,
    aes-128-cbc (EnvelopedData), which older programs read, but which does not show changes on the way.

    \b
    Examples:
      tokensign encrypt contract.pdf --to bob.pem -o contract.pdf.p7m
      tokensign encrypt contract.pdf --to bob.pem --cipher aes-256-cbc --form smime -o mail.eml
    """
    from tokensign.algorithms import content_cipher
    from tokensign.cms.encrypt import encrypt as encrypt_content
    from tokensign.smime.compose import as_entity, write_pkcs7_mime

    certificates = read_certificates(recipients)
    _check(certificates)
    chosen = content_cipher(cipher)
    transport = _transport(key_transport, oaep_digest)
    target = output or default_output(source, ".eml" if form == "smime" else ".p7m")
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open_input(source))
        destination = stack.enter_context(open_output(target, force=force))
        content = stack.enter_context(cli.output.progress(stream, f"encrypting {source}"))
        if form == "smime":
            name = None if source == STANDARD_STREAM else Path(source).name
            entity, message = stack.enter_context(as_entity(content, name)), stack.enter_context(spool())
            encrypt_content(entity, certificates, message, cipher=chosen, transport=transport)
            message.seek(0)
            kind = "authEnveloped-data" if chosen.authenticated else "enveloped-data"
            write_pkcs7_mime(message, kind, destination)
        else:
            with written_as(form, destination) as message:
                encrypt_content(content, certificates, message, cipher=chosen, transport=transport)
    names = [certificate.subject for certificate in certificates]
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


def _check(certificates: list[Certificate]) -> None:
    """Refuse a certificate that is not valid now or was not issued for encryption."""
    from tokensign.pki.purpose import check_encryption_use

    for certificate in certificates:
        require_valid_now(certificate, "ask the recipient for a current one")
        check_encryption_use(certificate)


def _transport(name: str, oaep_digest: str) -> KeyTransport:
    from tokensign.algorithms import digest
    from tokensign.keys import OaepTransport, Pkcs1Transport

    return Pkcs1Transport() if name == "pkcs1" else OaepTransport(digest(oaep_digest), digest(oaep_digest))
