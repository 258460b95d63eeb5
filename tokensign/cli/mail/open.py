"""`tokensign mail open`."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import click

from tokensign.cli.address_book import contacts_option, learn_sender, open_contacts, tell_change
from tokensign.cli.command import PATH, PIN_SOURCE, Cli, Command
from tokensign.cli.inputs import MOMENT, described
from tokensign.cli.trust import TrustOptions, trust_options
from tokensign.errors import MalformedError, UntrustedError, UsageError
from tokensign.files import STANDARD_STREAM, open_input, open_output

if TYPE_CHECKING:
    from datetime import datetime
    from typing import BinaryIO

    from tokensign.pki.policy import TrustPolicy
    from tokensign.smime.mail_report import MailReport
    from tokensign.verification import Expectations

__all__ = ["open_"]

_EXIT_NOT_GOOD = 1


@click.command("open", cls=Command)
@click.argument("source", metavar="IN.eml", type=PATH)
@click.option("--key", metavar="KEY", help="The key to decrypt with. [default: the one that fits]")
@click.option(
    "--password-source", metavar="SPEC", type=PIN_SOURCE, help="Decrypt with a password from there."
)
@trust_options
@click.option(
    "--revocation",
    type=click.Choice(["off", "prefer", "require"]),
    help="Whether certificates were revoked, as for `tokensign verify`.",
)
@click.option(
    "--at", "moment", type=MOMENT, metavar="TIME", help="Judge certificates at this time. [default: now]"
)
@click.option("--email", metavar="ADDRESS", help="Whose signature it must be, whatever From says.")
@click.option("--any-signer", is_flag=True, help="One good signature of several signers is enough.")
@click.option("--signature-only", is_flag=True, help="Check signatures and nobody's certificate.")
@click.option("--require-signed", is_flag=True, help="A mail that is not signed as a whole fails.")
@click.option("--legacy", is_flag=True, help="Accept the algorithms of old mail.")
@click.option("--part", metavar="PATH", default="", help='Open this part, such as "2", and not the mail.')
@click.option(
    "--label-policy",
    metavar="FILE",
    type=PATH,
    help="Refuse a mail whose security label exceeds this clearance.",
)
@click.option("--learn", is_flag=True, help="Make the sender of a good mail a contact.")
@contacts_option
@click.option("-o", "--output", metavar="OUT.eml", type=PATH, help="Write what is inside here, as one mail.")
@click.option("--report", metavar="FILE", type=PATH, help="Write the report here as JSON.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
@click.pass_obj
def open_(
    cli: Cli,
    trusting: TrustOptions,
    source: str,
    key: str | None,
    password_source: str | None,
    revocation: str | None,
    moment: datetime | None,
    email: str | None,
    any_signer: bool,
    signature_only: bool,
    require_signed: bool,
    legacy: bool,
    part: str,
    label_policy: str | None,
    learn: bool,
    place: str | None,
    output: str | None,
    report: str | None,
    force: bool,
) -> None:
    """Open IN.eml: decrypt it with a key on a token, verify its layers.

    The first line has the verdict: GOOD (all of the mail is signed by whom From names), INTACT (signed, and
    nobody vouches for the signer), PARTIAL (only a part of it is signed), UNSIGNED or BAD. Then each layer
    follows, what protects the header fields, and what nothing covers. OUT.eml appears unless the verdict is
    BAD; the exit code is 1 then. The PIN is asked for only when something is encrypted.

    \b
    Examples:
      tokensign mail open mail.eml --trust ca.pem --learn -o opened.eml
      tokensign mail open mail.eml --key bob --trust ca.pem --require-signed -o -
      tokensign mail open mail.eml --trust ca.pem --part 2 -o part.eml
    """
    from tokensign.cli.decryption_keys import keys_on_demand
    from tokensign.cli.mail.show_opened import show_opened
    from tokensign.ess.label_policy import load_clearance
    from tokensign.smime.labels import check_labels
    from tokensign.smime.open_mail import open_mail

    if learn and (signature_only or moment or legacy):
        raise UsageError(
            "--learn believes only what holds now",
            hint="leave --learn away, or --signature-only, --at and --legacy",
        )
    expectations = _expectations(
        cli, trusting, revocation, moment, email, any_signer=any_signer, only=signature_only, legacy=legacy
    )
    with contextlib.ExitStack() as outputs:
        opened: BinaryIO | None = None
        with open_input(source) as message, contextlib.ExitStack() as held:
            if output is not None:
                opened = outputs.enter_context(open_output(output, force=force, mode=0o600))
            keys = keys_on_demand(
                cli, held, key, password_source, action=f"open {described(source, message)}"
            )
            with cli.output.progress(message, f"opening {source}") as watched:
                found = open_mail(watched, expectations, keys, opened, legacy=legacy, part=part)
        if label_policy is not None:
            check_labels(found, load_clearance(label_policy))
        failed = not found.holds or (require_signed and found.verdict in ("unsigned", "partial"))
        if report is not None:
            _write(found, report, force=force)
        show_opened(cli.output, found, on_stderr=output == STANDARD_STREAM)
        if learn and expectations.trust is not None:
            _learn(cli, place, found, expectations.trust)
        if failed:
            raise click.exceptions.Exit(_EXIT_NOT_GOOD)  # the output does not appear


def _expectations(
    cli: Cli,
    trusting: TrustOptions,
    revocation: str | None,
    moment: datetime | None,
    email: str | None,
    *,
    any_signer: bool,
    only: bool,
    legacy: bool,
) -> Expectations:
    from dataclasses import replace

    from tokensign.pki.purpose import Purpose
    from tokensign.verification import Expectations

    policy = None if only else trusting.policy(cli, Purpose.EMAIL_PROTECTION, revocation)
    return Expectations(
        trust=replace(policy, legacy=legacy) if policy else None,
        email=email,
        moment=moment,
        certificates=trusting.certificates(cli),
        any_signer=any_signer,
        legacy=legacy,
    )


def _learn(cli: Cli, place: str | None, found: MailReport, trust: TrustPolicy) -> None:
    """Make the sender a contact; that nothing can be learned does not change what the mail is."""
    with open_contacts(cli, place) as store:
        try:
            tell_change(cli, learn_sender(store, found, trust))
        except (UntrustedError, MalformedError) as error:
            cli.output.status(error.message)


def _write(found: MailReport, path: str, *, force: bool) -> None:
    with open_output(path, force=force) as file:
        file.write(json.dumps(found.to_json(), indent=2, ensure_ascii=False).encode() + b"\n")
