"""The journal: what is on record when, and what an Idempotency-Key does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from journals import ALICE, BOB, OTHER_REQUEST, REQUEST, begin, entries, outcomes, rows, running, until
from sqlalchemy import Engine, event, update

from tokensign.audit.verifying import verify_store
from tokensign.errors import ConflictError, FileError, MismatchError, UsageError
from tokensign.service.journal import ANSWER_SIZE_MAXIMUM, Begun, Journal, Replay
from tokensign.service.journal_records import REMEMBERED
from tokensign.store import Store
from tokensign.store.service_tables import OPERATIONS

pytestmark = pytest.mark.anyio


async def test_intent_and_outcome_are_on_record_when_the_calls_return(place: str) -> None:
    with Store(place) as store:
        async with running(store) as journal:
            begun = await begin(journal)
            (intent,) = entries(store)
            assert intent.pop("at").endswith("Z")
            assert intent == {
                "kind": "intent",
                "principal": {"name": "alice", "kind": "certificate"},
                "operation": "sign",
                "key": "acme/alice",
                "idempotency_key": None,
                "intent": {"digests": ["00"]},
            }
            await journal.finish(begun, {"result": "done"})
            assert outcomes(store) == [(begun.id, {"result": "done"})]
            assert rows(store) == 0
        assert verify_store(store).unfinished == ()


async def test_many_requests_share_transactions(place: str) -> None:
    commits = []

    def count(_: object) -> None:
        commits.append(1)

    with Store(place) as store:
        async with running(store) as journal:
            event.listen(Engine, "commit", count)
            try:
                begun = await asyncio.gather(*(begin(journal) for _ in range(300)))
                await asyncio.gather(*(journal.finish(one, {"number": one.id}) for one in begun))
            finally:
                event.remove(Engine, "commit", count)
        assert len(commits) < 20
        assert sorted(outcomes(store)) == [(one.id, {"number": one.id}) for one in begun]
        assert verify_store(store).size == 600


async def test_the_same_request_gets_the_same_answer(place: str) -> None:
    with Store(place) as store:
        async with running(store) as journal:
            begun = await begin(journal, "key-1")
            await journal.finish(begun, {}, b"signature", 201)
            for principal in (ALICE, BOB):  # each has keys of its own
                again = await journal.begin(principal, "sign", "acme/alice", {}, "key-1", REQUEST)
                assert isinstance(again, Replay) == (principal is ALICE)
                if principal is ALICE:
                    assert again == Replay(201, b"signature")
                else:
                    assert isinstance(again, Begun)
                    await journal.finish(again, {})
        async with running(store) as journal:
            assert await journal.begin(ALICE, "sign", "acme/alice", {}, "key-1", REQUEST) == Replay(
                201, b"signature"
            )
        assert len(entries(store)) == 4


async def test_a_key_with_another_request_or_one_that_runs_is_refused(place: str) -> None:
    with Store(place) as store:
        async with running(store) as journal:
            begun = await begin(journal, "key-1")
            with pytest.raises(ConflictError):
                await begin(journal, "key-1")
            with pytest.raises(MismatchError):
                await begin(journal, "key-1", OTHER_REQUEST)
            await journal.finish(begun, {}, b"signature")
            with pytest.raises(MismatchError):
                await begin(journal, "key-1", OTHER_REQUEST)
        assert len(entries(store)) == 2


async def test_of_requests_with_one_key_that_come_together_one_is_run(place: str) -> None:
    with Store(place) as store:
        async with running(store) as journal:
            results = await asyncio.gather(
                *(begin(journal, "key-1") for _ in range(10)), return_exceptions=True
            )
            (begun,) = [one for one in results if isinstance(one, Begun)]
            assert [type(one) for one in results if one is not begun] == [ConflictError] * 9
            await journal.finish(begun, {}, b"signature")


async def test_a_request_that_failed_may_be_run_again(place: str) -> None:
    with Store(place) as store:
        async with running(store) as journal:
            first = await begin(journal, "key-1")
            await journal.finish(first, {"result": "lane down"})
            second = await begin(journal, "key-1")
            with pytest.raises(MismatchError):
                await begin(journal, "key-1", OTHER_REQUEST)
            await journal.finish(second, {"result": "done"}, b"signature")
            assert await journal.begin(ALICE, "sign", "acme/alice", {}, "key-1", REQUEST) == Replay(
                200, b"signature"
            )
        assert outcomes(store) == [(first.id, {"result": "lane down"}), (second.id, {"result": "done"})]


async def test_an_answer_that_is_too_large_is_not_kept(store: Store) -> None:
    async with running(store) as journal:
        begun = await begin(journal, "key-1")
        await journal.finish(begun, {}, bytes(ANSWER_SIZE_MAXIMUM + 1))
        await journal.finish(await begin(journal, "key-1"), {})


async def test_answers_are_forgotten_after_a_day(store: Store) -> None:
    async with running(store, lease_seconds=0.3) as journal:
        for key in ("key-1", "key-2"):
            await journal.finish(await begin(journal, key), {}, b"signature")
        with store.writing() as connection:
            old = datetime.now(UTC) - REMEMBERED - timedelta(seconds=1)
            connection.execute(update(OPERATIONS).values(begun_at=old))
        await begin(journal, "key-1", OTHER_REQUEST)  # whether the row is still there or not
        await until(lambda: rows(store) == 1)
        assert rows(store) == 1


async def test_processes_share_one_log_and_one_set_of_keys(place: str) -> None:
    async def use(journal: Journal, name: int) -> list[type]:
        for number in range(20):
            await journal.finish(await begin(journal, f"{name}-{number}"), {"result": "done"}, b"signature")
        try:
            await begin(journal, "shared")
        except ConflictError:
            return [ConflictError]
        return []

    with Store(place) as first, Store(place) as second:
        async with running(first) as one, running(second) as other:
            shared = await asyncio.gather(*(use(journal, name) for name, journal in enumerate([one, other])))
            assert [*shared[0], *shared[1]] == [ConflictError]
            assert await other.begin(ALICE, "sign", "acme/alice", {}, "0-7", REQUEST) == Replay(
                200, b"signature"
            )
        assert len(entries(first)) == 81
        verify_store(first)


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "Zoë", "a\n"])
async def test_what_is_no_idempotency_key_is_refused(store: Store, key: str) -> None:
    async with running(store) as journal:
        with pytest.raises(UsageError, match="Idempotency-Key"):
            await begin(journal, key)
    assert entries(store) == []


async def test_a_caller_that_goes_away_leaves_an_outcome(store: Store) -> None:
    async with running(store) as journal:
        task = asyncio.create_task(begin(journal, "key-1"))
        await asyncio.sleep(0)  # it waits for its record
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        other = await begin(journal)
        journal.abandon(other, "not finished")
    assert dict(outcomes(store)) == {
        0: {"result": "abandoned", "reason": "request cancelled"},
        other.id: {"result": "abandoned", "reason": "not finished"},
    }


async def test_an_operation_is_finished_once(store: Store) -> None:
    async with running(store) as journal:
        begun = await begin(journal)
        await journal.finish(begun, {})
        with pytest.raises(FileError, match="before this outcome was recorded"):
            await journal.finish(begun, {})
    assert len(outcomes(store)) == 1


async def test_of_two_outcomes_the_first_counts(store: Store) -> None:
    async with running(store) as journal:
        begun = await begin(journal)
        task = asyncio.create_task(journal.finish(begun, {"result": "done"}))
        await asyncio.sleep(0)  # it waits for its record
        task.cancel()
        journal.abandon(begun, "not finished")
        with pytest.raises(asyncio.CancelledError):
            await task
    assert outcomes(store) == [(begun.id, {"result": "done"})]
    assert verify_store(store).unfinished == ()


async def test_nothing_begins_after_the_stop(store: Store) -> None:
    async with running(store) as journal:
        pass
    with pytest.raises(FileError, match="stops"):
        await begin(journal)
