"""`tokensign audit`: the audit log of CAs, keys and the signing service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tokensign.cli.command import PATH, Cli, Group
from tokensign.cli.database import database_option, open_existing_database
from tokensign.cli.inputs import find_signer, read_certificates
from tokensign.cli.output import named
from tokensign.errors import MalformedError, MessageError, UsageError
from tokensign.files import STANDARD_STREAM, open_input, open_output, read_small

if TYPE_CHECKING:
    from tokensign.audit.checkpoint import Checkpoint
    from tokensign.audit.verifying import VerifiedLog
    from tokensign.certificates import Certificate

__all__ = ["audit"]


@click.group(cls=Group)
def audit() -> None:
    """Verify and export the audit log of CAs and the signing service.

    The log is a hash tree (RFC 6962) whose size and root a key on a token signs, again and again: its
    checkpoints. One that is kept elsewhere shows whether anything before it was changed since.
    """


@audit.command()
@click.argument("copy", metavar="[COPY]", type=PATH, required=False)
@click.option(
    "--checkpoint",
    "checkpoints",
    metavar="FILE",
    type=PATH,
    multiple=True,
    help="An earlier checkpoint that was kept elsewhere.",
)
@click.option(
    "--signer", metavar="CERT", type=PATH, help="The certificate of the key that signs the checkpoints."
)
@database_option
@click.pass_obj
def verify(
    cli: Cli, copy: str | None, checkpoints: tuple[str, ...], signer: str | None, database: str | None
) -> None:
    """Verify the audit log, or a COPY of it.

    Every entry is hashed, and the tree is held against its checkpoints. Without --checkpoint from elsewhere,
    nothing tells whether somebody wrote the whole database anew. Exit code 4: the log was changed.

    \b
    Examples:
      tokensign audit verify --checkpoint last-week.pem --signer audit.pem
      tokensign audit verify audit.jsonl --checkpoint last-week.pem --signer audit.pem
    """
    from tokensign.audit.checkpoint import open_checkpoint
    from tokensign.audit.export import verify_export
    from tokensign.audit.verifying import verify_store

    certificate = None if signer is None else _certificate(signer)
    known = [_checkpoint(file, certificate) for file in checkpoints]
    if copy is None:
        with open_existing_database(cli, database) as store:
            latest = _latest_of(store)
            found = verify_store(store, known)
    else:
        with open_input(copy) as stream, cli.output.progress(stream, f"verifying {copy}") as watched:
            found, latest = verify_export(watched, known)
    if latest is not None:
        open_checkpoint(latest, certificate)
    _tell(cli, found, certificate)


@audit.command()
@click.option("-o", "--output", metavar="FILE", type=PATH, default=STANDARD_STREAM, help="[default: stdout]")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@database_option
@click.pass_obj
def export(cli: Cli, output: str, force: bool, database: str | None) -> None:
    """Write a copy of the audit log, to be kept and verified elsewhere.

    Its first line tells of the tree; each line after it is an entry, a JSON object.

    \b
    Example:
      tokensign audit export -o audit.jsonl
    """
    from tokensign.audit.export import export_log

    with open_output(output, force=force, mode=0o600) as file, open_existing_database(cli, database) as store:
        count = export_log(store, file)
    cli.output.status(f"{named(output)}: {count} entries")
    cli.output.document({"output": output, "entries": count}, on_stderr=output == STANDARD_STREAM)


@audit.command()
@click.option("-o", "--output", metavar="FILE", type=PATH, default=STANDARD_STREAM, help="[default: stdout]")
@click.option(
    "--key", metavar="KEY", help="Sign a new one with this key. [default: the latest that there is]"
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@database_option
@click.pass_obj
def checkpoint(cli: Cli, output: str, key: str | None, force: bool, database: str | None) -> None:
    """Write the latest checkpoint, or sign a new one.

    Keep it where nobody can write who can write the database.
    The service makes checkpoints by itself when it has a key for that; with --key this command does.

    \b
    Examples:
      tokensign audit checkpoint -o 2026-01-31.pem
      tokensign audit checkpoint --key audit -o 2026-01-31.pem
    """
    from tokensign.audit.checkpoint import latest_checkpoint, make_checkpoint

    with open_output(output, force=force) as file, open_existing_database(cli, database) as store:
        if key is not None:
            with find_signer(cli, key, action="sign a checkpoint of the audit log") as signer:
                made = make_checkpoint(store, signer)
        else:
            with store.reading() as connection:
                latest = latest_checkpoint(connection)
            if latest is None:
                raise UsageError(
                    "the audit log has no checkpoint", hint="name a key that signs one with --key"
                )
            made = latest
        file.write(made.pem())
    size, root = made.checkpoint.size, made.checkpoint.root.hex()
    cli.output.status(f"{named(output)}: the checkpoint of {size} entries, {root}")
    document = {"output": output, "log": made.checkpoint.origin, "size": size, "root": root}
    cli.output.document(document, on_stderr=output == STANDARD_STREAM)


def _latest_of(store: Any) -> bytes | None:  # noqa: ANN401 - a Store, whose import is slow
    from tokensign.audit.checkpoint import latest_checkpoint

    with store.reading() as connection:
        latest = latest_checkpoint(connection)
    return None if latest is None else latest.message


def _checkpoint(file: str, signer: Certificate | None) -> Checkpoint:
    from tokensign.audit.checkpoint import open_checkpoint

    message = read_small(file)
    try:
        return open_checkpoint(message, signer)
    except MessageError as error:
        raise MalformedError(
            f"{file} is no checkpoint: {error.message}", hint="`tokensign audit checkpoint` writes one"
        ) from error


def _certificate(file: str) -> Certificate:
    found = read_certificates([file])
    if not found:
        raise UsageError(f"{file} has no certificate")
    return found[0]


def _tell(cli: Cli, found: VerifiedLog, certificate: Certificate | None) -> None:
    if found.checkpoints and certificate is None:
        cli.output.status("warning: who signed the checkpoints was not checked; name the key with --signer")
    if not found.checkpoints:
        cli.output.status("warning: there is no checkpoint, so nothing tells what the log was before")
    agrees = f"; checkpoints that it agrees with: {found.checkpoints}" if found.checkpoints else ""
    cli.output.text(f"the audit log is whole: {found.size} entries{agrees}")
    if found.unfinished:
        numbers = ", ".join(map(str, found.unfinished[:_SHOWN]))
        cli.output.text(f"{len(found.unfinished)} operations have no outcome yet: {numbers}")
    cli.output.document(
        {
            "log": found.origin,
            "entries": found.size,
            "root": found.root.hex(),
            "checkpoints": found.checkpoints,
            "unfinished": list(found.unfinished),
        }
    )


_SHOWN = 10  # numbers of entries that people are told
