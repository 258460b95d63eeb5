"""`tokensign ra`: requests for certificates are taken, proved, approved or rejected, and issued."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from tokensign.cli.authorities import ca_key_option, ca_option, find_ca_key
from tokensign.cli.cert import certificate_document
from tokensign.cli.command import PATH, Cli, Group
from tokensign.cli.completions import complete_profiles
from tokensign.cli.database import database_option, open_database
from tokensign.cli.output import named
from tokensign.cli.requests import request_document, request_fields, tell_codes, tell_request
from tokensign.files import STANDARD_STREAM, open_output, read_small

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ra"]

_CODE_LINE: Final = 1000  # letters that are read of a line with a code, which has 27


def _actor_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--as", "actor", metavar="NAME", help="Who does this, for the audit log. [default: your account]"
    )(command)


_sender_option = click.option(
    "--from", "sender", metavar="ADDRESS", help="From whom codes are mailed. [default: the mail account]"
)


@click.group(cls=Group)
def ra() -> None:
    """Take requests for certificates, and decide on them."""


@ra.command()
@click.argument("csr", metavar="CSR", type=PATH)
@click.option("--requester", metavar="ADDRESS", help="Whose certificate it will be. [default: as CSR says]")
@click.option(
    "--profile",
    "profile_name",
    metavar="PROFILE",
    shell_complete=complete_profiles,
    default="smime-mailbox-strict",
    show_default=True,
    help="A name, or a .toml file.",
)
@_sender_option
@_actor_option
@ca_option
@database_option
@click.pass_obj
def submit(
    cli: Cli,
    csr: str,
    requester: str | None,
    profile_name: str,
    name: str | None,
    sender: str | None,
    actor: str | None,
    database: str | None,
) -> None:
    """Take the request CSR, and mail a code to each address in it.

    The signature of CSR (PKCS #10) must hold, which proves that its sender has the key. Codes are mailed
    where [mail] of the configuration names a submission server; else they are printed, to be sent to their
    addresses in another way.

    \b
    Examples:
      tokensign ra submit alice.csr
      tokensign ra submit ca.csr --profile subordinate-ca --requester bob@acme.example
    """
    from tokensign.authority import load_profile, open_authority
    from tokensign.authority.registration import submit_request
    from tokensign.cli.ra_mail import deliver_codes

    profile = load_profile(profile_name)
    encoded = read_small(csr)
    with open_database(cli, database) as store:
        ca = open_authority(store, name).name
        request, codes = submit_request(store, encoded, ca, profile, requester=requester, submitter=actor)
    cli.output.status(f"request {request.id}: {request.subject} of {request.requester}")
    tell_codes(cli, request, deliver_codes(cli, request, codes, sender))


@ra.command()
@click.argument("number", metavar="ID", type=int)
@_sender_option
@_actor_option
@database_option
@click.pass_obj
def challenge(cli: Cli, number: int, sender: str | None, actor: str | None, database: str | None) -> None:
    """Mail new codes for request ID.

    They go to the addresses that are not proved yet; older codes are worth nothing from then on.

    \b
    Example:
      tokensign ra challenge 7
    """
    from tokensign.authority.registration import get_request, new_codes
    from tokensign.cli.ra_mail import deliver_codes

    with open_database(cli, database) as store:
        codes = new_codes(store, number, actor=actor)
        request = get_request(store, number)
    tell_codes(cli, request, deliver_codes(cli, request, codes, sender))


@ra.command()
@click.argument("number", metavar="ID", type=int)
@click.argument("code", metavar="CODE")
@_actor_option
@database_option
@click.pass_obj
def verify(cli: Cli, number: int, code: str, actor: str | None, database: str | None) -> None:
    """Take the CODE that was mailed for request ID.

    It proves that the requester reads the mail of the address. Wrong codes are counted, and a few are enough.
    With - the code is read from standard input, where other users of the machine do not see it.

    \b
    Examples:
      tokensign ra verify 7 MZXW6Y-TBOJQX-GZLOMV-3GS3TF
      tokensign ra verify 7 -
    """
    from tokensign.authority.registration import prove_mailbox

    if code == STANDARD_STREAM:
        code = sys.stdin.readline(_CODE_LINE).strip()
    with open_database(cli, database) as store:
        tell_request(cli, prove_mailbox(store, number, code, actor=actor))


@ra.command("list")
@click.option("--all", "finished", is_flag=True, help="Those that were issued or rejected, too.")
@database_option
@click.pass_obj
def list_(cli: Cli, finished: bool, database: str | None) -> None:
    """List the requests that are open.

    \b
    Examples:
      tokensign ra list
      tokensign ra list --all --json
    """
    from tokensign.authority.registration import list_requests

    with open_database(cli, database) as store:
        found = list_requests(store, finished=finished)
    cli.output.document([request_document(request) for request in found])
    cli.output.table(
        ("id", "state", "requester", "subject", "CA", "profile", "submitted"),
        [
            (
                str(request.id),
                request.state.value,
                request.requester,
                request.subject,
                request.authority,
                request.profile,
                f"{request.submitted_at:%Y-%m-%d}",
            )
            for request in found
        ],
        empty="There is no request." if finished else "There is no open request.",
    )


@ra.command()
@click.argument("number", metavar="ID", type=int)
@database_option
@click.pass_obj
def show(cli: Cli, number: int, database: str | None) -> None:
    """Tell all about request ID, before it is decided on.

    \b
    Example:
      tokensign ra show 7
    """
    from tokensign.authority.registration import get_request

    with open_database(cli, database) as store:
        request = get_request(store, number)
    cli.output.document(request_document(request))
    cli.output.fields(request_fields(request))


@ra.command()
@click.argument("number", metavar="ID", type=int)
@_actor_option
@database_option
@click.pass_obj
def approve(cli: Cli, number: int, actor: str | None, database: str | None) -> None:
    """Approve request ID, as somebody else than its requester.

    Who submitted it does not approve it either, and the certificate of a CA needs two people. Nothing
    proves that you are whom --as names; it is written to the audit log, beside your account.

    \b
    Example:
      tokensign ra approve 7 --as carol@acme.example
    """
    from tokensign.authority.approval import approve_request

    with open_database(cli, database) as store:
        tell_request(cli, approve_request(store, number, actor=actor))


@ra.command()
@click.argument("number", metavar="ID", type=int)
@click.option("--reason", required=True, help="Why, for the requester.")
@_actor_option
@database_option
@click.pass_obj
def reject(cli: Cli, number: int, reason: str, actor: str | None, database: str | None) -> None:
    """Reject request ID.

    \b
    Example:
      tokensign ra reject 7 --reason "nobody of this name works here"
    """
    from tokensign.authority.approval import reject_request

    with open_database(cli, database) as store:
        tell_request(cli, reject_request(store, number, reason, actor=actor))


@ra.command()
@click.argument("number", metavar="ID", type=int)
@click.option("-o", "--output", metavar="CERT", type=PATH, default=STANDARD_STREAM, help="[default: stdout]")
@click.option(
    "--profile", "profile_name", metavar="FILE", type=PATH, help="The file of a profile of your own."
)
@click.option("--days", type=click.IntRange(min=1), help="How long it is valid. [default: the profile's]")
@click.option("--force", is_flag=True, help="Replace CERT if it exists.")
@_actor_option
@ca_key_option
@database_option
@click.pass_obj
def issue(
    cli: Cli,
    number: int,
    output: str,
    key: str | None,
    profile_name: str | None,
    days: int | None,
    force: bool,
    actor: str | None,
    database: str | None,
) -> None:
    """Issue the certificate of request ID, which was approved.

    Issued once, it is written again whenever this is called again.

    \b
    Example:
      tokensign ra issue 7 -o alice.pem
    """
    from tokensign.authority import load_profile, open_authority
    from tokensign.authority.approval import issue_for_request
    from tokensign.authority.registration import get_request

    with open_database(cli, database) as store:
        request = get_request(store, number)
        profile = load_profile(profile_name or request.profile)
        authority = open_authority(store, request.authority)
        with find_ca_key(cli, authority, key, action="issue a certificate") as signer:
            issued = issue_for_request(store, number, authority, signer, profile, days=days, actor=actor)
    with open_output(output, force=force) as file:
        file.write(issued.certificate.pem().encode("ascii"))
    cli.output.status(f"{named(output)}: the certificate of {issued.certificate.subject}")
    document = certificate_document(issued.certificate) | {"request": number, "output": output}
    cli.output.document(document, on_stderr=output == STANDARD_STREAM)
