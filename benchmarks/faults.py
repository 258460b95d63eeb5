# ruff: noqa: T201 - a benchmark prints what it measured
"""What the signing service does when something breaks: what clients are told, and how soon it works again.

    python -m benchmarks.faults [--fault WORD]

`tokensign serve --dev` runs as it is, on SoftHSM; a client asks for a signature 50 times a second or so.
Each fault is a real one and happens once, to a service that was just started. At the end, each intent in the
audit log has its outcome, and each signature that a client got is in one. PostgreSQL is left out where it is
not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.dev_service import Client, DevService, connect
from tokensign.audit.log import reading_tree
from tokensign.service.granting import GrantTerms, add_grant
from tokensign.service.grants import OPERATIONS
from tokensign.service.identities import add_identity
from tokensign.service.processes import LEASE_SECONDS
from tokensign.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.dev_service import Answer

_SEEN_SECONDS = 30.0  # until a client notices a fault
_MENDED_SECONDS = 90.0  # until the service is to work again
_BROKEN_SECONDS = 2.0  # that a fault lasts after it was noticed, when somebody has to mend it
_ALIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
_HALF = b"POST /v1/keys/dev/alice/signatures HTTP/1.1\r\nHost: localhost\r\n"
_MANY = 2_000


@dataclass(frozen=True)
class Fault:
    """Something that breaks.

    Attributes:
        name: What.
        since: From when on the seconds count.
        breaking: Does it.
        mending: Puts it right; None: nobody has to.
        preparing: What happened before, or None.
    """

    name: str
    since: str
    breaking: Callable[[DevService], None]
    mending: Callable[[DevService], None] | None = None
    preparing: Callable[[DevService], None] | None = None


def signal_worker(number: signal.Signals) -> Callable[[DevService], None]:
    """Send a signal to the worker."""

    def send(service: DevService) -> None:
        (worker,) = service.workers()
        os.kill(worker, number)

    return send


def crash_once(service: DevService) -> None:
    """Kill the worker, and wait until the next one is there."""
    before = service.workers()
    signal_worker(signal.SIGKILL)(service)
    end = time.monotonic() + _SEEN_SECONDS
    while service.workers() in (before, []) and time.monotonic() < end:
        time.sleep(0.01)
    service.await_ready()


def take_token(service: DevService) -> None:
    """Move the folder of the token away."""
    (service.folder / "tokens").rename(service.folder / "away")
    (service.folder / "tokens").mkdir()


def put_token_back(service: DevService) -> None:
    """Move it back."""
    (service.folder / "tokens").rmdir()
    (service.folder / "away").rename(service.folder / "tokens")


def change_pin(service: DevService) -> None:
    """Put a wrong PIN where the right one was, and let the worker start again."""
    shutil.copy2(service.folder / "pin", service.folder / "right-pin")
    (service.folder / "pin").write_text("wrong-pin")
    signal_worker(signal.SIGKILL)(service)


def restore_pin(service: DevService) -> None:
    """Put the right one back, and tell the service."""
    (service.folder / "right-pin").replace(service.folder / "pin")
    service.signal(signal.SIGHUP)


def fill_disk(service: DevService) -> None:
    """Let no file of the service grow, as when the disk is full."""
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))


def empty_disk(service: DevService) -> None:
    """Let them grow again."""
    resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def kill_service(service: DevService) -> None:
    """Kill all of it, and start it again, as systemd does."""
    service.kill()
    service.start()


FAULTS = (
    Fault("the PKCS#11 module crashes (SIGSEGV to the worker)", "it", signal_worker(signal.SIGSEGV)),
    Fault("the worker is killed (SIGKILL)", "it", signal_worker(signal.SIGKILL)),
    Fault(
        "the next worker is killed at once, too",
        "it",
        signal_worker(signal.SIGKILL),
        preparing=crash_once,
    ),
    Fault("the PKCS#11 module hangs (SIGSTOP to the worker)", "it", signal_worker(signal.SIGSTOP)),
    Fault("the token is away (its folder moved)", "it is back", take_token, put_token_back),
    Fault("the PIN is wrong when a worker starts", "the PIN is right, and SIGHUP", change_pin, restore_pin),
    Fault("the disk of the database is full", "there is room", fill_disk, empty_disk),
    Fault("the service is killed (SIGKILL) and started again", "it", kill_service),
)


def main() -> None:
    """Break one thing after the other, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--fault", default="", help="only those with this word in their names")
    wanted = parser.parse_args().fault
    print("| what breaks | clients meanwhile | seconds until the next signature |")
    print("| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        service = DevService(Path(folder) / "dev")
        _measure_all(service, [fault for fault in FAULTS if wanted in fault.name])
        _measure_crowds(service, wanted)
        if wanted in "PostgreSQL":
            _measure_postgresql(service)


def _measure_all(service: DevService, faults: Sequence[Fault]) -> None:
    got: list[bytes] = []
    for fault in faults:
        service.start()
        got += _measure(service, fault)
        service.kill()
    if faults:
        _check_records(service, service.folder / "service.sqlite", got)


def _measure(service: DevService, fault: Fault) -> list[bytes]:
    """Measure, and print a line; the signatures that the client got."""
    if fault.preparing is not None:
        fault.preparing(service)
    with Client(service) as client:
        client.await_answer(_is_good, _SEEN_SECONDS)
        time.sleep(0.5)
        counted = time.monotonic()
        fault.breaking(service)
        refusal = client.await_answer(lambda one: one.received > counted and not _is_good(one), _SEEN_SECONDS)
        if fault.mending is not None:
            time.sleep(_BROKEN_SECONDS)
            fault.mending(service)
            counted = time.monotonic()
        since = max(counted, refusal.received)
        good = client.await_answer(lambda one: one.sent >= since and _is_good(one), _MENDED_SECONDS)
    told = Counter(one.told for one in client.answers if not _is_good(one))
    meanwhile = ", ".join(f"{count} times {what}" for what, count in told.items())
    seconds = good.received - counted
    print(f"| {fault.name} | {meanwhile} | {seconds:.2g} after {fault.since} |", flush=True)
    return [one.signature for one in client.answers if one.signature is not None]


def _measure_crowds(service: DevService, wanted: str) -> None:
    """Clients that stall, and many that are silent: how long another one waits meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * _MANY)), hard))
    for name, count, sent in (
        ("200 clients stall in the middle of a request", 200, _HALF),
        (f"{_MANY:,} connections are open and silent", _MANY, _ALIVE),
    ):
        if wanted not in name:
            continue
        service.start()
        with connect(service, count, sent), Client(service) as client:
            time.sleep(3)
        service.kill()
        slowest = max(one.received - one.sent for one in client.answers)
        good = sum(map(_is_good, client.answers))
        print(
            f"| {name} | {good} of {len(client.answers)} requests answered with 200 | "
            f"the slowest answer took {slowest:.2g} |",
            flush=True,
        )


def _measure_postgresql(service: DevService) -> None:
    """The service over a PostgreSQL that is stopped and started."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("pg_ctl", path=os.pathsep.join([*map(str, programs), os.environ["PATH"]]))
    if found is None:
        print("| PostgreSQL is stopped | not measured: it is not installed | |")
        return
    with _postgresql(Path(found).parent) as (url, control):
        if not service.folder.exists():
            service.start()
            service.kill()
        file = service.folder / "service.toml"
        file.write_text(file.read_text().replace('"service.sqlite"', json.dumps(url)))
        with Store(url) as store:
            add_identity(store, "alice", "uri", "urn:tokensign:dev:alice")
            add_grant(store, "alice", GrantTerms(key="*", operations=OPERATIONS))
        stopped = Fault(
            "PostgreSQL is stopped",
            "it is started",
            lambda _: control("stop", "-m", "immediate"),
            lambda _: control("start"),
        )
        service.start()
        got = _measure(service, stopped)
        _check_records(service, url, got)
        service.kill()


@contextlib.contextmanager
def _postgresql(programs: Path) -> Iterator[tuple[str, Callable[..., object]]]:
    """A server of our own: its URL, and what starts and stops it."""
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short, because a socket's path has 107 letters
    if user is not None:
        shutil.chown(folder, user, user)

    def run(program: str, *arguments: str) -> None:
        command = [programs / program, "-D", folder / "data", *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, group=user, cwd=folder)

    def control(action: str, *arguments: str) -> None:
        options = ["-o", f"-k {folder} -c listen_addresses=", "-l", str(folder / "log")]
        run("pg_ctl", "-w", *(options if action == "start" else ()), *arguments, action)

    try:
        run("initdb", "-U", "tokensign", "-A", "trust", "-E", "UTF8")
        control("start")
        yield f"postgresql+psycopg://tokensign@/postgres?host={folder}", control
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # it is stopped already
            control("stop", "-m", "immediate")
        shutil.rmtree(folder)


def _check_records(service: DevService, place: Path | str, got: Sequence[bytes]) -> None:
    """See that nothing was lost, and nothing left that is not on record.

    Raises:
        AssertionError: It was, or did.
    """
    service.kill()
    time.sleep(LEASE_SECONDS)  # then what a killed process had begun is resolved at the next start
    service.start()
    end = time.monotonic() + 2 * LEASE_SECONDS
    open_intents, recorded = _read(place)
    while open_intents and time.monotonic() < end:
        time.sleep(0.5)
        open_intents, recorded = _read(place)
    service.kill()
    missing = sum(f"sha256:{hashlib.sha256(one).hexdigest()}" not in recorded for one in got)
    if open_intents or missing:
        raise AssertionError(
            f"{open_intents} intents have no outcome, {missing} signatures are not on record"
        )
    print(f"| | all {len(got):,} signatures are on record, and each intent has its outcome | |", flush=True)


def _read(place: Path | str) -> tuple[int, set[str]]:
    """How many intents have no outcome, and what is on record of results."""
    open_intents, recorded = 0, set()
    with Store(place) as store, reading_tree(store) as tree:
        for _, leaf in tree.all_leaves():
            entry = json.loads(leaf)
            open_intents += (entry["kind"] == "intent") - (entry["kind"] == "outcome")
            if entry["kind"] == "outcome":
                recorded.update(entry["outcome"].get("results", ()))
    return open_intents, recorded


def _is_good(answer: Answer) -> bool:
    return answer.signature is not None


if __name__ == "__main__":
    main()
