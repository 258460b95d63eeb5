"""`tokensign grant identify`, `show`, `key` and `revoke-key`."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tokensign.cli.command import PATH, Cli, Command
from tokensign.cli.database import database_option, open_database
from tokensign.cli.grants import OPERATIONS, grant_document, grant_table, iso, principal_argument
from tokensign.cli.inputs import read_certificates
from tokensign.cli.output import named
from tokensign.errors import UsageError
from tokensign.files import STANDARD_STREAM, open_output

if TYPE_CHECKING:
    from tokensign.service.identities import ApiKeyRecord, Identity, IdentityKind

__all__ = ["identify", "key", "revoke_key", "show"]


@click.command(cls=Command)
@principal_argument
@click.option("--certificate", metavar="FILE", type=PATH, help="By the key of this client certificate.")
@click.option("--uri", metavar="URI", help="By this URI in subjectAltName of client certificates.")
@click.option("--spki", metavar="HEX", help="By the SHA-256 of a key (SubjectPublicKeyInfo).")
@click.option("--subject", metavar="SUB", help="By this `sub` of tokens; with --issuer.")
@click.option("--issuer", metavar="ISS", help="The `iss` of these tokens.")
@click.option("--remove", is_flag=True, help="Not any more.")
@database_option
@click.pass_obj
def identify(
    cli: Cli,
    principal: str,
    certificate: str | None,
    uri: str | None,
    spki: str | None,
    subject: str | None,
    issuer: str | None,
    remove: bool,
    database: str | None,
) -> None:
    """Tell by what PRINCIPAL is known.

    A client certificate counts when a CA of [service.tls] issued it. Its common name never counts.

    \b
    Examples:
      tokensign grant identify alice --certificate alice.pem
      tokensign grant identify build --uri spiffe://acme.example/build
      tokensign grant identify alice --issuer https://login.acme.example --subject 4711
    """
    from tokensign.service.identities import add_identity, remove_identity

    kind, value = _identity(certificate, uri, spki, subject, issuer)
    with open_database(cli, database) as store:
        if remove:
            principal = remove_identity(store, kind, value)
        else:
            add_identity(store, principal, kind, value)
    known = "is no longer known" if remove else "is known"
    cli.output.status(f"{principal} {known} by the {kind} {value}")
    cli.output.document({"principal": principal, "kind": kind, "value": value, "known": not remove})


@click.command(cls=Command)
@principal_argument
@database_option
@click.pass_obj
def show(cli: Cli, principal: str, database: str | None) -> None:
    """Tell by what PRINCIPAL is known, its API keys and its grants.

    \b
    Example:
      tokensign grant show alice
    """
    from tokensign.service.granting import list_grants, list_limits
    from tokensign.service.identities import list_api_keys, list_identities

    with open_database(cli, database) as store:
        identities = [_identity_document(one) for one in list_identities(store, principal)]
        api_keys = [_api_key_document(one) for one in list_api_keys(store, principal)]
        grants = [grant_document(one) for one in list_grants(store, principal)]
        limits = {name: rate for kind, name, rate in list_limits(store) if kind == "principal"}
    cli.output.document(
        {
            "principal": principal,
            "limit": limits.get(principal),
            "identities": identities,
            "api_keys": api_keys,
            "grants": grants,
        }
    )
    cli.output.text(f"{principal}, limited to {limits[principal]}" if principal in limits else principal)
    cli.output.table(
        ("known by", "which", "since"),
        [(one["kind"], one["value"], one["added_at"][:10]) for one in identities],
        empty="It is known by no certificate and no token.",
    )
    cli.output.table(
        ("API key", "operations", "until", "state"),
        [
            (one["id"], " ".join(one["operations"]) or "all granted", one["expires_at"][:10], one["state"])
            for one in api_keys
        ],
        empty="It has no API key.",
    )
    grant_table(cli, grants)


@click.command(cls=Command)
@principal_argument
@click.option("-o", "--output", metavar="FILE", type=PATH, required=True, help="Where the key goes (0600).")
@click.option("--days", type=int, default=90, show_default=True, help="How long it lasts.")
@click.option(
    "--operation",
    "operations",
    type=click.Choice(OPERATIONS),
    multiple=True,
    help="To what it is limited. [default: all that is granted]",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@database_option
@click.pass_obj
def key(
    cli: Cli,
    principal: str,
    output: str,
    days: int,
    operations: tuple[str, ...],
    force: bool,
    database: str | None,
) -> None:
    """Make an API key for PRINCIPAL.

    It is written once and cannot be had again: the database has a hash of it. A request has it in the header
    field `Authorization: Bearer`.

    \b
    Example:
      tokensign grant key build --operation sign --days 30 -o build.key
    """
    from tokensign.service.identities import create_api_key

    with open_output(output, force=force, mode=0o600) as file, open_database(cli, database) as store:
        whole, record = create_api_key(store, principal, days=days, operations=operations)
        file.write(f"{whole}\n".encode("ascii"))
    cli.output.status(
        f"{named(output)}: the API key {record.id} of {principal}, until {record.expires_at:%Y-%m-%d}"
    )
    document = {"output": output} | _api_key_document(record)
    cli.output.document(document, on_stderr=output == STANDARD_STREAM)


@click.command("revoke-key", cls=Command)
@click.argument("name", metavar="ID")
@database_option
@click.pass_obj
def revoke_key(cli: Cli, name: str, database: str | None) -> None:
    """End the API key ID, as `grant show` lists it.

    \b
    Example:
      tokensign grant revoke-key 5f0c3a9e7b12d4c8
    """
    from tokensign.service.identities import revoke_api_key

    with open_database(cli, database) as store:
        revoke_api_key(store, name)
    cli.output.status(f"the API key {name} is revoked")
    cli.output.document({"id": name, "state": "revoked"})


def _identity(
    certificate: str | None, uri: str | None, spki: str | None, subject: str | None, issuer: str | None
) -> tuple[IdentityKind, str]:
    given: list[tuple[IdentityKind, str]] = []
    if certificate is not None:
        given.append(("spki", _spki_of(certificate)))
    if uri is not None:
        given.append(("uri", uri))
    if spki is not None:
        given.append(("spki", spki.lower().replace(":", "")))
    if subject is not None and issuer is not None:
        given.append(("subject", f"{issuer} {subject}"))
    if len(given) != 1 or (subject is None) != (issuer is None):
        raise UsageError(
            "one thing is needed by which the principal is known",
            hint="give --certificate, --uri, --spki, or --issuer with --subject",
        )
    return given[0]


def _spki_of(file: str) -> str:
    found = read_certificates([file])
    if not found:
        raise UsageError(f"{file} has no certificate")
    return hashlib.sha256(found[0].public_key_info).hexdigest()


def _identity_document(identity: Identity) -> dict[str, Any]:
    return {"kind": identity.kind, "value": identity.value, "added_at": iso(identity.added_at)}


def _api_key_document(record: ApiKeyRecord) -> dict[str, Any]:
    state = "revoked" if record.revoked_at else "good"
    if not record.revoked_at and record.expires_at <= datetime.now(UTC):
        state = "ended"
    return {
        "id": record.id,
        "principal": record.principal,
        "operations": list(record.operations),
        "created_at": iso(record.created_at),
        "expires_at": iso(record.expires_at),
        "state": state,
    }
