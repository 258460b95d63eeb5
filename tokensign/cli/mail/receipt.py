"""`tokensign mail receipt`: signed receipts (RFC 2634)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from tokensign.cli.command import PATH, PIN_SOURCE, Cli, Command, Group
from tokensign.cli.inputs import MOMENT, announce_pins, described, find_signer
from tokensign.cli.output import named
from tokensign.cli.trust import TrustOptions, trust_options
from tokensign.errors import BadSignatureError, UsageError
from tokensign.files import STANDARD_STREAM, open_input, open_output

if TYPE_CHECKING:
    from datetime import datetime

    from tokensign.verification import Expectations

__all__ = ["receipt"]

_REVOCATION = click.option(
    "--revocation",
    type=click.Choice(["off", "prefer", "require"]),
    help="Whether certificates were revoked, as for `tokensign verify`.",
)
_AT = click.option(
    "--at", "moment", type=MOMENT, metavar="TIME", help="Judge certificates at this time. [default: now]"
)


@click.group(cls=Group)
def receipt() -> None:
    """Give and verify signed receipts (RFC 2634): proof that somebody got a mail and found it good.

    \b
    Examples:
      tokensign mail sign letter.eml --key alice --request-receipt alice@acme.example -o signed.eml
      tokensign mail receipt make signed.eml --key bob --trust ca.pem -o receipt.eml
      tokensign mail receipt verify receipt.eml --sent signed.eml --trust ca.pem
    """


@receipt.command(cls=Command)
@click.argument("source", metavar="IN.eml", type=PATH)
@click.option("--key", metavar="KEY", required=True, help="Who gives the receipt.")
@click.option("--decrypt-key", metavar="KEY", help="The key to decrypt with. [default: the one that fits]")
@click.option(
    "--password-source", metavar="SPEC", type=PIN_SOURCE, help="Decrypt with a password from there."
)
@trust_options
@_REVOCATION
@_AT
@click.option(
    "-o", "--output", metavar="OUT.eml", type=PATH, required=True, help="Where the receipt goes, as a mail."
)
@click.option("--force", is_flag=True, help="Replace OUT.eml if it exists.")
@click.pass_obj
def make(
    cli: Cli,
    trusting: TrustOptions,
    source: str,
    key: str,
    decrypt_key: str | None,
    password_source: str | None,
    revocation: str | None,
    moment: datetime | None,
    output: str,
    force: bool,
) -> None:
    """Make the receipt that IN.eml asks for.

    IN.eml is opened first, and there is no receipt for a mail whose signatures do not hold. Nor is there one
    where the sender, or a mailing list that the mail came through, asks others or nobody. Send OUT.eml with
    `tokensign mail send`; encrypt it before that if the mail was encrypted.

    \b
    Examples:
      tokensign mail receipt make signed.eml --key bob --trust ca.pem -o receipt.eml
    """
    from tokensign.cli.decryption_keys import keys_on_demand
    from tokensign.smime.mime import read_entity
    from tokensign.smime.open_mail import open_mail
    from tokensign.smime.receipts import owed_receipt, write_receipt_mail

    expectations = _expectations(cli, trusting, revocation, moment)
    with contextlib.ExitStack() as stack:
        message = stack.enter_context(open_input(source))
        destination = stack.enter_context(open_output(output, force=force))
        action = f"sign a receipt for {described(source, message)}"
        signer = stack.enter_context(find_signer(cli, key, action=action))
        if signer.certificate is None:
            raise UsageError("the key has no certificate, and a receipt needs one")
        keys = keys_on_demand(cli, stack, decrypt_key, password_source, action=action)
        start = message.tell()
        owed = owed_receipt(open_mail(message, expectations, keys), signer.certificate)
        announce_pins(cli, [signer], "signature")
        message.seek(start)
        identifier = read_entity(message).fields.get("Message-ID")
        write_receipt_mail(
            owed, signer, destination, in_reply_to=identifier.value if identifier is not None else None
        )
    name = signer.certificate.subject
    cli.output.status(f"{named(output)}: a receipt of {name} for {', '.join(owed.receivers)}")
    cli.output.document(
        {"output": output, "signer": name, "to": list(owed.receivers)},
        on_stderr=output == STANDARD_STREAM,
    )


@receipt.command(cls=Command)
@click.argument("source", metavar="SENT.eml", type=PATH)
@click.option(
    "-o", "--output", metavar="FILE", type=PATH, required=True, help="Where the record goes, as JSON."
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.pass_obj
def record(cli: Cli, source: str, output: str, force: bool) -> None:
    """Keep what verifies receipts for SENT.eml.

    SENT.eml is the signed mail that asks for them. The record is small and tells nothing about its content.
    Make it before the mail is encrypted to others.

    \b
    Examples:
      tokensign mail receipt record signed.eml -o signed.json
    """
    from tokensign.smime.receipts import read_sent, write_sent

    with open_input(source) as message, open_output(output, force=force) as destination:
        write_sent(read_sent(message), destination)
    cli.output.status(f"{named(output)}: what verifies receipts for {source}")
    cli.output.document({"output": output}, on_stderr=output == STANDARD_STREAM)


@receipt.command(cls=Command)
@click.argument("source", metavar="RECEIPT.eml", type=PATH)
@click.option(
    "--sent",
    metavar="FILE",
    type=PATH,
    required=True,
    help="The mail as it was signed, or the record of `mail receipt record`.",
)
@trust_options
@_REVOCATION
@_AT
@click.option("--email", metavar="ADDRESS", help="Whose receipt it must be.")
@click.option("--key", metavar="KEY", help="The key to decrypt it with. [default: the one that fits]")
@click.option(
    "--password-source", metavar="SPEC", type=PIN_SOURCE, help="Decrypt with a password from there."
)
@click.pass_obj
def verify(
    cli: Cli,
    trusting: TrustOptions,
    source: str,
    sent: str,
    revocation: str | None,
    moment: datetime | None,
    email: str | None,
    key: str | None,
    password_source: str | None,
) -> None:
    """Verify that RECEIPT.eml is for the mail that was sent.

    Its signature must hold, and the receipt be for the very mail in FILE. Exit code 1: it is not a good
    receipt for that mail.

    \b
    Examples:
      tokensign mail receipt verify receipt.eml --sent signed.eml --trust ca.pem
      tokensign mail receipt verify receipt.eml --sent signed.json --trust ca.pem --email bob@acme.example
    """
    from tokensign.cli.decryption_keys import keys_on_demand
    from tokensign.cli.mail.show_opened import show_opened
    from tokensign.smime.receipts import read_sent, verify_receipt

    expectations = _expectations(cli, trusting, revocation, moment, email)
    with open_input(sent) as stream:
        kept = read_sent(stream)
    with open_input(source) as stream, contextlib.ExitStack() as held:
        action = f"open {described(source, stream)}"
        keys = keys_on_demand(cli, held, key, password_source, action=action)
        found = verify_receipt(stream, kept, expectations, keys)
    show_opened(cli.output, found, on_stderr=False)
    if not found.holds:
        raise click.exceptions.Exit(BadSignatureError.exit_code)


def _expectations(
    cli: Cli,
    trusting: TrustOptions,
    revocation: str | None,
    moment: datetime | None,
    email: str | None = None,
) -> Expectations:
    from tokensign.pki.purpose import Purpose
    from tokensign.verification import Expectations

    return Expectations(
        trust=trusting.policy(cli, Purpose.EMAIL_PROTECTION, revocation),
        email=email,
        moment=moment,
        certificates=trusting.certificates(cli),
    )
