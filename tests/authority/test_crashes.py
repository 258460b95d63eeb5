"""Processes that are killed while they issue, revoke and make CRLs, and processes that do so at once."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from postgresql import new_database
from sqlalchemy import select as select_rows
from sqlalchemy import update

from tokensign.audit.changes import changes
from tokensign.audit.verifying import verify_store
from tokensign.authority import (
    Reason,
    State,
    Status,
    list_authorities,
    load_profile,
    open_authority,
    publish,
)
from tokensign.authority.crl import crl_number_of, make_crl
from tokensign.authority.issuing import RESERVED_SECONDS
from tokensign.errors import FileError
from tokensign.store import Store
from tokensign.store.tables import ISSUED_CERTIFICATES, REVOCATION_LISTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from certificate_authorities import People

    from tokensign.algorithms import SignatureScheme

WORK_SECONDS = 0.25  # in which a process that is to be killed comes through all it does several times
PATIENCE = 60.0  # seconds for a process to begin, on a busy machine


@dataclass
class Told:
    """What processes told before they ended: as a caller of theirs would know it."""

    issued: dict[int, bytes] = field(default_factory=dict)
    revoked: list[int] = field(default_factory=list)
    crls: list[int] = field(default_factory=list)

    def add(self, line: str) -> None:
        kind, value = json.loads(line)
        if kind == "ready":
            return
        if kind == "issued":
            certificate = bytes.fromhex(value)
            serial = x509.load_der_x509_certificate(certificate).serial_number
            assert serial not in self.issued, "a serial number was used twice"
            self.issued[serial] = certificate
        elif kind == "revoked":
            self.revoked.append(int(value, 16))
        else:
            self.crls.append(value)


def start(work: Callable[[Callable[[str, Any], None]], None]) -> tuple[int, int]:
    """Fork a process that works and tells; its number, and where it tells."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    try:
        os.close(reading)
        work(lambda kind, value: os.write(writing, f"{json.dumps([kind, value])}\n".encode()) and None)
        os._exit(0)
    finally:
        os._exit(1)


def end(process: int, reading: int, told: Told) -> int:
    """Wait for a process; its exit status. What it told whole is kept."""
    with os.fdopen(reading) as lines:
        for line in lines:
            if line.endswith("\n"):
                told.add(line)
    return os.waitpid(process, 0)[1]


def issue_and_revoke(
    people: People, place: str, crl_file: Path
) -> Callable[[Callable[[str, Any], None]], None]:
    """What a process does until it is killed."""
    request, profile = people.request(), load_profile("smime-mailbox-strict")

    def work(tell: Callable[[str, Any], None]) -> None:
        with Store(place) as store:
            authority = open_authority(store, "people")
            tell("ready", None)
            while True:
                issued = authority.issue(people.signer, request, profile)
                tell("issued", issued.certificate.der.hex())
                authority.revoke(issued.certificate.serial_number, Reason.SUPERSEDED)
                tell("revoked", f"{issued.certificate.serial_number:x}")
                der = authority.crl(people.signer)
                tell("crl", crl_number_of(der))
                publish(authority, der, crl_file)

    return work


def settle(store: Store) -> None:
    """Let the time pass after which unfinished work is given up, and open the CA as the next process does."""
    past = datetime.now(UTC) - timedelta(seconds=2 * RESERVED_SECONDS)
    with store.writing() as connection:
        connection.execute(update(ISSUED_CERTIFICATES).values(reserved_at=past))
    open_authority(store, "people")


def hold_to_promises(store: Store, told: Told, people: People) -> None:
    """Nothing that was told is lost, and nothing is issued that the log does not have."""
    settle(store)
    authority = open_authority(store, "people")
    records = {record.serial: record for record in authority.certificates()}
    for serial, certificate in told.issued.items():
        assert records[serial].certificate is not None
        assert records[serial].certificate.der == certificate
    assert {record.state for record in records.values()} <= {State.ISSUED, State.ABANDONED}
    logged = Counter(
        int(str(entry.details["serial"]), 16)
        for entry in changes(store)
        if entry.action == "certificate issued" and entry.details["ca"] == "people"
    )
    assert logged == Counter(
        {serial: 1 for serial, record in records.items() if record.state is State.ISSUED}
    )
    assert told.issued.keys() <= logged.keys()
    for serial in told.revoked:
        assert authority.status_of(serial).status is Status.REVOKED
    final = x509.load_der_x509_crl(authority.crl(people.signer))
    abandoned = {serial for serial, record in records.items() if record.state is State.ABANDONED}
    listed = {entry.serial_number for entry in final}
    assert listed >= set(told.revoked) | abandoned
    assert told.crls == sorted(set(told.crls))
    assert crl_number_of(authority.latest_crl().der) > max(told.crls, default=0)  # type: ignore[union-attr]
    verify_store(store)


def kill_again_and_again(people: People, place: str, times: int, folder: Path) -> None:
    chance = random.Random(20260601)  # noqa: S311 - moments, not keys
    told, published = Told(), 0
    crl_file = folder / "people.crl"
    for turn in range(3 * times):
        if turn >= times and told.issued and told.revoked:  # on a busy machine it takes more, and longer ones
            break
        process, reading = start(issue_and_revoke(people, place, crl_file))
        assert select.select([reading], [], [], PATIENCE)[0], "the process does not begin"
        time.sleep(chance.uniform(0, WORK_SECONDS * (1 + turn // times)))
        os.kill(process, signal.SIGKILL)
        assert os.WIFSIGNALED(end(process, reading, told)), "the process ended before it was killed"
        if crl_file.exists():
            number = crl_number_of(crl_file.read_bytes())
            assert number >= published
            published = number
    assert told.issued, "no process came to its first certificate"
    assert told.revoked
    with Store(place) as store:
        hold_to_promises(store, told, people)


def test_killed_at_random_points_nothing_is_lost_or_used_twice(
    people: People, place: str, tmp_path: Path
) -> None:
    kill_again_and_again(people, place, 10, tmp_path)


@pytest.mark.full
def test_killed_a_hundred_times_nothing_is_lost_or_used_twice(
    people: People, place: str, tmp_path: Path
) -> None:
    kill_again_and_again(people, place, 100, tmp_path)


def issue_together(people: People, place: str, count: int, processes: int) -> None:
    request, profile = people.request(), load_profile("smime-mailbox-strict")

    def work(tell: Callable[[str, Any], None]) -> None:
        with Store(place) as store:
            authority = open_authority(store, "people")
            for _ in range(count // processes):
                issued = authority.issue(people.signer, request, profile)
                tell("issued", issued.certificate.der.hex())

    told = Told()
    for process, reading in [start(work) for _ in range(processes)]:
        assert end(process, reading, told) == 0
    assert len(told.issued) == count
    with Store(place) as store:
        hold_to_promises(store, told, people)


def test_two_processes_issue_at_once(people: People, place: str) -> None:
    issue_together(people, place, 40, 2)


@pytest.mark.full
def test_two_processes_issue_two_thousand(people: People, place: str) -> None:
    issue_together(people, place, 2000, 2)


def test_two_processes_that_open_a_new_database_make_its_tables_once(bare_place: str) -> None:
    def work(tell: Callable[[str, Any], None]) -> None:
        with Store(bare_place) as store:
            tell("crl", len(list_authorities(store)))

    told = Told()
    for process, reading in [start(work) for _ in range(3)]:
        assert end(process, reading, told) == 0
    assert told.crls == [0, 0, 0]


def test_writers_see_what_others_have_just_written_whatever_the_server_prefers(postgresql: str) -> None:
    """Under REPEATABLE READ, a CRL could miss a revocation for whose end its transaction has waited."""
    url = new_database(postgresql, "strict")
    with Store(url) as store, store.writing() as connection:
        connection.exec_driver_sql(
            "ALTER DATABASE strict SET default_transaction_isolation = 'repeatable read'"
        )
    with Store(url) as store, store.writing() as connection:
        assert connection.exec_driver_sql("SHOW default_transaction_isolation").scalar() == "repeatable read"
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"


def test_crls_that_two_processes_make_at_once_have_numbers_and_times_in_one_order(
    people: People, place: str
) -> None:
    def work(tell: Callable[[str, Any], None]) -> None:
        with Store(place) as store:
            authority = open_authority(store, "people")
            for _ in range(10):
                made = make_crl(authority, people.signer, days=300)
                tell("crl", made.number)

    told = Told()
    for process, reading in [start(work) for _ in range(2)]:
        assert end(process, reading, told) == 0
    assert sorted(told.crls) == list(range(1, 21))
    with people.store.reading() as connection:
        table = REVOCATION_LISTS.c
        times = connection.scalars(select_rows(table.this_update).order_by(table.number)).all()
    assert len(times) == 20
    assert times == sorted(times)


class DyingSigner:
    """A key whose process dies in the middle of a signature."""

    certificate, chain = None, ()

    def __init__(self, public_key: Any) -> None:  # noqa: ANN401 - any type of key
        self.public_key = public_key

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        del message, scheme
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        return self.sign(digest, scheme)


def die_while_signing(people: People, place: str, **details: Any) -> None:  # noqa: ANN401 - those of `issue`
    def work(_: Callable[[str, Any], None]) -> None:
        with Store(place) as store:
            authority = open_authority(store, "people")
            authority.issue(
                DyingSigner(people.signer.public_key),
                people.request(),
                load_profile("smime-mailbox-strict"),
                **details,
            )

    assert os.WTERMSIG(end(*start(work), Told())) == signal.SIGKILL


def test_a_serial_whose_process_died_is_unknown_and_then_revoked(people: People, place: str) -> None:
    die_while_signing(people, place)
    (record,) = people.authority.certificates()
    assert record.state is State.RESERVED
    assert people.authority.status_of(record.serial).status is Status.UNKNOWN
    settle(people.store)
    assert people.authority.find(record.serial).state is State.ABANDONED
    assert people.authority.status_of(record.serial).status is Status.REVOKED
    crl = x509.load_der_x509_crl(people.authority.crl(people.signer))
    assert [entry.serial_number for entry in crl] == [record.serial]


def test_a_request_whose_process_died_gets_its_one_certificate_at_once(people: People, place: str) -> None:
    die_while_signing(people, place, request_id="7")
    issued = people.issue(request_id="7")
    assert people.issue(request_id="7").certificate == issued.certificate
    states = Counter(record.state for record in people.authority.certificates())
    assert states == {State.ISSUED: 1, State.ABANDONED: 1}


def test_an_attempt_that_was_taken_over_hands_out_nothing(people: People) -> None:
    class Overtaken:
        """A slow token: in the meantime, another process issues for the same request."""

        certificate, chain, public_key = None, (), people.signer.public_key

        def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
            self.other = people.issue(request_id="7")
            return people.signer.sign(message, scheme)

        def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
            return people.signer.sign_digest(digest, scheme)

    slow = Overtaken()
    with pytest.raises(FileError, match="another process has given this attempt up"):
        people.authority.issue(slow, people.request(), load_profile("smime-mailbox-strict"), request_id="7")
    assert people.issue(request_id="7").certificate == slow.other.certificate
