"""`tokensign authenticate`."""

from __future__ import annotations

import contextlib

import click

from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.forms import FORMS, message_of
from tokensign.cli.inputs import default_output
from tokensign.cli.output import named
from tokensign.cli.recipients import recipient_options, recipients_from, transport_from
from tokensign.files import STANDARD_STREAM, open_input, open_output

__all__ = ["authenticate"]


@click.command(cls=Command)
@click.argument("source", metavar="INPUT", type=PATH)
@recipient_options
@click.option(
    "--mac",
    metavar="NAME",
    default="hmac-sha256",
    show_default=True,
    help="Makes the code: hmac-sha256, hmac-sha384, hmac-sha512, hmac-sha3-256 ...",
)
@click.option(
    "--digest",
    metavar="NAME",
    default="sha256",
    show_default=True,
    help="Hashes the content: sha256, sha384, sha512, sha3-256 ...",
)
@click.option("--form", type=FORMS, default="der", show_default=True)
@click.option("-o", "--output", metavar="OUT", type=PATH, help="Where the result goes. [default: INPUT.p7m]")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def authenticate(
    cli: Cli,
    source: str,
    recipients: tuple[str, ...],
    password_source: str | None,
    key_transport: str,
    oaep_digest: str,
    mac: str,
    digest: str,
    form: str,
    output: str | None,
    force: bool,
) -> None:
    """Put a message authentication code to INPUT: AuthenticatedData (RFC 5652 section 9).

    The key of the code reaches the recipients as that of an encrypted message does; the content can be read
    by everybody. It shows that nobody without the key changed the content, and not who made it: anybody can
    make a message for a certificate, and every recipient has the key. `tokensign decrypt` checks the code
    and takes the content out.

    \b
    Examples:
      tokensign authenticate contract.pdf --password-source prompt
      tokensign authenticate contract.pdf --to bob.pem --mac hmac-sha512 -o contract.pdf.p7m
    """
    from tokensign import algorithms
    from tokensign.cms.authenticated import authenticate as authenticate_content

    code, hashed = algorithms.mac_algorithm(mac), algorithms.digest(digest)
    transport = transport_from(key_transport, oaep_digest)
    target = output or default_output(source, ".eml" if form == "smime" else ".p7m")
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open_input(source))
        found = recipients_from(cli, stack, recipients, password_source)
        destination = stack.enter_context(open_output(target, force=force))
        content = stack.enter_context(cli.output.progress(stream, f"authenticating {source}"))
        readers = [reader for _, reader in found]
        with message_of(content, source, form, None, destination) as (plain, message):
            authenticate_content(plain, readers, message, mac=code, digest=hashed, transport=transport)
    names = [name for name, _ in found]
    cli.output.status(f"{named(target)}: authenticated with {code.name} for {'; '.join(names)}")
    cli.output.document(
        {
            "output": target,
            "form": form,
            "mac": code.name,
            "digest": hashed.name,
            "key_transport": str(transport),
            "recipients": names,
        },
        on_stderr=target == STANDARD_STREAM,
    )
