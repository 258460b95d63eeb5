"""Workers are killed while clients ask over HTTPS: each request is answered, and each signature on record."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from service_place import ServicePlace, digest_of, running_service

from tokensign.audit.log import reading_tree
from tokensign.service import lane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pytest
    from lane_places import TokenPlace
    from service_place import Answer, RunningService

CLIENTS = 4
FAULTS = (signal.SIGSEGV, signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV)
BETWEEN_FAULTS = 10  # requests that are fulfilled
PATIENCE = 60.0  # seconds, for machines that are slow and busy


def workers(service: RunningService) -> list[int]:
    """The workers of all lanes."""
    lanes = service.context.lanes._lanes.values()  # noqa: SLF001
    return [worker.pid for one in lanes for worker in one._workers]  # noqa: SLF001


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def leaves(place: ServicePlace) -> list[dict[str, Any]]:
    """The audit log."""
    with place.open_store() as store, reading_tree(store) as tree:
        return [json.loads(leaf) for _, leaf in tree.all_leaves()]


def test_nothing_is_lost_and_nothing_leaves_unrecorded_while_workers_are_killed(
    tmp_path: Path, token_place: TokenPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "_REBUILD_SECONDS", 0.3)
    place = ServicePlace(tmp_path, token_place)
    place.grant("alice", "*", "sign")
    answers: list[Answer] = []
    settings = place.settings().lanes[0].model_dump(exclude={"workers", "deadline"}, mode="json")
    table = {name.replace("_", "-"): value for name, value in settings.items()}
    with running_service(place, lanes=[table | {"workers": 2, "deadline": 0.5}]) as service:
        ending = threading.Event()

        def ask() -> None:
            while not ending.is_set():
                answers.append(service.sign("rsa:2048", digests=[digest_of(os.urandom(8)) for _ in range(3)]))

        clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        for one in clients:
            one.start()
        for number in FAULTS:
            goal = fulfilled(answers) + BETWEEN_FAULTS
            until(lambda goal=goal: fulfilled(answers) >= goal and workers(service))  # type: ignore[misc]
            pid = workers(service)[0]
            with contextlib.suppress(ProcessLookupError):  # it missed its deadline by itself
                os.kill(pid, number)
            until(lambda pid=pid: pid not in workers(service))  # type: ignore[misc]
        ending.set()
        for one in clients:
            one.join(PATIENCE)
        until(lambda: service.sign("rsa:2048").status == 200)
    released = [entry for one in answers if one.status == 200 for entry in one.json["results"]]
    assert {one.status for one in answers} == {200, 503}
    check_records(leaves(place), [one["signature"] for one in released if "signature" in one])


def fulfilled(answers: Sequence[Answer]) -> int:
    return sum(one.status == 200 for one in answers)


def check_records(found: Sequence[dict[str, Any]], signatures: Sequence[str]) -> None:
    """Each intent has one outcome, and each signature that left is in one of them."""
    intents = {number for number, leaf in enumerate(found) if leaf["kind"] == "intent"}
    outcomes = [leaf for leaf in found if leaf["kind"] == "outcome"]
    assert sorted(leaf["intent"] for leaf in outcomes) == sorted(intents)
    recorded = {entry for leaf in outcomes for entry in leaf["outcome"].get("results", ())}
    assert {f"sha256:{hashlib.sha256(base64.b64decode(one)).hexdigest()}" for one in signatures} <= recorded
