"""Requests: submitted, proved, approved or rejected by other people, and issued once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from registrations import ALICE, CA_KEY, PROFILE, csr, new_key, submitted, waiting
from software_signer import SoftwareSigner
from sqlalchemy import select, update

from tokensign.audit.changes import changes
from tokensign.audit.verifying import verify_store
from tokensign.authority import (
    load_profile,
    open_authority,
)
from tokensign.authority.approval import approve_request, issue_for_request, reject_request
from tokensign.authority.registration import (
    get_request,
    list_requests,
    new_codes,
    prove_mailbox,
    submit_request,
)
from tokensign.errors import BadSignatureError, MalformedError, PolicyError, UsageError
from tokensign.pki.request import certificate_request
from tokensign.store import Store
from tokensign.store.tables import ISSUED_CERTIFICATES, MAILBOX_PROOFS

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sqlalchemy import Connection

    from tokensign.algorithms import SignatureScheme
    from tokensign.authority import Authority


@pytest.fixture
def authority(store: Store) -> Authority:
    return open_authority(store)


def issued_rows(store: Store) -> int:
    with store.reading() as connection:
        return len(connection.execute(select(ISSUED_CERTIFICATES)).all())


def actions(store: Store) -> list[str]:
    return [entry.action for entry in changes(store)]


def test_a_request_becomes_a_certificate_of_its_key_and_address(each_store: Store) -> None:
    store, authority = each_store, open_authority(each_store)
    key = new_key()
    request, codes = submit_request(
        store, certificate_request(key, f"CN={ALICE}", [ALICE]), "acme", PROFILE, submitter="desk"
    )
    assert (request.state, request.requester, request.addresses) == ("unproved", ALICE, (ALICE,))
    assert prove_mailbox(store, request.id, codes[ALICE]).state == "waiting"
    assert approve_request(store, request.id, actor="carol").state == "approved"
    issued = issue_for_request(store, request.id, authority, CA_KEY, PROFILE)
    assert issued.certificate.emails == (ALICE,)
    assert issued.certificate.public_key == key.public_key
    assert get_request(store, request.id).state == "issued"
    verify_store(store)
    assert actions(store) == [
        "CA created",
        "request submitted",
        "address proved",
        "request approved",
        "issuing begun",
        *[action for action in actions(store) if "certificate" in action],
        "request fulfilled",
    ]


def test_each_address_needs_its_own_code(store: Store) -> None:
    other = "a.smith@acme.example"
    number, codes = submitted(store, ALICE, other)
    assert len(set(codes.values())) == 2
    assert prove_mailbox(store, number, codes[other]).state == "unproved"
    with pytest.raises(PolicyError, match="not the code"):  # it is used up
        prove_mailbox(store, number, codes[other])
    assert prove_mailbox(store, number, codes[ALICE].lower().replace("-", " ")).state == "waiting"


def test_codes_are_not_in_the_database_or_the_log(store: Store, tmp_path: Path) -> None:
    _, codes = submitted(store)
    letters = codes[ALICE].replace("-", "").encode()
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert len(letters) == 24
    assert letters not in content
    assert codes[ALICE].encode() not in content


def test_five_wrong_codes_spend_the_right_one(store: Store) -> None:
    number, codes = submitted(store)
    for _ in range(5):
        with pytest.raises(PolicyError, match="not the code of any address"):
            prove_mailbox(store, number, "AAAAAA-AAAAAA-AAAAAA-AAAAAA")
    with pytest.raises(PolicyError, match="tried too often"):
        prove_mailbox(store, number, codes[ALICE])
    assert actions(store).count("wrong code told") == 5
    fresh = new_codes(store, number)
    with pytest.raises(PolicyError, match="not the code"):
        prove_mailbox(store, number, codes[ALICE])
    assert prove_mailbox(store, number, fresh[ALICE]).state == "waiting"


def test_an_expired_code_is_refused(store: Store) -> None:
    number, codes = submitted(store)
    with store.writing() as connection:
        connection.execute(update(MAILBOX_PROOFS).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    with pytest.raises(PolicyError, match="expired"):
        prove_mailbox(store, number, codes[ALICE])


def test_no_mailbox_is_filled_with_codes(store: Store) -> None:
    number, _ = submitted(store)
    for _ in range(4):
        new_codes(store, number)
    with pytest.raises(PolicyError, match="no more are"):
        new_codes(store, number)


@pytest.mark.parametrize("approver", [ALICE, "ALICE@acme.example", "desk"])
def test_nobody_approves_a_request_of_their_own(store: Store, approver: str) -> None:
    number = waiting(store)
    with pytest.raises(PolicyError, match="does not approve it"):
        approve_request(store, number, actor=approver)
    assert get_request(store, number).state == "waiting"


def test_a_request_is_not_approved_before_its_address_is_proved(store: Store) -> None:
    number, _ = submitted(store)
    with pytest.raises(UsageError, match="is unproved, and not waiting"):
        approve_request(store, number, actor="carol")


def test_the_certificate_of_a_ca_needs_two_people(store: Store, authority: Authority) -> None:
    profile = load_profile("subordinate-ca")
    encoded = csr(subject="CN=Acme Staff CA,O=Acme,C=CH")
    request, codes = submit_request(store, encoded, "acme", profile, requester="bob", submitter="bob")
    assert codes == {}
    assert approve_request(store, request.id, actor="carol").state == "waiting"
    with pytest.raises(PolicyError, match="has approved request 1 already"):
        approve_request(store, request.id, actor="Carol")
    with pytest.raises(UsageError, match="is waiting, and not"):
        issue_for_request(store, request.id, authority, CA_KEY, profile)
    assert approve_request(store, request.id, actor="alice").state == "approved"
    assert issue_for_request(store, request.id, authority, CA_KEY, profile).certificate.is_ca


def test_a_rejected_request_stays_rejected(store: Store, authority: Authority) -> None:
    number = waiting(store)
    approve_request(store, number, actor="carol")
    assert reject_request(store, number, " left the firm ", actor="carol").reason == "left the firm"
    with pytest.raises(UsageError, match="is rejected"):
        issue_for_request(store, number, authority, CA_KEY, PROFILE)
    with pytest.raises(UsageError, match="is rejected"):
        approve_request(store, number, actor="bob")
    with pytest.raises(UsageError, match="is rejected"):
        reject_request(store, number, "again")
    assert issued_rows(store) == 0
    assert list_requests(store) == []
    assert [one.id for one in list_requests(store, finished=True)] == [number]


def test_issuing_again_gives_the_same_certificate(store: Store, authority: Authority) -> None:
    number = waiting(store)
    approve_request(store, number, actor="carol")
    first = issue_for_request(store, number, authority, CA_KEY, PROFILE)
    again = issue_for_request(store, number, authority, CA_KEY, PROFILE)
    assert first.certificate == again.certificate
    assert issued_rows(store) == 1


def test_an_address_that_was_proved_long_ago_is_not_certified(store: Store, authority: Authority) -> None:
    number = waiting(store)
    approve_request(store, number, actor="carol")
    with store.writing() as connection:
        connection.execute(update(MAILBOX_PROOFS).values(proved_at=datetime.now(UTC) - timedelta(days=31)))
    with pytest.raises(PolicyError, match="too long ago"):
        issue_for_request(store, number, authority, CA_KEY, PROFILE)
    assert get_request(store, number).state == "approved"


def test_a_request_is_issued_by_the_ca_and_profile_that_were_approved(
    store: Store, authority: Authority
) -> None:
    number = waiting(store)
    approve_request(store, number, actor="carol")
    with pytest.raises(UsageError, match="profile smime-mailbox-strict"):
        issue_for_request(store, number, authority, CA_KEY, load_profile("subordinate-ca"))
    assert issued_rows(store) == 0


def test_what_the_profile_refuses_leaves_the_request_approved(store: Store, authority: Authority) -> None:
    number = waiting(store)
    approve_request(store, number, actor="carol")
    with pytest.raises(PolicyError, match="does not allow 9999 days"):
        issue_for_request(store, number, authority, CA_KEY, PROFILE, days=9999)
    with pytest.raises(UsageError):
        issue_for_request(store, number, authority, new_key(), PROFILE)  # the key of somebody else
    assert get_request(store, number).state == "approved"
    assert issued_rows(store) == 0


def test_what_could_never_be_issued_is_refused_when_it_is_submitted(store: Store) -> None:
    with pytest.raises(MalformedError):
        submit_request(store, b"hello", "acme", PROFILE)
    broken = bytearray(certificate_request(new_key(), f"CN={ALICE}", [ALICE], encoding=Encoding.DER))
    broken[-1] ^= 1  # in the signature
    with pytest.raises(BadSignatureError):
        submit_request(store, bytes(broken), "acme", PROFILE)
    with pytest.raises(UsageError, match="asks for none"):
        submit_request(store, csr(subject="CN=Alice"), "acme", PROFILE)
    with pytest.raises(PolicyError, match="does not allow"):
        submit_request(store, csr(ALICE, subject=f"CN={ALICE},O=Acme"), "acme", PROFILE)
    with pytest.raises(UsageError, match="10 is the most"):
        submit_request(store, csr(*(f"a{number}@acme.example" for number in range(11))), "acme", PROFILE)
    with pytest.raises(UsageError, match="no name of a person"):
        submit_request(store, csr(ALICE), "acme", PROFILE, requester="Alice\nof Acme")
    assert list_requests(store, finished=True) == []


def test_a_request_that_is_open_is_not_taken_twice(store: Store) -> None:
    encoded = csr(ALICE)
    first, _ = submit_request(store, encoded, "acme", PROFILE)
    with pytest.raises(UsageError, match=f"this is request {first.id} already"):
        submit_request(store, encoded, "acme", PROFILE)
    reject_request(store, first.id, "no")
    second, _ = submit_request(store, encoded, "acme", PROFILE)
    assert second.id != first.id


def test_the_log_has_the_account_beside_the_name(store: Store) -> None:
    number = waiting(store)
    approve_request(store, number, actor="carol")
    last = list(changes(store))[-1]
    assert (last.actor, last.action) == ("carol", "request approved")
    assert last.details["account"]


def _issue(place: str, number: int) -> None:
    with Store(place) as store:
        issue_for_request(store, number, open_authority(store), CA_KEY, PROFILE)


def _issue_and_die(place: str, number: int, step: int) -> None:
    """Issue in a process that is killed at a step: before a transaction, before or after the signature."""
    left = step

    def count() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    class Mortal(SoftwareSigner):
        def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
            count()
            signature = super().sign(message, scheme)
            count()
            return signature

    class MortalStore(Store):
        def writing(self) -> AbstractContextManager[Connection]:
            count()
            return super().writing()

    with MortalStore(place) as store:
        issue_for_request(store, number, open_authority(store), Mortal(CA_KEY.key), PROFILE)


def _started(store: Store, work: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    store.close()  # a process that forks shares no connection
    process = multiprocessing.get_context("fork").Process(target=work, args=(store.place, *arguments))
    process.start()
    return process  # type: ignore[return-value]


def _only_certificate(store: Store, number: int) -> None:
    """See that the request has one certificate, whoever asks for it."""
    authority = open_authority(store)
    issued = issue_for_request(store, number, authority, CA_KEY, PROFILE)
    again = issue_for_request(store, number, authority, CA_KEY, PROFILE)
    rows = [one for one in authority.certificates() if one.request_id == f"ra:{number}"]
    assert [one.certificate for one in rows if one.certificate] == [issued.certificate]
    assert again.certificate == issued.certificate
    assert get_request(store, number).state == "issued"


def test_a_process_that_dies_at_any_step_issues_nothing_twice(each_store: Store) -> None:
    exit_codes = []
    for step in range(12):
        number = waiting(each_store)
        approve_request(each_store, number, actor="carol")
        process = _started(each_store, _issue_and_die, number, step)
        process.join(60)
        exit_codes.append(process.exitcode)
        _only_certificate(each_store, number)
        if process.exitcode == 0:
            break
    assert exit_codes == [-signal.SIGKILL] * (len(exit_codes) - 1) + [0]
    assert len(exit_codes) > 5
    verify_store(each_store)


def test_processes_that_issue_at_once_issue_one_certificate(each_store: Store) -> None:
    number = waiting(each_store)
    approve_request(each_store, number, actor="carol")
    processes = [_started(each_store, _issue, number) for _ in range(3)]
    for process in processes:
        process.join(60)
        assert process.exitcode in {0, 1}  # 1: another process took the request over
    _only_certificate(each_store, number)
    assert actions(each_store).count("request fulfilled") == 1
    verify_store(each_store)


def test_two_people_at_once_are_two_approvals(each_store: Store) -> None:
    profile = load_profile("subordinate-ca")
    encoded = csr(subject="CN=Acme Staff CA,O=Acme,C=CH")
    request, _ = submit_request(each_store, encoded, "acme", profile, requester="bob", submitter="bob")
    processes = [_started(each_store, _approve, request.id, name) for name in ("alice", "carol")]
    for process in processes:
        process.join(60)
    found = get_request(each_store, request.id)
    assert (found.state, sorted(found.approvers)) == ("approved", ["alice", "carol"])
    verify_store(each_store)


def _approve(place: str, number: int, name: str) -> None:
    with Store(place) as store:
        approve_request(store, number, actor=name)
