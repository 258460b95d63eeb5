"""`tokensign digest`."""

from __future__ import annotations

import contextlib

import click

from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.forms import FORMS, message_of
from tokensign.cli.inputs import default_output
from tokensign.cli.output import named
from tokensign.errors import UsageError
from tokensign.files import STANDARD_STREAM, open_input, open_output

__all__ = ["digest"]


@click.command(cls=Command)
@click.argument("source", metavar="INPUT", type=PATH)
@click.option(
    "--digest",
    "algorithm",
    metavar="NAME",
    default="sha256",
    show_default=True,
    help="sha256, sha384, sha512, sha3-256 ...",
)
@click.option(
    "--attached/--detached", default=True, help="Put the content into the message (default), or not."
)
@click.option("--form", type=FORMS, default="der", show_default=True)
@click.option("-o", "--output", metavar="OUT", type=PATH, help="Where the result goes. [default: INPUT.p7m]")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def digest(
    cli: Cli, source: str, algorithm: str, attached: bool, form: str, output: str | None, force: bool
) -> None:
    """Put INPUT and its digest into DigestedData (RFC 5652 section 7). It shows accidents, not attacks.

    Whoever changes the content can change the digest, too; `tokensign sign` protects from that. `tokensign
    decrypt` checks the digest and takes the content out.

    \b
    Examples:
      tokensign digest contract.pdf
      tokensign digest contract.pdf --digest sha512 --detached -o contract.pdf.digest
    """
    from tokensign import algorithms
    from tokensign.cms.digested import make_digested_data

    if form == "smime" and not attached:
        raise UsageError("--detached makes der or pem, not smime")
    chosen = algorithms.digest(algorithm)
    target = output or default_output(source, ".eml" if form == "smime" else ".p7m")
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open_input(source))
        destination = stack.enter_context(open_output(target, force=force))
        content = stack.enter_context(cli.output.progress(stream, f"digesting {source}"))
        with message_of(content, source, form, None, destination) as (plain, message):
            make_digested_data(plain, message, digest=chosen, detached=not attached)
    cli.output.status(f"{named(target)}: digested with {chosen.name}")
    cli.output.document(
        {"output": target, "form": form, "digest": chosen.name, "detached": not attached},
        on_stderr=target == STANDARD_STREAM,
    )
