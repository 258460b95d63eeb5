"""`tokensign timestamp reply`: be a timestamp authority for one request."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import click

from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.output import named
from tokensign.cli.trust import require_dotted
from tokensign.errors import MessageError
from tokensign.files import STANDARD_STREAM, open_output, read_small

__all__ = ["ACCURACY", "reply"]

ACCURACY: Final = click.FloatRange(min=0, min_open=True, max=86400)
"""Seconds by which a clock may be wrong."""


@click.command(cls=Command)
@click.argument("request", metavar="TSQ", type=PATH)
@click.option("--key", metavar="KEY", required=True, help="The key of the timestamp authority.")
@click.option("-o", "--output", metavar="TSR", type=PATH, required=True, help="Where the response goes.")
@click.option("--policy", metavar="OID", help="The TSA policy. [default: anyPolicy, 2.5.29.32.0]")
@click.option(
    "--accuracy",
    metavar="SECONDS",
    type=ACCURACY,
    help="By how much the clock of this machine may be wrong. [default: it is not said]",
)
@click.option("--force", is_flag=True, help="Replace TSR if it exists.")
@click.pass_obj
def reply(
    cli: Cli, request: str, key: str, output: str, policy: str | None, accuracy: float | None, force: bool
) -> None:
    """Answer the timestamp request TSQ with the time of this machine.

    KEY has a certificate for time stamping alone, such as the profile timestamping makes. A request that
    cannot be granted is answered too: TSR then says why, and the exit code is 4.

    \b
    Example:
      tokensign timestamp reply contract.tsq --key tsa -o contract.tsr
    """
    from tokensign.authority.tsa import ANY_POLICY, TimestampIssuer
    from tokensign.cli.service_keys import find_service_key

    if policy is not None:
        require_dotted(policy)
    encoded = read_small(request)
    with find_service_key(
        cli, key, "time_stamping", profile="timestamping", action=f"timestamp {request}"
    ) as signer:
        issuer = TimestampIssuer(
            signer,
            policy=policy or ANY_POLICY,
            accuracy=None if accuracy is None else timedelta(seconds=accuracy),
        )
        answer = issuer.reply(encoded)
    with open_output(output, force=force) as destination:
        destination.write(answer.encoded)
    if answer.time is None or answer.serial_number is None:
        raise MessageError(f"the request was rejected: {answer.reason}", hint=f"{named(output)} says so too")
    cli.output.status(f"{named(output)}: a timestamp of {answer.time:%Y-%m-%d %H:%M:%S} UTC")
    cli.output.document(
        {
            "output": output,
            "time": answer.time.isoformat(),
            "serial_number": f"{answer.serial_number:x}",
            "policy": issuer.policy,
            "authority": issuer.certificate.subject,
        },
        on_stderr=output == STANDARD_STREAM,
    )
