"""What the journal is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokensign.audit.leaves import encode_leaf, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Begun", "IdempotencyKey", "Intent", "Outcome", "Replay", "outcome_leaf"]

IdempotencyKey = tuple[str, str]
"""A principal, and the key that it chose."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An operation whose intent is on record.

    Attributes:
        id: The number of its intent in the audit log.
    """

    id: int


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that an earlier request with the same Idempotency-Key had.

    Attributes:
        status: Its HTTP status.
        body: Its octets.
    """

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Intent:
    """What is going to be done.

    Attributes:
        principal: Who asked for it.
        idempotency_key: What the request has, or None.
        body_hash: What that is bound to, 32 octets.
        leaf: For the audit tree.
    """

    principal: str
    idempotency_key: str | None
    body_hash: bytes
    leaf: bytes

    @property
    def reservation(self) -> IdempotencyKey | None:
        """What no other operation may have."""
        return None if self.idempotency_key is None else (self.principal, self.idempotency_key)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an operation.

    Attributes:
        begun: The operation.
        leaf: For the audit tree.
        status: The HTTP status of the answer.
        answer: What to remember for the Idempotency-Key; None: the same request may be run again.
    """

    begun: Begun
    leaf: bytes
    status: int
    answer: bytes | None


def outcome_leaf(intent: int, outcome: Mapping[str, Any]) -> bytes:
    """The leaf of an outcome.

    Raises:
        UsageError: JSON has no such values.
    """
    return encode_leaf({"kind": "outcome", "at": timestamp(), "intent": intent, "outcome": dict(outcome)})
