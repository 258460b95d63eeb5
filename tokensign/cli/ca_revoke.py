"""`tokensign ca revoke`, `release` and `crl`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from tokensign.cli.authorities import SERIAL, ca_key_option, ca_option, find_ca_key, record_document
from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.database import database_option, open_database
from tokensign.cli.inputs import MOMENT
from tokensign.cli.output import named
from tokensign.files import STANDARD_STREAM, open_output

if TYPE_CHECKING:
    from datetime import datetime

    from tokensign.authority import Authority

__all__ = ["crl", "release", "revoke"]

_REASONS: Final = (  # RFC 5280 section 5.3.1; those of attribute authorities are not ours
    "unspecified", "keyCompromise", "cACompromise", "affiliationChanged", "superseded",
    "cessationOfOperation", "certificateHold", "privilegeWithdrawn",
)  # fmt: skip


@click.command(cls=Command)
@click.argument("serial", metavar="SERIAL", type=SERIAL)
@click.option("--reason", type=click.Choice(_REASONS, case_sensitive=False), required=True)
@click.option("--at", metavar="TIME", type=MOMENT, help="Since when. [default: now]")
@ca_option
@database_option
@click.pass_obj
def revoke(
    cli: Cli, serial: int, reason: str, at: datetime | None, name: str | None, database: str | None
) -> None:
    """Revoke the certificate SERIAL. With the reason certificateHold it may be released again.

    OCSP tells it at once; the next CRL does, so make one.

    \b
    Examples:
      tokensign ca revoke 570e72057d82 --reason keyCompromise --at 2026-05-01
      tokensign ca revoke 570e72057d82 --reason superseded
    """
    from tokensign.authority import Reason, open_authority
    from tokensign.authority.compromised_keys import COMPROMISES, good_certificates_of_key

    with open_database(cli, database) as store:
        authority = open_authority(store, name)
        record = authority.revoke(serial, Reason(reason), at)
        others = good_certificates_of_key(store, record.key_sha256) if Reason(reason) in COMPROMISES else []
    what = "is on hold" if record.held else "is revoked"
    cli.output.status(f"the certificate of {record.subject or ', '.join(record.emails)} {what}")
    for ca, other in others:
        cli.output.status(f"warning: the certificate {other.serial:x} of the CA {ca} has the same key")
    cli.output.document(record_document(authority, record))


@click.command(cls=Command)
@click.argument("serial", metavar="SERIAL", type=SERIAL)
@ca_option
@database_option
@click.pass_obj
def release(cli: Cli, serial: int, name: str | None, database: str | None) -> None:
    """Take the certificate SERIAL from hold; it is good again.

    \b
    Example:
      tokensign ca release 570e72057d82
    """
    from tokensign.authority import open_authority

    with open_database(cli, database) as store:
        authority = open_authority(store, name)
        record = authority.release(serial)
    cli.output.status(f"the certificate of {record.subject or ', '.join(record.emails)} is good again")
    cli.output.document(record_document(authority, record))


@click.command(cls=Command)
@click.option(
    "-o", "--output", metavar="FILE|FOLDER", type=PATH, default=STANDARD_STREAM, help="[default: stdout]"
)
@click.option("--delta", is_flag=True, help="Only what changed since the last complete CRL.")
@click.option("--partition", metavar="N", type=int, help="Of the certificates of one partition, from 0.")
@click.option(
    "--days", type=click.IntRange(min=1), help="How long it counts. [default: 7, or 1 with --delta]"
)
@ca_key_option
@ca_option
@database_option
@click.pass_obj
def crl(
    cli: Cli,
    output: str,
    delta: bool,
    partition: int | None,
    days: int | None,
    key: str | None,
    name: str | None,
    database: str | None,
) -> None:
    """Make a CRL (DER) of what is revoked now.

    A file with an older CRL of the CA is replaced; one with a newer CRL stays. In a folder, the CRL gets the
    name that it has in certificates; where the CA has partitions, and none is named, each gets its CRL.

    \b
    Examples:
      tokensign ca crl -o /srv/www/people/
      tokensign ca crl -o people.crl --days 3
    """
    from tokensign.authority import open_authority
    from tokensign.authority.crl import crl_number_of, file_name, publish

    folder = Path(output) if output != STANDARD_STREAM and Path(output).is_dir() else None
    made = []
    with open_database(cli, database) as store:
        authority = open_authority(store, name)
        with find_ca_key(cli, authority, key, action="sign a CRL") as signer:
            for part in _partitions(authority, partition, into_folder=folder is not None):
                place = output if folder is None else str(folder / file_name(part, delta=delta))
                der = authority.crl(signer, delta=delta, partition=part, days=days)
                if place == STANDARD_STREAM:
                    with open_output(place) as file:
                        file.write(der)
                    published = True
                else:
                    published = publish(authority, der, place)
                made.append((place, crl_number_of(der), part, published))
    for place, number, _, published in made:
        outcome = f"CRL {number}" if published else f"stays; it is newer than CRL {number}"
        cli.output.status(f"{named(place)}: {outcome}")
    cli.output.document(
        [
            {
                "ca": authority.name,
                "output": place,
                "number": number,
                "partition": part,
                "published": published,
            }
            for place, number, part, published in made
        ],
        on_stderr=output == STANDARD_STREAM,
    )


def _partitions(authority: Authority, named_one: int | None, *, into_folder: bool) -> list[int | None]:
    if named_one is None and into_folder and authority.partitions > 1:
        return list(range(authority.partitions))
    return [named_one]
