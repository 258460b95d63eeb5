"""The journal when something dies or fills up: nothing is lost, and nothing goes on unrecorded."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from journals import ALICE, REQUEST, begin, full_disk, outcomes, running, until
from postgresql import controlled_postgresql

from tokensign.audit.verifying import verify_store
from tokensign.errors import ConflictError, FileError
from tokensign.service.journal import Begun
from tokensign.service.journal_entries import Intent, Outcome, outcome_leaf
from tokensign.service.journal_records import JournalRecords
from tokensign.store import Store
from tokensign.store.audit_tables import AUDIT_END

pytestmark = pytest.mark.anyio

LEASE = 0.6  # seconds

DYING = """
import asyncio, sys
from tokensign.service.journal import Journal
from tokensign.service.principals import Principal
from tokensign.store import Store
from tokensign.store.audit_tables import AUDIT_END

async def main():
    journal = Journal(Store(sys.argv[1]), lease_seconds=float(sys.argv[2]))
    await journal.start()
    for key in ("key-1", None):
        await journal.begin(Principal("alice", "certificate"), "sign", "acme/alice", {}, key, bytes(32))
    print("begun", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def kill_after_begin(place: str) -> None:
    """A process of the service that is killed between the intents of two operations and their outcomes."""
    with subprocess.Popen(
        [sys.executable, "-c", DYING, place, str(LEASE)], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
        finally:
            process.send_signal(signal.SIGKILL)


async def test_what_a_killed_process_had_begun_is_resolved(place: str) -> None:
    await asyncio.to_thread(kill_after_begin, place)
    with Store(place) as store:
        async with running(store, lease_seconds=LEASE) as journal:
            assert verify_store(store).unfinished in {(0, 1), ()}
            await asyncio.to_thread(await_whole, store)
            unknown = {"result": "unknown", "reason": "process died"}
            assert outcomes(store) == [(0, unknown), (1, unknown)]
            again = await begin(journal, "key-1")  # neither lost nor done twice: nothing had left
            await journal.finish(again, {"result": "done"}, b"signature")
        assert verify_store(store).unfinished == ()


async def test_what_was_begun_cannot_be_begun_again_before_it_is_resolved(store: Store) -> None:
    await asyncio.to_thread(kill_after_begin, store.place)
    async with running(store) as journal:
        if verify_store(store).unfinished:  # else the machine was slow, and the lease has ended
            with pytest.raises(ConflictError):
                await begin(journal, "key-1")


def test_a_process_that_slept_finishes_nothing_of_before(place: str) -> None:
    with Store(place) as store:
        sleeper, other = JournalRecords(store, lease_seconds=0.01), JournalRecords(store)
        sleeper.keep_up()
        ((begun,), _) = sleeper.record([intent("key-1")], [])
        assert isinstance(begun, Begun)
        time.sleep(0.02)
        other.keep_up()
        assert outcomes(store) == [(begun.id, {"result": "unknown", "reason": "process died"})]
        ((second,), (late,)) = sleeper.record([intent("key-2")], [outcome(begun, b"signature")])
        assert isinstance(late, FileError)
        assert isinstance(second, Begun)  # and it goes on with what comes now
        assert sleeper.record([], [outcome(second, b"signature")]) == ([], [None])
        ((third,), _) = sleeper.record([intent("key-1")], [])
        assert isinstance(third, Begun)
        sleeper.close()
        other.keep_up()
        assert verify_store(store).unfinished == ()


async def test_a_full_disk_lets_nothing_go_on(store: Store) -> None:
    async with running(store, lease_seconds=LEASE) as journal:
        begun = [await begin(journal, f"key-{number}") for number in range(3)]
        with full_disk(store):
            with pytest.raises(FileError):
                await begin(journal, "key-3")
            for one in begun[:2]:
                with pytest.raises(FileError):
                    await journal.finish(one, {"result": "done"}, b"signature")
            assert outcomes(store) == []
        await journal.finish(begun[2], {"result": "done"}, b"signature")  # there is room again
        await until(lambda: len(outcomes(store)) == len(begun))
        unknown = {"result": "unknown", "reason": "could not be recorded"}
        assert dict(outcomes(store)) == {
            begun[0].id: unknown,
            begun[1].id: unknown,
            begun[2].id: {"result": "done"},
        }
        await journal.finish(await begin(journal, "key-0"), {})
    assert verify_store(store).unfinished == ()


async def test_nobody_waits_for_ever_for_a_database_that_is_held(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(store) as journal:
        with monkeypatch.context() as patch, store.writing():  # as a process that hangs in its transaction
            patch.setattr("tokensign.service.journal.RECORD_SECONDS", 0.3)
            waiting = [asyncio.ensure_future(begin(journal)) for _ in range(3)]
            await asyncio.sleep(0.15)
            waiting += [asyncio.ensure_future(begin(journal)) for _ in range(3)]
            done, pending = await asyncio.wait(waiting, timeout=30)
            assert not pending
            assert all("for 0.3 seconds" in str(one.exception()) for one in done)
        assert await begin(journal)
        await until(lambda: len(outcomes(store)) == len(waiting))
    assert len(outcomes(store)) == len(waiting), "what was recorded after all is given up on record"


async def test_a_damaged_tree_is_not_appended_to(store: Store) -> None:
    async with running(store) as journal:
        await journal.finish(await begin(journal), {})
        with store.writing() as connection:
            connection.execute(AUDIT_END.update().values(frontier=b"damaged"))
        with pytest.raises(FileError, match="the frontier of the audit tree is cut off"):
            await begin(journal)


async def test_a_database_that_is_stopped_and_started_is_used_again() -> None:
    with controlled_postgresql() as server, Store(server.url) as store:
        async with running(store, lease_seconds=2 * LEASE) as journal:
            before = await begin(journal, "key-1")
            await asyncio.to_thread(server.stop)
            with pytest.raises(FileError):
                await begin(journal, "key-2")
            with pytest.raises(FileError):
                await journal.finish(before, {"result": "done"}, b"signature")
            await asyncio.to_thread(server.start)
            await journal.finish(await begin(journal, "key-2"), {"result": "done"})
            await asyncio.to_thread(await_whole, store)
            await journal.finish(await begin(journal, "key-1"), {"result": "done"})


def await_whole(store: Store) -> None:
    """Wait until each intent has its outcome."""
    deadline = time.monotonic() + 20 * LEASE
    while verify_store(store).unfinished:
        assert time.monotonic() < deadline
        time.sleep(LEASE / 4)


def intent(key: str) -> Intent:
    return Intent(ALICE.name, key, REQUEST, b'{"kind":"intent"}')


def outcome(begun: Any, answer: bytes) -> Outcome:  # noqa: ANN401 - a Begun
    return Outcome(begun, outcome_leaf(begun.id, {}), 200, answer)
