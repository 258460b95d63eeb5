"""`tokensign grant add`, `list`, `revoke` and `limit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from tokensign.cli.command import Cli, Command
from tokensign.cli.database import database_option, open_database
from tokensign.cli.inputs import MOMENT
from tokensign.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from tokensign.service.granting import GrantRecord

__all__ = [
    "OPERATIONS",
    "add",
    "grant_document",
    "grant_table",
    "iso",
    "limit",
    "list_",
    "principal_argument",
    "revoke",
]

OPERATIONS: Final = ("sign", "cms", "decrypt", "verify", "jobs", "audit")
"""Those of the service, whose modules are slow to load."""
principal_argument = click.argument("principal", metavar="PRINCIPAL")


@click.command(cls=Command)
@principal_argument
@click.option("--key", metavar="KEY", default="*", help="LANE/LABEL, LANE/* or *. [default: *]")
@click.option(
    "--operation",
    "operations",
    type=click.Choice(OPERATIONS),
    multiple=True,
    required=True,
    help="What may be done; may be given several times.",
)
@click.option("--scheme", "schemes", metavar="SCHEME", multiple=True, help="Such as rsa-pss. [default: all]")
@click.option("--rate", metavar="N/s|m|h|d", help="How much of it in which time. [default: no limit]")
@click.option("--from", "not_before", type=MOMENT, metavar="TIME", help="From when on. [default: now]")
@click.option("--until", "not_after", type=MOMENT, metavar="TIME", help="Until when. [default: without end]")
@click.option("--hours", metavar="HOURS", help='In UTC, such as "mon-fri 08:00-18:00". [default: all]')
@database_option
@click.pass_obj
def add(
    cli: Cli,
    principal: str,
    key: str,
    operations: tuple[str, ...],
    schemes: tuple[str, ...],
    rate: str | None,
    not_before: datetime | None,
    not_after: datetime | None,
    hours: str | None,
    database: str | None,
) -> None:
    """Let PRINCIPAL do something.

    \b
    Examples:
      tokensign grant add alice --key acme/contracts --operation sign --rate 600/m
      tokensign grant add bob --key "acme/*" --operation decrypt --hours "mon-fri 08:00-18:00"
      tokensign grant add auditor --operation audit
    """
    from tokensign.service.granting import GrantTerms, add_grant

    terms = GrantTerms(
        key=key,
        operations=operations,
        schemes=schemes,
        rate=rate,
        not_before=not_before,
        not_after=not_after,
        hours=hours,
    )
    with open_database(cli, database) as store:
        number = add_grant(store, principal, terms)
    cli.output.status(f"grant {number}: {principal} may {', '.join(operations)} with {_keys(key)}")
    cli.output.document({"grant": number, "principal": principal})


@click.command("list", cls=Command)
@click.option("--principal", metavar="PRINCIPAL", help="Of whom. [default: of all]")
@click.option("--revoked", is_flag=True, help="Those that were revoked, too.")
@database_option
@click.pass_obj
def list_(cli: Cli, principal: str | None, revoked: bool, database: str | None) -> None:
    """List grants.

    \b
    Example:
      tokensign grant list --principal alice
    """
    from tokensign.service.granting import list_grants

    with open_database(cli, database) as store:
        found = [grant_document(one) for one in list_grants(store, principal, revoked=revoked)]
    cli.output.document(found)
    grant_table(cli, found)


@click.command(cls=Command)
@click.argument("number", metavar="ID", type=int)
@database_option
@click.pass_obj
def revoke(cli: Cli, number: int, database: str | None) -> None:
    """Take the grant ID back.

    \b
    Example:
      tokensign grant revoke 7
    """
    from tokensign.service.granting import revoke_grant

    with open_database(cli, database) as store:
        record = revoke_grant(store, number)
    cli.output.status(f"grant {number} of {record.principal} is revoked")
    cli.output.document(grant_document(record))


@click.command(cls=Command)
@click.argument("rate", metavar="N/s|m|h|d|none")
@click.option("--principal", metavar="PRINCIPAL", help="Over all grants of this principal.")
@click.option("--key", "key_id", metavar="KEY", help="Over all principals that use this key, LANE/LABEL.")
@database_option
@click.pass_obj
def limit(cli: Cli, rate: str, principal: str | None, key_id: str | None, database: str | None) -> None:
    """Limit a principal, or a key, to RATE; `none` takes the limit away.

    \b
    Examples:
      tokensign grant limit 100/s --principal build
      tokensign grant limit 1000/h --key acme/contracts
    """
    from tokensign.service.granting import set_limit

    kind, name = ("principal", principal) if key_id is None else ("key", key_id)
    if name is None or (principal is not None and key_id is not None):
        raise UsageError("either --principal or --key is needed")
    chosen = None if rate == "none" else rate
    with open_database(cli, database) as store:
        set_limit(store, kind, name, chosen)
    cli.output.status(f"the {kind} {name} has " + (f"a limit of {rate}" if chosen else "no limit"))
    cli.output.document({kind: name, "rate": chosen})


def grant_document(record: GrantRecord) -> dict[str, Any]:
    """A grant for --json."""
    terms = record.terms
    return {
        "grant": record.id,
        "principal": record.principal,
        "key": terms.key,
        "operations": list(terms.operations),
        "schemes": list(terms.schemes),
        "rate": terms.rate,
        "not_before": iso(terms.not_before),
        "not_after": iso(terms.not_after),
        "hours": terms.hours,
        "granted_at": iso(record.granted_at),
        "revoked_at": iso(record.revoked_at),
    }


def grant_table(cli: Cli, grants: list[dict[str, Any]]) -> None:
    """Grants for people, as `grant_document` has them."""
    cli.output.table(
        ("grant", "principal", "key", "operations", "schemes", "rate", "when", "state"),
        [
            (
                str(one["grant"]),
                one["principal"],
                one["key"],
                " ".join(one["operations"]),
                " ".join(one["schemes"]) or "all",
                one["rate"] or "",
                _when(one),
                "revoked" if one["revoked_at"] else "good",
            )
            for one in grants
        ],
        empty="There is no grant.",
    )


def _when(document: dict[str, Any]) -> str:
    start, end, hours = document["not_before"], document["not_after"], document["hours"]
    parts = [f"from {start[:10]}" if start else "", f"until {end[:10]}" if end else "", hours or ""]
    return ", ".join(filter(None, parts)) or "always"


def _keys(key_id: str) -> str:
    return (
        "all keys" if key_id == "*" else f"the keys {key_id}" if key_id.endswith("*") else f"the key {key_id}"
    )


def iso(moment: datetime | None) -> str | None:
    """A time in a document, if there is one."""
    return None if moment is None else moment.isoformat()
