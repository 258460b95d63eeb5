"""What each principal may do: nothing but what a grant says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from tokensign.errors import ForbiddenError, RateError
from tokensign.service.rates import Rate, Rates

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tokensign.service.permissions import Grant, Permissions
    from tokensign.service.principals import Principal

__all__ = ["OPERATIONS", "Grants"]

OPERATIONS: Final = ("sign", "cms", "decrypt", "verify", "jobs", "audit")
"""What grants are about: signatures over digests, signed documents, decryptions, verifications, jobs, and
reading the audit log."""
_SIGNING: Final = frozenset({"sign", "cms", "jobs"})  # operations that have a scheme


class Grants:
    """Decides by the snapshot of the permissions, which `Principals.identify` has refreshed.

    Args:
        permissions: What the database has.
        rates: Where it is counted how much was used.
    """

    def __init__(self, permissions: Permissions, rates: Rates | None = None) -> None:
        self._permissions = permissions
        self._rates = rates or Rates()

    def check(
        self, principal: Principal, key: str | None, operation: str, scheme: str | None = None, count: int = 1
    ) -> None:
        """See that a grant allows an operation, and count it.

        Args:
            principal: Who asks.
            key: The key's id, `LANE/LABEL`; None where the operation has none, such as verify and audit.
            operation: One of `OPERATIONS`.
            scheme: The name of the signature scheme, for sign and cms.
            count: How many signatures or decryptions; 0 to see only whether a grant is there.

        Raises:
            ForbiddenError: No grant allows it, or not so much at once.
            RateError: A rate does not allow it now.
        """
        fitting = [
            one
            for one in self._grants(principal, key, operation)
            if not one.schemes
            or operation not in _SIGNING
            or (scheme is not None and _has_scheme(one, scheme))
        ]
        if not fitting:
            raise ForbiddenError(
                f"no grant lets {principal.name} {_described(operation, key, scheme)} now",
                hint="`tokensign grant add` gives one",
            )
        refused: list[RateError] = []
        for grant in fitting:
            try:
                self._rates.take(self._limits(principal, key, grant), count, 1 / self._permissions.processes)
            except RateError as error:
                refused.append(error)
            else:
                return
        raise min(refused, key=lambda error: error.retry_after)

    def allows(
        self, principal: Principal, key: str | None, operation: str, scheme: str | None = None
    ) -> bool:
        """Whether a grant allows an operation now, in a scheme or else in any; counts nothing."""
        return any(
            scheme is None or not one.schemes or _has_scheme(one, scheme)
            for one in self._grants(principal, key, operation)
        )

    def _grants(self, principal: Principal, key: str | None, operation: str) -> list[Grant]:
        if principal.operations is not None and operation not in principal.operations:
            return []
        now = datetime.now(UTC)
        return [
            one
            for one in self._permissions.snapshot.grants.get(principal.name, ())
            if operation in one.operations and _has_key(one, key) and _is_open(one, now)
        ]

    def _limits(self, principal: Principal, key: str | None, grant: Grant) -> list[tuple[Hashable, Rate]]:
        """The rates that a use of a grant counts against."""
        limits: list[tuple[Hashable, Rate]] = []
        if grant.rate is not None:
            limits.append((("grant", grant.id), grant.rate))
        known = self._permissions.snapshot.limits
        if known:
            subjects = [("principal", principal.name)]
            if key is not None:
                lane = key.partition("/")[0]
                subjects += [("key", name) for name in (key, f"{lane}/*", "*")]
            limits += [(subject, known[subject]) for subject in subjects if subject in known]
        return limits


def _has_key(grant: Grant, key: str | None) -> bool:
    if grant.key == "*":
        return True
    if key is None:
        return False
    return key == grant.key or (grant.key.endswith("/*") and key.startswith(grant.key[:-1]))


def _has_scheme(grant: Grant, scheme: str) -> bool:
    """Whether a grant names a scheme, or its family, as "rsa-pss" is that of "rsa-pss-sha256"."""
    return any(scheme == one or scheme.startswith(f"{one}-") for one in grant.schemes)


def _is_open(grant: Grant, now: datetime) -> bool:
    return (
        (grant.not_before is None or grant.not_before <= now)
        and (grant.not_after is None or now < grant.not_after)
        and (grant.hours is None or grant.hours.include(now))
    )


def _described(operation: str, key: str | None, scheme: str | None) -> str:
    parts = [f"use the operation {operation}"]
    if key is not None:
        parts.append(f"with the key {key}")
    if scheme is not None:
        parts.append(f"in the scheme {scheme}")
    return " ".join(parts)
