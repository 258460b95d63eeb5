"""Clients that may do something, and try to do it for longer, to do more of it, or to read more."""

from __future__ import annotations

import base64
import json
import socket
import time
from typing import TYPE_CHECKING

import pytest
from service_place import digest_of

from tokensign.errors import LaneBusyError, RateError
from tokensign.service import documents, job_records, permissions
from tokensign.service.granting import GrantTerms, add_grant, revoke_grant, set_limit
from tokensign.service.grants import Grants
from tokensign.service.identities import revoke_api_key
from tokensign.service.job_records import JobRecords
from tokensign.service.permissions import Permissions
from tokensign.service.principals import Principal
from tokensign.service.routes import audit

if TYPE_CHECKING:
    import ssl

    from service_place import RunningService

    from tokensign.store import Store

DOCUMENTS = [("cms", "cms"), ("cms?attached=true", "cms"), ("decryptions", "decrypt")]
DIGEST = bytes(32)


def upload(service: RunningService, operation: str, who: str) -> ssl.SSLSocket:
    """A connection on which half of a document was sent."""
    host, port = service.address.split(":")
    plain = socket.create_connection((host, int(port)), timeout=20)
    connection: ssl.SSLSocket = service.tls(who).wrap_socket(plain, server_hostname=host)
    head = (
        f"POST /v1/keys/{service.key('rsa:2048')}/{operation} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {service.place.bearers[who]}\r\n"
        "Content-Type: application/octet-stream\r\nContent-Length: 1000\r\n\r\n"
    )
    connection.sendall(head.encode() + b"x" * 500)
    return connection


def problem_of(connection: ssl.SSLSocket) -> str:
    answer = b""
    while not answer.endswith(b"}"):
        piece = connection.recv(1 << 14)
        assert piece, answer
        answer += piece
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["type"]).removeprefix("urn:tokensign:problem:")


class TestSlowUpload:
    @pytest.mark.parametrize(("path", "operation"), DOCUMENTS)
    @pytest.mark.parametrize("taken", ["grant", "api-key"])
    def test_is_refused_when_what_allowed_it_was_revoked_meanwhile(
        self, service: RunningService, monkeypatch: pytest.MonkeyPatch, path: str, operation: str, taken: str
    ) -> None:
        monkeypatch.setattr(permissions, "STALENESS", 0.0)  # so that the test need not wait
        who = f"slow-{path[:8]}-{taken}".replace("?", "")
        whole, number = service.place.bearer(who), service.place.grant(who, "*", operation)
        before = service.ask("GET", "/v1/audit/entries").json["size"]
        with upload(service, path, who) as connection:
            time.sleep(0.2)  # until it was let in
            with service.place.open_store() as store:
                if taken == "grant":
                    revoke_grant(store, number)
                else:
                    revoke_api_key(store, whole.split("_")[1])
            connection.sendall(b"x" * 500)
            expected = "forbidden" if taken == "grant" else "unauthenticated"
            assert problem_of(connection) == expected
        entries = service.ask("GET", f"/v1/audit/entries?start={before}").json["entries"]
        assert [json.loads(one["leaf"])["kind"] for one in entries] == ["change"]

    @pytest.mark.parametrize(("path", "operation"), DOCUMENTS)
    def test_ends_although_it_never_stalls(
        self, service: RunningService, monkeypatch: pytest.MonkeyPatch, path: str, operation: str
    ) -> None:
        monkeypatch.setattr(documents, "DOCUMENT_SECONDS", 0.3)
        who = f"dripping-{path[:8]}".replace("?", "")
        service.place.bearer(who)
        service.place.grant(who, "*", operation)
        time.sleep(permissions.STALENESS)
        with upload(service, path, who) as connection:
            connection.settimeout(0.05)
            begun = time.monotonic()
            while time.monotonic() < begun + 5:
                connection.sendall(b"x")
                try:
                    assert problem_of(connection) == "timeout"
                    break
                except TimeoutError:
                    pass
            else:
                pytest.fail("it was waited for")


@pytest.mark.anyio
@pytest.mark.parametrize("named", ["acme/contracts", "acme/*", "*"])
async def test_limit_counts_for_all_keys_that_it_names(store: Store, named: str) -> None:
    for name in ("alice", "bob"):
        add_grant(store, name, GrantTerms(key="*", operations=["sign"]))
    set_limit(store, "key", named, "2/h")
    known = Permissions(store)
    await known.refresh()
    grants = Grants(known)
    grants.check(Principal("alice", "api-key"), "acme/contracts", "sign", "rsa-pss-sha256", 2)
    other = "acme/contracts" if named == "acme/contracts" else "acme/other"
    with pytest.raises(RateError):
        grants.check(Principal("bob", "api-key"), other, "sign", "rsa-pss-sha256")


class TestAuditLog:
    def test_has_no_message_that_was_signed(self, service: RunningService) -> None:
        before = service.ask("GET", "/v1/audit/entries").json["size"]
        message = base64.b64encode(b"what nobody else may read" * 40).decode()
        assert service.sign("ed25519", messages=[message] * 100).status == 200
        entries = service.ask("GET", f"/v1/audit/entries?start={before}").json["entries"]
        assert message not in str(entries)
        hashed = base64.b64decode(digest_of(base64.b64decode(message))).hex()
        assert json.loads(entries[0]["leaf"])["intent"]["messages"] == [f"sha256:{hashed}"] * 100

    def test_answer_with_entries_has_a_size_and_goes_on_where_it_ended(
        self, service: RunningService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service.sign("ec:p256")
        whole = service.ask("GET", "/v1/audit/entries?count=4").json["entries"]
        monkeypatch.setattr(audit, "_PAGE_SIZE", 1)
        monkeypatch.setattr(audit, "_READ", 2)
        first = service.ask("GET", "/v1/audit/entries?count=4").json["entries"]
        second = service.ask("GET", "/v1/audit/entries?count=4&start=2").json["entries"]
        assert first + second == whole


class TestJobs:
    def test_of_one_principal_do_not_fill_the_database(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(job_records, "WAITING_MAXIMUM", 2)
        records = JobRecords(store)
        for number in range(2):
            add_job(records, "alice", number)
        with pytest.raises(LaneBusyError):
            add_job(records, "alice", 2)
        add_job(records, "bob", 3)
        job = records.take("acme")
        assert job is not None
        records.finish(job)
        add_job(records, "alice", 4)

    @pytest.mark.anyio
    async def test_grant_for_another_scheme_does_not_carry_on_a_job(self, store: Store) -> None:
        add_grant(store, "alice", GrantTerms(key="*", operations=["jobs"], schemes=["rsa-pss"]))
        known = Permissions(store)
        await known.refresh()
        allows = Grants(known).allows
        alice = Principal("alice", "certificate")
        assert allows(alice, "acme/contracts", "jobs", "rsa-pss-sha256")
        assert not allows(alice, "acme/contracts", "jobs", "rsa-pkcs1-sha256")


def add_job(records: JobRecords, principal: str, number: int) -> None:
    terms = {
        "id": f"{number:032x}",
        "principal": principal,
        "principal_kind": "api-key",
        "key": "acme/contracts",
        "lane": "acme",
        "scheme": "rsa-pss-sha256",
        "form": "raw",
    }
    records.add(terms, [DIGEST], lambda _connection, _job: None)
