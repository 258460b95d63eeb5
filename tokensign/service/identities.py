"""By what principals are known: URIs and keys of certificates, subjects of tokens, API keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from sqlalchemy import delete, insert, select, update

from tokensign.errors import UsageError
from tokensign.service.api_keys import new_api_key, secret_hash
from tokensign.service.granting import require_operations, require_principal
from tokensign.service.permission_changes import changing
from tokensign.store.service_tables import API_KEYS, IDENTITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.store import Store

__all__ = [
    "API_KEY_DAYS_MAXIMUM",
    "ApiKeyRecord",
    "Identity",
    "IdentityKind",
    "add_identity",
    "create_api_key",
    "list_api_keys",
    "list_identities",
    "remove_identity",
    "revoke_api_key",
]

API_KEY_DAYS_MAXIMUM: Final = 398
"""As long as a certificate of a server may last: whoever cannot renew within that will not in ten years."""

IdentityKind = Literal["uri", "spki", "subject"]
_FORMS: Final = {
    "uri": (
        re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21-\x7e]{1,2000}"),
        "a URI such as spiffe://acme.example/alice",
    ),
    "spki": (re.compile(r"[0-9a-f]{64}"), "SHA-256 of a SubjectPublicKeyInfo: 64 hexadecimal digits"),
    "subject": (
        re.compile(r"[\x21-\x7e]{1,1000} [^\x00-\x1f\x7f]{1,255}"),
        "the issuer and the subject of a token, with a blank between them",
    ),
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Something by which a principal is known.

    Attributes:
        kind: "uri" in subjectAltName, "spki" of a certificate, or "subject" of a token.
        value: Such as a URI, 64 hexadecimal digits, or issuer and subject with a blank between them.
        principal: Who.
        added_at: When that was told.
    """

    kind: IdentityKind
    value: str
    principal: str
    added_at: datetime


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """An API key, without its secret.

    Attributes:
        id: What stands in it before the secret.
        principal: Whose it is.
        operations: To which it is limited; empty: to none.
        created_at: When it was made.
        expires_at: When it ends.
        revoked_at: When it was revoked, or None.
    """

    id: str
    principal: str
    operations: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


def add_identity(store: Store, principal: str, kind: IdentityKind, value: str) -> None:
    """Tell by what a principal is known.

    Raises:
        UsageError: Somebody is known by that already, or it has another form.
        FileError: The database fails.
    """
    require_principal(principal)
    form, described = _FORMS[kind]
    if not form.fullmatch(value):
        raise UsageError(f"{value!r} is not {described}")
    details = {"principal": principal, "identity": kind, "value": value}
    with changing(store, "identity added", details) as (connection, _):
        known = select(IDENTITIES.c.principal).where(IDENTITIES.c.kind == kind, IDENTITIES.c.value == value)
        other = connection.execute(known).scalar_one_or_none()
        if other is not None:
            raise UsageError(f"{other} is known by the {kind} {value} already")
        row = {"kind": kind, "value": value, "principal": principal, "added_at": datetime.now(UTC)}
        connection.execute(insert(IDENTITIES), row)


def remove_identity(store: Store, kind: IdentityKind, value: str) -> str:
    """Let nobody be known by something any more.

    Returns:
        Who was.

    Raises:
        UsageError: Nobody was.
        FileError: The database fails.
    """
    with changing(store, "identity removed", {"identity": kind, "value": value}) as (connection, details):
        this = (IDENTITIES.c.kind == kind) & (IDENTITIES.c.value == value)
        principal = connection.execute(
            delete(IDENTITIES).where(this).returning(IDENTITIES.c.principal)
        ).scalar_one_or_none()
        if principal is None:
            raise UsageError(f"nobody is known by the {kind} {value}")
        details["principal"] = principal
    return str(principal)


def list_identities(store: Store, principal: str | None = None) -> list[Identity]:
    """By what a principal is known, or all of them.

    Raises:
        FileError: The database fails.
    """
    columns = IDENTITIES.c
    chosen = select(columns.kind, columns.value, columns.principal, columns.added_at)
    if principal is not None:
        chosen = chosen.where(columns.principal == principal)
    with store.reading() as connection:
        found = connection.execute(chosen.order_by(columns.principal, columns.kind, columns.value))
        return [Identity(*row) for row in found]


def create_api_key(
    store: Store, principal: str, *, days: int, operations: Sequence[str] = ()
) -> tuple[str, ApiKeyRecord]:
    """Make an API key.

    Args:
        store: The database.
        principal: Whose it is.
        days: How long it lasts, at most `API_KEY_DAYS_MAXIMUM`.
        operations: To which it is limited; none: to all that the principal may do.

    Returns:
        The whole key, which cannot be had again; and what is kept of it.

    Raises:
        UsageError: An argument cannot be meant.
        FileError: The database fails.
    """
    require_principal(principal)
    require_operations(operations)
    if not 1 <= days <= API_KEY_DAYS_MAXIMUM:
        raise UsageError(f"an API key lasts 1 to {API_KEY_DAYS_MAXIMUM} days")
    now = datetime.now(UTC)
    whole, name, secret = new_api_key()
    record = ApiKeyRecord(
        name, principal, tuple(sorted(set(operations))), now, now + timedelta(days=days), None
    )
    details = {
        "principal": principal,
        "api_key": name,
        "operations": list(record.operations),
        "expires_at": record.expires_at.isoformat(),
    }
    with changing(store, "API key made", details) as (connection, _):
        row = {
            "id": name,
            "principal": principal,
            "sha256": secret_hash(secret),
            "operations": " ".join(record.operations),
            "created_at": now,
            "expires_at": record.expires_at,
        }
        connection.execute(insert(API_KEYS), row)
    return whole, record


def revoke_api_key(store: Store, name: str) -> None:
    """End an API key.

    Args:
        store: The database.
        name: Its id.

    Raises:
        UsageError: There is none that could be revoked.
        FileError: The database fails.
    """
    with changing(store, "API key revoked", {"api_key": name}) as (connection, details):
        principal = connection.execute(
            update(API_KEYS)
            .where(API_KEYS.c.id == name, API_KEYS.c.revoked_at.is_(None))
            .values(revoked_at=datetime.now(UTC))
            .returning(API_KEYS.c.principal)
        ).scalar_one_or_none()
        if principal is None:
            raise UsageError(
                f"no API key {name} is there that could be revoked", hint="`tokensign grant show` lists them"
            )
        details["principal"] = principal


def list_api_keys(store: Store, principal: str | None = None) -> list[ApiKeyRecord]:
    """The API keys of a principal, or all, also those that have ended.

    Raises:
        FileError: The database fails.
    """
    columns = API_KEYS.c
    chosen = select(API_KEYS).order_by(columns.principal, columns.created_at)
    if principal is not None:
        chosen = chosen.where(columns.principal == principal)
    with store.reading() as connection:
        return [
            ApiKeyRecord(
                row.id,
                row.principal,
                tuple(row.operations.split()),
                row.created_at,
                row.expires_at,
                row.revoked_at,
            )
            for row in connection.execute(chosen)
        ]
