"""Jobs that several processes share: procrastinate on a real PostgreSQL, and real deaths."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from postgresql import controlled_postgresql, new_database
from service_place import RunningService, ServicePlace, digest_of, running_service
from sqlalchemy import create_engine, text

from tests.launcher import LaunchedProcess
from tokensign.audit.log import reading_tree
from tokensign.audit.verifying import verify_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lane_places import TokenPlace
    from postgresql import PostgresqlServer

PACKAGE_FOLDER = Path(__file__).parents[2]
START_SECONDS = 60
KEY = "ec=3Ap256"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    with controlled_postgresql() as server:
        yield server


@pytest.fixture
def place(
    server: PostgresqlServer, furnished_token: TokenPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ServicePlace:
    token = furnished_token.copy(tmp_path / "token")
    monkeypatch.setenv("SOFTHSM2_CONF", str(token.configuration))
    url = new_database(server.url, tmp_path.name)
    place = ServicePlace(tmp_path, token, database=url)
    place.grant("alice", "*", "jobs", "sign", "audit")
    return place


def start_job(service: RunningService, count: int) -> str:
    digests = [digest_of(str(number).encode()) for number in range(count)]
    answer = service.ask(
        "POST", "/v1/jobs", {"key": f"{service.place.token.label}/{KEY}", "digests": digests}
    )
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def wait_for(service: RunningService, job_id: str, *, signed: int, seconds: float) -> dict[str, Any]:
    """The job, when so many of its items are signed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        document = service.ask("GET", f"/v1/jobs/{job_id}").json
        if document["signed"] >= signed and (
            document["signed"] < document["items"] or document["finished_at"]
        ):
            return dict(document)
        time.sleep(0.05)
    pytest.fail(f"{document}")


def queued(place: ServicePlace) -> int:
    """Jobs that procrastinate still has."""
    engine = create_engine(place.database)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT count(*) FROM procrastinate_jobs")).scalar_one()
    engine.dispose()
    return int(found)


def test_job_is_put_into_a_queue_and_worked_on(place: ServicePlace) -> None:
    with running_service(place) as service:
        job_id = start_job(service, 150)
        done = wait_for(service, job_id, signed=150, seconds=30)
        assert (done["state"], done["failed"]) == ("done", 0)
    assert queued(place) == 0


def test_job_goes_on_after_a_restart_of_postgresql(place: ServicePlace, server: PostgresqlServer) -> None:
    with running_service(place) as service:
        job_id = start_job(service, 5000)
        wait_for(service, job_id, signed=1, seconds=30)
        server.stop()
        assert service.sign("ec:p256").status == 503
        assert service.ask("GET", "/livez").status == 200
        server.start()
        done = wait_for(service, job_id, signed=5000, seconds=120)
        assert (done["state"], done["failed"]) == ("done", 0)


@contextlib.contextmanager
def host(place: ServicePlace, number: int) -> Iterator[tuple[LaunchedProcess, RunningService]]:
    """A process of `tokensign serve` over the database and the token of a place."""
    file = place.folder / f"host-{number}.toml"
    file.write_text(
        f'database = "{place.database}"\n[service]\nlisten = "localhost:0"\n'
        '[service.tls]\ncertificate = "server.pem"\nkey = "server.key"\nclient-ca = "clients.pem"\n'
        f'[[service.lanes]]\nname = "{place.token.label}"\nmodule = "{place.token.module}"\n'
        f'token = "{place.token.label}"\npin-source = "file:{place.token.pin}"\n'
    )
    log = place.folder / f"host-{number}.log"
    with log.open("wb") as stderr:
        process = LaunchedProcess(
            [sys.executable, "-m", "tokensign", "serve", "--config", str(file)],
            cwd=place.folder,
            env={"PYTHONPATH": str(PACKAGE_FOLDER), **os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(rb"listening at https://\S+:(\d+)", log.read_bytes())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        running = RunningService(place, None, f"localhost:{found[1].decode()}", [])  # type: ignore[arg-type]
        yield process, running
    finally:
        process.kill()
        process.wait(START_SECONDS)


def test_twenty_thousand_digests_are_signed_once_each_while_a_host_is_killed(place: ServicePlace) -> None:
    count = 20_000
    with host(place, 1) as (_, first):
        with host(place, 2) as (second_process, second):
            job_id = start_job(second, count)
            wait_for(first, job_id, signed=2000, seconds=120)
            second_process.kill()
            second_process.wait(START_SECONDS)
        with host(place, 3):
            done = wait_for(first, job_id, signed=count, seconds=600)
        assert (done["state"], done["failed"]) == ("done", 0)
        signatures: list[str] = []
        while len(signatures) < count:
            page = first.ask("GET", f"/v1/jobs/{job_id}?start={len(signatures)}&count=1000").json["results"]
            assert [one["position"] for one in page] == list(
                range(len(signatures), len(signatures) + len(page))
            )
            signatures += [one["signature"] for one in page]
        assert all(base64.b64decode(one) for one in signatures)
    with place.open_store() as store:
        verify_store(store)
        with reading_tree(store) as tree:
            leaves = [json.loads(leaf) for _, leaf in tree.all_leaves()]
        made = sum(leaf["outcome"].get("made", 0) for leaf in leaves if leaf["kind"] == "outcome")
        unknown = sum(
            leaf["outcome"].get("result") == "unknown" for leaf in leaves if leaf["kind"] == "outcome"
        )
    # Of the batches that the killed process held, one may have been signed and was then signed again.
    assert count <= made <= count + 100
    assert unknown <= 1
