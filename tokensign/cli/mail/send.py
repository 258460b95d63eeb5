"""`tokensign mail send`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tokensign.cli.command import PATH, PIN_SOURCE, Cli, Command
from tokensign.cli.inputs import password_from
from tokensign.errors import NetworkError, UsageError
from tokensign.files import open_input

if TYPE_CHECKING:
    from tokensign.smime.transport.submission import Submission

__all__ = ["send"]


@click.command(cls=Command)
@click.argument("source", metavar="MAIL", type=PATH)
@click.option(
    "--server",
    metavar="URL",
    help="smtps://USER@HOST, or smtp://USER@HOST, which must offer STARTTLS. [default: the configuration's]",
)
@click.option(
    "--password-source", metavar="SPEC", type=PIN_SOURCE, help="Where the password of USER comes from."
)
@click.option(
    "--trust", metavar="FILE", type=PATH, multiple=True, help="The CA of the server. [default: the system's]"
)
@click.option("--from", "sender", metavar="ADDRESS", help="The sender. [default: Sender, or else From]")
@click.option(
    "--to",
    "recipients",
    metavar="ADDRESS",
    multiple=True,
    help="A recipient; may be repeated. [default: To, Cc and Bcc]",
)
@click.pass_obj
def send(
    cli: Cli,
    source: str,
    server: str | None,
    password_source: str | None,
    trust: tuple[str, ...],
    sender: str | None,
    recipients: tuple[str, ...],
) -> None:
    """Send MAIL with a submission server, over TLS.

    Bcc is taken out of the header; nothing else is changed, so that signatures stay good. A server that
    cannot take the mail as it is gets none of it. Exit code 5: some recipient was refused, or the server
    failed.

    \b
    Examples:
      tokensign mail send letter.eml --server smtps://alice@mail.acme.example
      tokensign mail send letter.eml --server smtp://alice@mail.acme.example --password-source keyring:mail
      tokensign mail send letter.eml --to bob@acme.example
    """
    from tokensign.smime.transport.servers import SUBMISSION_SCHEMES, parse_server, verified_tls
    from tokensign.smime.transport.submission import send_mail

    settings = cli.settings.mail
    named = server or settings.submission
    if not named:
        raise UsageError(
            "no submission server is named", hint="name one with --server, or in [mail] of the configuration"
        )
    target = parse_server(named, SUBMISSION_SCHEMES)
    secret = password_source or settings.password_source or "prompt"
    with open_input(source) as stream, cli.output.progress(stream, f"sending {source}") as message:
        result = send_mail(
            message,
            target,
            verified_tls(tuple(map(Path, trust)) or settings.trust),
            lambda: password_from(secret, f"{target.user} at {target.host}").reveal().decode(),
            sender=sender,
            recipients=recipients,
        )
    _report(cli, source, result)


def _report(cli: Cli, source: str, result: Submission) -> None:
    cli.output.document(
        {
            "accepted": list(result.accepted),
            "refused": {to: {"code": reply.code, "text": reply.text} for to, reply in result.refused.items()},
        }
    )
    if result.accepted:
        cli.output.status(f"{source}: sent to {', '.join(result.accepted)}")
    for to, reply in result.refused.items():
        cli.output.status(f"{source}: not sent to {to}: {reply}")
    if result.refused:
        if cli.json:
            raise click.exceptions.Exit(NetworkError.exit_code)
        again = any(reply.temporary for reply in result.refused.values())
        all_of_them = len(result.refused) + len(result.accepted)
        raise NetworkError(
            f"the server refused {len(result.refused)} of {all_of_them} recipients",
            hint="send it again later to those with --to" if again else "check their addresses",
        )
