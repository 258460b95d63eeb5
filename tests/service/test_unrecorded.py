"""What cannot be recorded is not signed, and what was signed is not released before it is on record."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from journals import entries, full_disk, outcomes
from service_place import ServicePlace, running_service

from tokensign.audit.verifying import verify_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lane_places import TokenPlace
    from service_place import RunningService

    from tokensign.store import Store


def test_a_full_disk_under_the_audit_log_closes_the_service_as_long_as_it_lasts(
    token_place: TokenPlace, tmp_path: Path
) -> None:
    place = ServicePlace(tmp_path, token_place)
    place.grant("alice", "*", "sign")
    with running_service(place) as service:
        store = service.context.store
        assert service.sign("ec:p256").status == 200
        before = len(entries(store))
        with full_disk(store):
            answer = service.sign("ec:p256")
            assert (answer.status, answer.problem) == (503, "unrecorded")
            assert answer.headers["retry-after"] is not None
            assert service.ask("GET", "/livez", who=None).status == 200
        assert len(entries(store)) == before
        assert service.sign("ec:p256").status == 200
        assert verify_store(store).unfinished == ()


def test_a_signature_waits_for_the_record_of_its_outcome(token_place: TokenPlace, tmp_path: Path) -> None:
    place = ServicePlace(tmp_path, token_place)
    place.grant("alice", "*", "sign")
    statuses: list[int] = []
    with running_service(place) as service:
        store = service.context.store
        begun = len(entries(store)) + 1
        thread = threading.Thread(target=lambda: statuses.append(service.sign("ec:p256").status))
        with stopped_lane(service):
            thread.start()
            await_entries(store, begun)
            with store.writing():  # no outcome can be recorded from now on
                continue_lane(service)
                thread.join(0.5)  # it is signed by then
                assert thread.is_alive()
                assert outcomes(store) == []
        thread.join(20)
        assert statuses == [200]
        assert len(outcomes(store)) == 1


@contextmanager
def stopped_lane(service: RunningService) -> Iterator[None]:
    """The worker of the only lane takes requests and does nothing."""
    os.kill(worker(service), signal.SIGSTOP)
    try:
        yield
    finally:
        continue_lane(service)


def continue_lane(service: RunningService) -> None:
    os.kill(worker(service), signal.SIGCONT)


def worker(service: RunningService) -> int:
    (pid,) = (one.pid for lane in service.context.lanes._lanes.values() for one in lane._workers)  # noqa: SLF001
    return pid


def await_entries(store: Store, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(entries(store)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
