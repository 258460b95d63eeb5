"""Changing who is known and what they may do. Each change is in the audit log, in its own transaction."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert, select, update

from tokensign.algorithms import SCHEMES
from tokensign.errors import UsageError
from tokensign.service.grants import OPERATIONS
from tokensign.service.hours import Hours
from tokensign.service.permission_changes import changing
from tokensign.service.rates import Rate
from tokensign.store.service_tables import GRANTS, RATE_LIMITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.store import Store

__all__ = [
    "GrantRecord",
    "GrantTerms",
    "add_grant",
    "list_grants",
    "list_limits",
    "require_operations",
    "require_principal",
    "revoke_grant",
    "set_limit",
]

_KEY: Final = re.compile(r"\*|[A-Za-z0-9._=~-]{1,120}/(?:\*|[A-Za-z0-9._=~-]{1,120})")
_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._:/-]{0,254}")
_NO_KEY: Final = frozenset({"verify", "audit"})  # operations that are not about one key


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantTerms:
    """What a grant allows.

    Attributes:
        key: The key's id, `LANE/*` for all of a lane, or `*` for all.
        operations: At least one of `tokensign.service.grants.OPERATIONS`.
        schemes: Names of schemes, or of their families; none: all.
        rate: Such as "600/m", or None.
        not_before: From when on, or None.
        not_after: Until when, or None.
        hours: Such as "mon-fri 08:00-18:00", in UTC, or None.
    """

    key: str
    operations: Sequence[str]
    schemes: Sequence[str] = ()
    rate: str | None = None
    not_before: datetime | None = None
    not_after: datetime | None = None
    hours: str | None = None

    def require_meaning(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            UsageError: Something is not known or contradicts.
        """
        require_operations(self.operations)
        if not self.operations:
            raise UsageError("a grant needs an operation", hint=f"operations are: {', '.join(OPERATIONS)}")
        _require_key(self.key)
        if self.key != "*" and _NO_KEY.intersection(self.operations):
            raise UsageError(
                "verify and audit are about no key", hint="grant them by themselves, for the key *"
            )
        for scheme in self.schemes:
            if not any(name == scheme or name.startswith(f"{scheme}-") for name in SCHEMES):
                raise UsageError(f"no scheme is called {scheme}", hint=f"schemes are: {', '.join(SCHEMES)}")
        if self.rate is not None:
            Rate.parse(self.rate)
        if self.hours is not None:
            Hours.parse(self.hours)
        if self.not_before is not None and self.not_after is not None and self.not_before >= self.not_after:
            raise UsageError("the grant would end before it begins")


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """A grant, as the database has it.

    Attributes:
        id: Its number.
        principal: To whom.
        terms: What it allows.
        granted_at: When it was given.
        revoked_at: When it was revoked, or None.
    """

    id: int
    principal: str
    terms: GrantTerms
    granted_at: datetime
    revoked_at: datetime | None


def add_grant(store: Store, principal: str, terms: GrantTerms) -> int:
    """Let a principal do something.

    Returns:
        The number of the grant.

    Raises:
        UsageError: The terms cannot be meant.
        FileError: The database fails.
    """
    require_principal(principal)
    terms.require_meaning()
    with changing(store, "grant added", {"principal": principal} | _document(terms)) as (connection, details):
        row = {
            "principal": principal,
            "key": terms.key,
            "operations": " ".join(sorted(set(terms.operations))),
            "schemes": " ".join(sorted(set(terms.schemes))),
            "rate": terms.rate,
            "not_before": terms.not_before,
            "not_after": terms.not_after,
            "hours": terms.hours,
            "granted_at": datetime.now(UTC),
        }
        number: int = connection.execute(insert(GRANTS).returning(GRANTS.c.id), row).scalar_one()
        details["grant"] = number
    return number


def revoke_grant(store: Store, number: int) -> GrantRecord:
    """Take a grant back.

    Raises:
        UsageError: There is none with that number that holds.
        FileError: The database fails.
    """
    with changing(store, "grant revoked", {"grant": number}) as (connection, details):
        row = connection.execute(
            update(GRANTS)
            .where(GRANTS.c.id == number, GRANTS.c.revoked_at.is_(None))
            .values(revoked_at=datetime.now(UTC))
            .returning(GRANTS)
        ).one_or_none()
        if row is None:
            raise UsageError(
                f"no grant {number} holds that could be revoked", hint="`tokensign grant list` shows grants"
            )
        details["principal"] = row.principal
    return _record(row)


def list_grants(store: Store, principal: str | None = None, *, revoked: bool = False) -> list[GrantRecord]:
    """The grants, the oldest first.

    Args:
        store: The database.
        principal: Of whom; None: of all.
        revoked: Those that were revoked too.

    Raises:
        FileError: The database fails.
    """
    chosen = select(GRANTS).order_by(GRANTS.c.id)
    if principal is not None:
        chosen = chosen.where(GRANTS.c.principal == principal)
    if not revoked:
        chosen = chosen.where(GRANTS.c.revoked_at.is_(None))
    with store.reading() as connection:
        return [_record(row) for row in connection.execute(chosen)]


def set_limit(store: Store, kind: str, name: str, rate: str | None) -> None:
    """Limit all uses by a principal, or of a key.

    Args:
        store: The database.
        kind: "principal" or "key".
        name: Which.
        rate: Such as "600/m"; None: no limit.

    Raises:
        UsageError: It is no rate, or no name.
        FileError: The database fails.
    """
    (_require_key if kind == "key" else require_principal)(name)
    if rate is not None:
        Rate.parse(rate)
    with changing(store, "limit set", {kind: name, "rate": rate}) as (connection, _):
        this = (RATE_LIMITS.c.kind == kind) & (RATE_LIMITS.c.name == name)
        connection.execute(RATE_LIMITS.delete().where(this))
        if rate is not None:
            connection.execute(insert(RATE_LIMITS).values(kind=kind, name=name, rate=rate))


def list_limits(store: Store) -> list[tuple[str, str, str]]:
    """Kind, name and rate of each limit.

    Raises:
        FileError: The database fails.
    """
    with store.reading() as connection:
        rows = connection.execute(select(RATE_LIMITS).order_by(RATE_LIMITS.c.kind, RATE_LIMITS.c.name))
        return [(row.kind, row.name, row.rate) for row in rows]


def require_operations(operations: Sequence[str]) -> None:
    """Refuse operations that are not known.

    Raises:
        UsageError: One is not.
    """
    for operation in operations:
        if operation not in OPERATIONS:
            raise UsageError(
                f"no operation is called {operation}", hint=f"operations are: {', '.join(OPERATIONS)}"
            )


def require_principal(name: str) -> None:
    """Refuse what cannot be the name of a principal.

    Raises:
        UsageError: It is none.
    """
    if not _PRINCIPAL.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a principal",
            hint="use letters, digits and @._:/- (at most 255), such as alice@acme.example",
        )


def _require_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise UsageError(f"{key!r} names no key", hint="write LANE/LABEL as GET /v1/keys has it, LANE/* or *")


def _document(terms: GrantTerms) -> dict[str, Any]:
    return {
        "key": terms.key,
        "operations": sorted(set(terms.operations)),
        "schemes": sorted(set(terms.schemes)),
        "rate": terms.rate,
        "not_before": None if terms.not_before is None else terms.not_before.isoformat(),
        "not_after": None if terms.not_after is None else terms.not_after.isoformat(),
        "hours": terms.hours,
    }


def _record(row: Any) -> GrantRecord:  # noqa: ANN401 - a row of GRANTS
    terms = GrantTerms(
        key=row.key,
        operations=row.operations.split(),
        schemes=row.schemes.split(),
        rate=row.rate,
        not_before=row.not_before,
        not_after=row.not_after,
        hours=row.hours,
    )
    return GrantRecord(row.id, row.principal, terms, row.granted_at, row.revoked_at)
