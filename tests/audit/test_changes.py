"""Changes in the audit log: with what they tell of, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tokensign.audit.changes import changes, record_change, this_person
from tokensign.audit.verifying import verify_store
from tokensign.errors import UsageError
from tokensign.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    """A database with three changes in its log."""
    with Store(place) as store:
        for number in range(3):
            with store.writing() as connection:
                record_change(connection, "tried", {"number": number, "name": "Zoë\n"}, actor="Alice")
        yield store


def test_changes_come_back_as_they_were_recorded(store: Store) -> None:
    found = list(changes(store))
    assert [(one.number, one.actor, one.action, dict(one.details)) for one in found] == [
        (number, "Alice", "tried", {"number": number, "name": "Zoë\n"}) for number in range(3)
    ]
    assert all(datetime.now(UTC) - one.at < timedelta(minutes=1) for one in found)
    assert verify_store(store).size == 3


def test_who_did_it_is_the_account_where_nobody_else_is_named(store: Store) -> None:
    with store.writing() as connection:
        record_change(connection, "tried", {})
    assert list(changes(store))[-1].actor == this_person()


def test_a_transaction_that_fails_leaves_no_entry(store: Store) -> None:
    def fail() -> None:
        with store.writing() as connection:
            record_change(connection, "tried", {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert verify_store(store).size == 3


def test_what_cannot_be_recorded_undoes_the_transaction(store: Store) -> None:
    with pytest.raises(UsageError), store.writing() as connection:
        record_change(connection, "tried", {"share": 0.5})
    assert verify_store(store).size == 3
