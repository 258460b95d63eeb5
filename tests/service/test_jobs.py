"""Jobs: many digests in the background, each signed once, whoever dies meanwhile."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from service_place import ServicePlace, digest_of, openssl_verify, running_service

from tokensign.audit.changes import changes
from tokensign.service import job_records, jobs, permissions
from tokensign.service.granting import revoke_grant
from tokensign.service.job_records import JobItem, JobRecords
from tokensign.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lane_places import TokenPlace
    from service_place import Answer, RunningService

KEY = "ec:p256"


def start_job(service: RunningService, count: int, who: str = "alice", **more: Any) -> Answer:  # noqa: ANN401 - JSON
    digests = [digest_of(str(number).encode()) for number in range(count)]
    headers = more.pop("headers", None)
    return service.ask(
        "POST", "/v1/jobs", {"key": service.key(KEY), "digests": digests, **more}, who=who, headers=headers
    )


def finished(service: RunningService, job_id: str, seconds: float = 30) -> dict[str, Any]:
    """The job, when it waits no more."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        document = service.ask("GET", f"/v1/jobs/{job_id}?count=1000").json
        if document["state"] != "waiting":
            return dict(document)
        time.sleep(0.05)
    pytest.fail(f"the job {job_id} was not done in {seconds} seconds")


def job_ends(place: ServicePlace) -> list[tuple[str, int]]:
    """How each job ended and how many of its items were not signed, as the audit log has it."""
    with place.open_store() as store:
        ended = [one.details for one in changes(store) if one.action == "job ended"]
    return [(one["result"], one["unsigned"]) for one in ended]


class TestApi:
    def test_all_items_are_signed_in_their_order(self, service: RunningService) -> None:
        answer = start_job(service, 250)
        assert (answer.status, answer.json["state"], answer.json["items"]) == (202, "waiting", 250)
        assert answer.headers["location"] == f"/v1/jobs/{answer.json['id']}"
        done = finished(service, answer.json["id"])
        assert (done["state"], done["signed"], done["failed"]) == ("done", 250, 0)
        public_key = service.context.lanes.keys()[service.key(KEY)].public_key
        assert isinstance(public_key, ec.EllipticCurvePublicKey)
        for position in (0, 100, 249):
            result = done["results"][position]
            assert result["position"] == position
            signature = base64.b64decode(result["signature"])
            public_key.verify(signature, str(position).encode(), ec.ECDSA(hashes.SHA256()))

    def test_messages_of_a_job_verify_with_openssl(self, service: RunningService, tmp_path: Path) -> None:
        done = finished(service, start_job(service, 2, form="cms").json["id"])
        certificate = service.context.lanes.keys()[service.key(KEY)].certificate
        for position in (0, 1):
            message = base64.b64decode(done["results"][position]["signature"])
            openssl_verify(tmp_path, certificate, message, str(position).encode())

    def test_results_come_in_pages(self, service: RunningService) -> None:
        job_id = start_job(service, 30).json["id"]
        finished(service, job_id)
        page = service.ask("GET", f"/v1/jobs/{job_id}?start=10&count=5").json["results"]
        assert [result["position"] for result in page] == [10, 11, 12, 13, 14]

    def test_each_batch_is_on_record(self, service: RunningService) -> None:
        job_id = start_job(service, 150).json["id"]
        finished(service, job_id)
        leaves: list[dict[str, Any]] = []
        while page := service.ask("GET", f"/v1/audit/entries?start={len(leaves)}&count=1000").json["entries"]:
            leaves += [json.loads(one["leaf"]) for one in page]
        intents = {number: leaf for number, leaf in enumerate(leaves) if leaf["kind"] == "intent"}
        batches = {number: leaf["intent"] for number, leaf in intents.items() if "first" in leaf["intent"]}
        own = {number: batch for number, batch in batches.items() if batch["job"] == job_id}
        assert [(batch["first"], batch["items"]) for batch in own.values()] == [(0, 100), (100, 50)]
        outcomes = {leaf["intent"]: leaf["outcome"] for leaf in leaves if leaf["kind"] == "outcome"}
        assert [outcomes[number]["made"] for number in own] == [100, 50]

    def test_job_belongs_to_who_started_it(self, service: RunningService) -> None:
        job_id = start_job(service, 1).json["id"]
        assert service.ask("GET", f"/v1/jobs/{job_id}", who="bob").problem == "not-found"
        assert service.ask("GET", f"/v1/jobs/{job_id}", who=None).problem == "unauthenticated"
        assert start_job(service, 1, who="bob").problem == "forbidden"

    def test_repeated_request_starts_one_job(self, service: RunningService) -> None:
        headers = {"Idempotency-Key": "one-job"}
        first = start_job(service, 3, headers=headers)
        again = start_job(service, 3, headers=headers)
        assert (again.status, again.json["id"]) == (202, first.json["id"])

    def test_wrong_digest_is_pointed_at(self, service: RunningService) -> None:
        wrong = {"key": service.key(KEY), "digests": [digest_of(b""), digest_of(b"", "sha1")]}
        answer = service.ask("POST", "/v1/jobs", wrong)
        assert answer.problem == "invalid"
        assert answer.json["errors"][0]["pointer"] == "#/digests/1"


class TestEnds:
    def test_job_goes_on_after_a_restart(
        self, furnished_token: TokenPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = self.place(furnished_token, tmp_path, monkeypatch)
        place.grant("alice", "*", "jobs")
        with running_service(place) as first:
            job_id = start_job(first, 4000).json["id"]
            while not first.ask("GET", f"/v1/jobs/{job_id}").json["signed"]:
                time.sleep(0.01)
        with place.open_store() as store:
            found = JobRecords(store).find(job_id)
        assert found is not None
        before = found[1]["signed"]
        assert 0 < before < 4000
        with running_service(place) as second:
            done = finished(second, job_id)
            assert (done["state"], done["signed"], done["failed"]) == ("done", 4000, 0)

    def test_revoked_grant_ends_a_job(
        self, furnished_token: TokenPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(permissions, "STALENESS", 0.0)  # so that it counts at once
        place = self.place(furnished_token, tmp_path, monkeypatch)
        number = place.grant("alice", "*", "jobs")
        with running_service(place) as service:
            job_id = start_job(service, 10_000).json["id"]
            with place.open_store() as store:
                revoke_grant(store, number)
                deadline = time.monotonic() + 20
                while (found := JobRecords(store).find(job_id)) and found[0].state == "waiting":
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
        assert found is not None
        job, counts = found
        assert (job.state, job.reason) == ("failed", "forbidden")
        assert counts["signed"] < 10_000
        assert counts["signed"] + counts["failed"] == 10_000
        assert job_ends(place) == [("forbidden", counts["failed"])]

    @staticmethod
    def place(token: TokenPlace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ServicePlace:
        copy = token.copy(folder / "token")
        monkeypatch.setenv("SOFTHSM2_CONF", str(copy.configuration))
        return ServicePlace(folder, copy)


class TestTime:
    SECONDS = 1.5  # that the jobs of these tests have

    @pytest.fixture
    def hasty(
        self, place: str, furnished_token: TokenPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[RunningService]:
        """A service whose jobs end soon, over each kind of database."""
        token = furnished_token.copy(tmp_path / "token")
        monkeypatch.setenv("SOFTHSM2_CONF", str(token.configuration))
        monkeypatch.setattr(jobs, "_OVERDUE_SECONDS", 0.1)
        served = ServicePlace(tmp_path, token, database=place)
        served.grant("alice", "*", "jobs", "sign")
        with running_service(served, **{"job-hours": self.SECONDS / 3600}) as running:
            yield running

    def test_job_of_a_lane_that_does_not_come_back_ends(self, hasty: RunningService) -> None:
        (worker,) = next(iter(hasty.context.lanes._lanes.values()))._workers  # noqa: SLF001
        os.kill(worker.pid, signal.SIGSTOP)
        try:
            started = start_job(hasty, 3).json
            ended = finished(hasty, started["id"])
            assert (ended["state"], ended["signed"], ended["failed"]) == ("failed", 0, 3)
            kinds = {one["problem"]["type"] for one in (ended, *ended["results"])}
            assert kinds == {"urn:tokensign:problem:expired"}
            lasted, meant = (
                datetime.fromisoformat(ended[name]) - datetime.fromisoformat(ended["created_at"])
                for name in ("finished_at", "ends_at")
            )
            assert meant.total_seconds() == self.SECONDS
            assert lasted >= meant
        finally:
            os.kill(worker.pid, signal.SIGCONT)  # and it signs what it was given
        assert hasty.sign(KEY).status == 200
        assert hasty.ask("GET", f"/v1/jobs/{started['id']}?count=9").json == ended
        assert finished(hasty, start_job(hasty, 2).json["id"])["state"] == "done"
        assert job_ends(hasty.place) == [("expired", 3), ("done", 0)]

    def test_job_of_a_lane_that_no_process_has_ends(self, hasty: RunningService) -> None:
        terms = dict.fromkeys(("principal", "principal_kind", "key", "lane", "scheme", "form"), "aside")
        with hasty.place.open_store() as store:
            JobRecords(store).add({**terms, "id": "e" * 32}, [b"0", b"1"], lambda *_: None)
            deadline = time.monotonic() + 20
            while (found := JobRecords(store).find("e" * 32)) and found[0].state == "waiting":
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert found is not None
        assert (found[0].reason, found[1]) == ("expired", {"signed": 0, "failed": 2})
        assert job_ends(hasty.place) == [("expired", 2)]


class TestRecords:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with Store(tmp_path / "jobs.sqlite") as store:
            yield store

    def add(self, records: JobRecords, name: str = "a") -> str:
        terms = dict.fromkeys(("principal", "principal_kind", "key", "lane", "scheme", "form"), "x")
        return records.add({**terms, "id": name * 32}, [b"0", b"1", b"2"], lambda *_: None).id

    def test_one_worker_has_a_job_at_a_time(self, store: Store) -> None:
        first, second = JobRecords(store), JobRecords(store)
        self.add(first)
        assert first.take("x") is not None
        assert second.take("x") is None

    def test_oldest_job_comes_first_and_other_lanes_have_none(self, store: Store) -> None:
        records = JobRecords(store)
        oldest, _ = self.add(records, "b"), self.add(records, "a")
        taken = records.take("x")
        assert taken is not None
        assert taken.id == oldest
        assert records.take("another") is None

    def test_worker_that_was_dead_too_long_changes_nothing_any_more(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dead, living = JobRecords(store), JobRecords(store)
        self.add(dead)
        monkeypatch.setattr(job_records, "_HOLD", -job_records._HOLD)  # noqa: SLF001 - it is over at once
        job = dead.take("x")
        monkeypatch.undo()
        taken = living.take("x")
        assert job is not None
        assert taken == job
        assert living.put(job, [JobItem(0, b"0", b"by the living")])
        assert not dead.put(job, [JobItem(0, b"0", b"by the dead"), JobItem(1, b"1", b"by the dead")])
        dead.finish(job)
        assert [item.signature for item in living.items(job.id, 0, 9)] == [b"by the living", None, None]
        assert [item.position for item in living.waiting(job, 9)] == [1, 2]

    def test_job_ends_when_its_hours_are_over_whoever_has_it(self, store: Store) -> None:
        worker, other = JobRecords(store), JobRecords(store)
        job_id = self.add(worker)
        job = worker.take("x")
        assert job is not None
        assert worker.put(job, [JobItem(0, b"0", b"in time")])
        assert other.end_overdue(1.0, "expired") is None
        assert other.end_overdue(0.0, "expired") == job
        assert other.end_overdue(0.0, "expired") is None
        assert not worker.put(job, [JobItem(1, b"1", b"too late")])
        items = [(item.signature, item.reason) for item in worker.items(job_id, 0, 9)]
        assert items == [(b"in time", None), (None, "expired"), (None, "expired")]

    def test_job_that_ended_long_ago_is_forgotten(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        records = JobRecords(store)
        ended, waiting = self.add(records, "a"), self.add(records, "b")
        job = records.take("x")
        assert job is not None
        assert job.id == ended
        records.finish(job)
        assert not records.forget()
        monkeypatch.setattr(job_records, "KEPT", timedelta(0))
        assert records.forget()
        assert not records.forget()
        assert records.find(ended) is None
        assert records.find(waiting) is not None

    def test_job_that_was_left_is_free(self, store: Store) -> None:
        first, second = JobRecords(store), JobRecords(store)
        self.add(first)
        job = first.take("x")
        assert job is not None
        first.leave(job)
        assert second.take("x") == job
