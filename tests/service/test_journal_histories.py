"""Any history of two processes of the service leaves a log in which everything is told once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from databases import write_empty_database
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from journals import REQUEST, outcomes
from sqlalchemy import delete

from tokensign.audit.verifying import verify_store
from tokensign.errors import ConflictError
from tokensign.service.journal_entries import Begun, Intent, Outcome, Replay, outcome_leaf
from tokensign.service.journal_records import JournalRecords
from tokensign.store import Store
from tokensign.store.service_tables import SERVICE_PROCESSES

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES = (0, 1)
KEYS = (None, "key-1", "key-2")


class Histories(RuleBasedStateMachine):
    """Requests begin and finish in two processes, each of which may be taken for dead at any time."""

    folder: Path
    count = itertools.count()

    running = Bundle("running")

    @initialize()
    def open(self) -> None:
        self.store = Store(write_empty_database(self.folder / f"{next(self.count)}.sqlite"))
        self.processes = [JournalRecords(self.store) for _ in PROCESSES]
        self.open_keys: dict[str, int] = {}  # key: the operation that has it
        self.answers: dict[str, bytes] = {}
        self.released: dict[int, bytes] = {}
        for one in self.processes:
            one.keep_up()

    @rule(target=running, process=st.sampled_from(PROCESSES), key=st.sampled_from(KEYS))
    def begin(self, process: int, key: str | None) -> Any:  # noqa: ANN401 - a Begun and where it runs
        ((result,), _) = self.processes[process].record(
            [Intent("alice", key, REQUEST, b'{"kind":"intent"}')], []
        )
        if key in self.answers:
            assert result == Replay(200, self.answers[key])
        elif isinstance(result, ConflictError):
            assert key in self.open_keys
        else:
            assert isinstance(result, Begun)
            assert key is None or key not in self.open_keys
            if key is not None:
                self.open_keys[key] = result.id
        return process, key, result

    @rule(one=consumes(running), kept=st.booleans())
    def finish(self, one: Any, *, kept: bool) -> None:  # noqa: ANN401 - as above
        process, key, begun = one
        if not isinstance(begun, Begun):
            return
        answer = b"%d" % begun.id if kept else None
        outcome = Outcome(begun, outcome_leaf(begun.id, {"kept": kept}), 200, answer)
        (_, (error,)) = self.processes[process].record([], [outcome])
        if error is None:
            assert begun.id not in self.released
            self.released[begun.id] = b""
            if key is not None:
                assert self.open_keys.pop(key) == begun.id
                if answer is not None:
                    self.answers[key] = answer

    @rule(process=st.sampled_from(PROCESSES))
    def keep_up(self, process: int) -> None:
        self.processes[process].keep_up()
        resolved = {intent for intent, outcome in outcomes(self.store) if outcome.get("result") == "unknown"}
        self.open_keys = {key: number for key, number in self.open_keys.items() if number not in resolved}

    @rule(resolver=st.sampled_from((*PROCESSES, None)))
    def lose_all_leases(self, resolver: int | None) -> None:
        with self.store.writing() as connection:
            connection.execute(delete(SERVICE_PROCESSES))
        if resolver is not None:
            self.keep_up(resolver)

    @invariant()
    def is_whole(self) -> None:
        verify_store(self.store)  # each outcome belongs to an intent that had none
        told = {intent for intent, outcome in outcomes(self.store) if "kept" in outcome}
        assert told == set(self.released)

    def teardown(self) -> None:
        for one in self.processes:
            one.keep_up()
        self.processes[0].close()
        self.processes[1].close()
        JournalRecords(self.store).keep_up()
        assert verify_store(self.store).unfinished == ()
        self.store.close()


def test_histories(tmp_path: Path) -> None:
    Histories.folder = tmp_path
    machine = Histories.TestCase
    machine.settings = settings(
        max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine().runTest()
