"""The audit log: whatever is changed in it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, update

from tokensign.authority import audit_entries, record, verify_audit_log
from tokensign.errors import MalformedError
from tokensign.store import Store
from tokensign.store.tables import AUDIT_LOG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Delete, Update


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    """A database with three entries in its log."""
    with Store(place) as store:
        for number in range(3):
            with store.writing() as connection:
                record(connection, "tried", {"number": number, "name": "Zoë\n"}, actor="Alice")
        yield store


def test_entries_come_back_as_they_were_written(store: Store) -> None:
    entries = list(audit_entries(store))
    assert [(one.number, one.actor, one.action, dict(one.details)) for one in entries] == [
        (number + 1, "Alice", "tried", {"number": number, "name": "Zoë\n"}) for number in range(3)
    ]
    assert verify_audit_log(store) == entries[-1].hash


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (update(AUDIT_LOG).where(AUDIT_LOG.c.number == 2).values(actor="Bob"), 2),
        (update(AUDIT_LOG).where(AUDIT_LOG.c.number == 3).values(details="{}"), 3),
        (update(AUDIT_LOG).where(AUDIT_LOG.c.number == 1).values(hash=bytes(32)), 1),
        (delete(AUDIT_LOG).where(AUDIT_LOG.c.number == 2), 2),
        (delete(AUDIT_LOG).where(AUDIT_LOG.c.number == 1), 1),
    ],
)
def test_what_is_changed_or_taken_out_shows(store: Store, change: Update | Delete, number: int) -> None:
    with store.writing() as connection:
        connection.execute(change)
    with pytest.raises(MalformedError, match=f"entry {number} of the audit log was changed or taken out"):
        verify_audit_log(store)


def test_a_transaction_that_fails_leaves_no_entry(store: Store) -> None:
    def fail() -> None:
        with store.writing() as connection:
            record(connection, "tried", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert len(list(audit_entries(store))) == 3
