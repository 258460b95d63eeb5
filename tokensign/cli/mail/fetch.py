"""`tokensign mail fetch`."""

from __future__ import annotations

from pathlib import Path

import click

from tokensign.cli.command import PATH, PIN_SOURCE, Cli, Command
from tokensign.cli.inputs import password_from
from tokensign.errors import FileError, UsageError

__all__ = ["fetch"]


@click.command(cls=Command)
@click.option("--server", metavar="URL", help="imaps://USER@HOST. [default: the configuration's]")
@click.option(
    "--password-source", metavar="SPEC", type=PIN_SOURCE, help="Where the password of USER comes from."
)
@click.option(
    "--trust", metavar="FILE", type=PATH, multiple=True, help="The CA of the server. [default: the system's]"
)
@click.option("--mailbox", metavar="NAME", default="INBOX", show_default=True, help="Which one.")
@click.option("--unseen", is_flag=True, help="Only mail that nobody has seen yet.")
@click.option(
    "--limit", metavar="BYTES", type=click.IntRange(min=1), help="Leave larger mails there. [default: 2 GiB]"
)
@click.option(
    "-o", "--output", "folder", metavar="DIR", type=PATH, default=".", show_default=True, help="Where to."
)
@click.pass_obj
def fetch(
    cli: Cli,
    server: str | None,
    password_source: str | None,
    trust: tuple[str, ...],
    mailbox: str,
    unseen: bool,
    limit: int | None,
    folder: str,
) -> None:
    """Fetch mail from an IMAP server.

    It goes over TLS, and each mail to a file in DIR.

    A file is named after the mailbox and the number that the server gave the mail for ever, so that a mail
    that is there is not fetched again. Nothing changes on the server: no mail counts as seen.

    \b
    Examples:
      tokensign mail fetch --server imaps://alice@mail.acme.example -o mails
      tokensign mail fetch --unseen -o mails
    """
    from tokensign.smime.transport.imap import MESSAGE_MAXIMUM, fetch_mails, opened_mailbox
    from tokensign.smime.transport.servers import FETCH_SCHEMES, parse_server, verified_tls

    settings = cli.settings.mail
    named = server or settings.imap
    if not named:
        raise UsageError(
            "no IMAP server is named", hint="name one with --server, or in [mail] of the configuration"
        )
    target = parse_server(named, FETCH_SCHEMES)
    if not Path(folder).is_dir():
        raise FileError(f"{folder} is not a folder", hint="make it, or name another one with -o")
    secret = password_source or settings.password_source or "prompt"
    mails = []
    with opened_mailbox(
        target,
        verified_tls(tuple(map(Path, trust)) or settings.trust),
        lambda: password_from(secret, f"{target.user} at {target.host}").reveal(),
        mailbox,
    ) as opened:
        for mail in fetch_mails(opened, Path(folder), unseen=unseen, limit=limit or MESSAGE_MAXIMUM):
            mails.append(mail)
            if mail.state != "present":
                cli.output.status(f"{mail.path}: {mail.state}, {mail.size:,} bytes")
    fetched = sum(mail.state == "fetched" for mail in mails)
    cli.output.status(f"{mailbox}: {fetched} fetched, {len(mails) - fetched} left as they were")
    cli.output.document(
        {
            "mails": [
                {"uid": mail.uid, "file": str(mail.path), "size": mail.size, "state": mail.state}
                for mail in mails
            ]
        }
    )
