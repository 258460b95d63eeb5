"""`tokensign mail sign`."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import click

from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.inputs import announce_pins, described, find_signer
from tokensign.cli.mail.composing import Composing, composing_options, signer_rows, warn_of_doubts
from tokensign.cli.mail.ess_options import AskingOptions, asking_options
from tokensign.cli.output import named
from tokensign.files import STANDARD_STREAM, open_input, open_output

__all__ = ["sign"]


@click.command(cls=Command)
@click.argument("source", metavar="IN.eml", type=PATH)
@click.option(
    "--key", "keys", metavar="KEY", multiple=True, required=True, help="Who signs; may be repeated."
)
@click.option(
    "-o", "--output", metavar="OUT.eml", type=PATH, required=True, help="Where the signed mail goes."
)
@asking_options
@composing_options
@click.pass_obj
def sign(
    cli: Cli, source: str, keys: tuple[str, ...], output: str, asking: AskingOptions, composing: Composing
) -> None:
    """Sign a mail with a key on a token (S/MIME, RFC 8551).

    A KEY is named as for `tokensign sign`. The text and the attachments stay as they are; where relays
    would change them they are encoded first. The header fields are signed, too, and stay readable outside.
    A mail without Date gets one.

    \b
    Examples:
      tokensign mail sign letter.eml --key alice -o signed.eml
      tokensign mail sign letter.eml --key alice@acme.example --opaque -o signed.eml
      tokensign mail sign letter.eml --key alice --request-receipt alice@acme.example -o signed.eml
    """
    from tokensign.smime.compose_mail import MailOptions, sign_mail

    signing = composing.signing()
    options = MailOptions(
        signing=replace(signing, signed_attributes=(*signing.signed_attributes, *asking.attributes())),
        opaque=composing.opaque,
        compress=composing.compress,
        protect_headers=composing.protect_headers,
    )
    with contextlib.ExitStack() as stack:
        message = stack.enter_context(open_input(source))
        destination = stack.enter_context(open_output(output, force=composing.force))
        action = f"sign {described(source, message)}"
        signers = [stack.enter_context(find_signer(cli, name, action=action)) for name in keys]
        announce_pins(cli, signers, "signature")
        watched = stack.enter_context(cli.output.progress(message, f"signing {source}"))
        mail = sign_mail(watched, signers, destination, options)
    rows = signer_rows(signers, options.signing)
    for row in rows:
        cli.output.status(f"{named(output)}: signed by {row['signer']} ({row['scheme']})")
    warn_of_doubts(cli, mail, signers)
    cli.output.document(
        {
            "output": output,
            "opaque": options.opaque,
            "headers_protected": mail.headers_protected,
            "signing_time": mail.signing_time.isoformat(),
            "date_agrees": mail.date_agrees,
            "signers": rows,
        },
        on_stderr=output == STANDARD_STREAM,
    )
