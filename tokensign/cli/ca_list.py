"""`tokensign ca list` and `show`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from tokensign.cli.authorities import SERIAL, ca_option, record_document
from tokensign.cli.cert import certificate_document
from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.database import database_option, open_database
from tokensign.cli.expiry import expiring_option, warn_of_expiry
from tokensign.cli.output import named
from tokensign.errors import UsageError
from tokensign.files import open_output

if TYPE_CHECKING:
    from tokensign.authority import Authority
    from tokensign.certificates import Certificate

__all__ = ["list_", "show"]

_CA_DAYS: Final = 180  # before its end, when a CA should have a successor


@click.command("list", cls=Command)
@expiring_option
@click.option("--revoked", is_flag=True, help="Only those that are revoked or on hold.")
@click.option(
    "--form",
    type=click.Choice(["table", "openssl"]),
    default="table",
    show_default=True,
    help="openssl: as the index.txt of `openssl ca`, for one CA.",
)
@ca_option
@database_option
@click.pass_obj
def list_(
    cli: Cli, expiring: int | None, revoked: bool, form: str, name: str | None, database: str | None
) -> None:
    """List the certificates that were issued; what ends first is on top.

    \b
    Examples:
      tokensign ca list
      tokensign ca list --expiring 30 --ca people
      tokensign ca list --form openssl --ca people
    """
    from tokensign.authority import list_authorities, open_authority

    if form == "openssl":
        if expiring is not None or revoked:
            raise UsageError("an index.txt has all certificates", hint="leave --expiring and --revoked out")
        _print_index(cli, name, database)
        return
    with open_database(cli, database) as store:
        chosen = list_authorities(store) if name is None else [open_authority(store, name)]
        found = [
            record_document(authority, record)
            for authority in chosen
            for record in authority.certificates()
            if not revoked or record.revoked_at is not None
        ]
    if expiring is not None:
        found = [
            one
            for one in found
            if one["status"] == "good" and warn_of_expiry(cli, _named(one), one["not_after"], expiring)
        ]
    cli.output.document(found)
    cli.output.table(
        ("CA", "serial number", "status", "subject", "e-mail", "profile", "valid until"),
        [
            (
                one["ca"],
                one["serial_number"],
                one["status"],
                one["subject"],
                ", ".join(one["emails"]),
                one["profile"],
                one["not_after"][:10],
            )
            for one in found
        ],
        empty="There is no such certificate."
        if revoked or expiring is not None
        else "No certificate was issued.",
    )


def _print_index(cli: Cli, name: str | None, database: str | None) -> None:
    from tokensign.authority import open_authority
    from tokensign.authority.openssl_index import index_line

    now = datetime.now(UTC)
    with open_database(cli, database) as store:
        for record in open_authority(store, name).certificates():
            line = index_line(record, now)
            if line is not None:
                click.echo(line)


@click.command(cls=Command)
@click.argument("serial", metavar="[SERIAL]", type=SERIAL, required=False)
@click.option("-o", "--output", metavar="CERT", type=PATH, help="Write the certificate.")
@click.option("--force", is_flag=True, help="Replace CERT if it exists.")
@ca_option
@database_option
@click.pass_obj
def show(
    cli: Cli, serial: int | None, output: str | None, force: bool, name: str | None, database: str | None
) -> None:
    """Tell all about the certificate SERIAL, or about the CA.

    \b
    Examples:
      tokensign ca show --ca people
      tokensign ca show 570e72057d82 -o alice.pem
    """
    from tokensign.authority import open_authority

    with open_database(cli, database) as store:
        authority = open_authority(store, name)
        certificate: Certificate | None
        if serial is None:
            document, certificate = _ca_document(authority), authority.certificate
        else:
            record = authority.find(serial)
            if record.certificate is None and output:
                raise UsageError(f"the certificate {serial:x} was never issued")
            document, certificate = record_document(authority, record), record.certificate
    if output and certificate:
        with open_output(output, force=force) as file:
            file.write(certificate.pem().encode("ascii"))
        cli.output.status(f"{named(output)}: the certificate of {certificate.subject}")
    cli.output.document(document)
    cli.output.fields(document)
    if serial is None:
        _warn(cli, document)


def _ca_document(authority: Authority) -> dict[str, Any]:
    latest = authority.latest_crl()
    partitions = [authority.latest_crl(number) for number in range(authority.partitions)]
    made = [one for one in (latest, *partitions) if one is not None]
    about = {
        "ca": authority.name,
        "key": authority.key_uri,
        "url": authority.url,
        "partitions": authority.partitions,
        "successor": authority.successor,
        "crl_number": max((one.number for one in made), default=None),
        "next_crl": min(one.next_update for one in made).isoformat() if made else None,
    }
    # A certificate's own "ca" says whether it is that of a CA.
    return about | certificate_document(authority.certificate) | {"ca": authority.name}


def _warn(cli: Cli, document: dict[str, Any]) -> None:
    """Say what ends soon, or has ended."""
    warn_of_expiry(cli, f"the CA {document['ca']}", document["not_after"], _CA_DAYS)
    next_crl = document["next_crl"]
    if next_crl is None:
        cli.output.status(
            f"warning: the CA {document['ca']} has no CRL yet; make one with `tokensign ca crl`"
        )
    elif datetime.fromisoformat(next_crl) < datetime.now(UTC):
        cli.output.status(f"warning: a CRL of {document['ca']} ended on {next_crl[:10]}; make a new one")


def _named(document: dict[str, Any]) -> str:
    return document["subject"] or ", ".join(document["emails"])
