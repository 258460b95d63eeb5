"""Each door is closed to each who may not pass: nobody, strangers, those whose time is over, other grants.

Doors are the operations of the API. Each is tried by everybody in `STRANGERS` and `CLOSED`, who differ from
somebody who may pass in one thing only, and then opens for the one who may.
"""

from __future__ import annotations

import io
import json
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from service_place import ServicePlace, digest_of, running_service
from strangers import CLOSED, STRANGERS, add_known, add_strangers, settings_for_strangers

from tokensign.audit.checkpoint import make_checkpoint
from tokensign.cms.encrypt import encrypt
from tokensign.service import permissions
from tokensign.service.granting import revoke_grant
from tokensign.service.grants import OPERATIONS
from tokensign.service.identities import revoke_api_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lane_places import TokenPlace
    from service_place import Answer, RunningService

KEY = "ec:p256"
JSON = "application/json"


@dataclass(frozen=True)
class Door:
    """A request.

    Attributes:
        grants: The operations of which each opens it.
        method, path, media_type, body: The request; KEY and JOB stand for ids.
        open: The status for who may pass: 422 where it is about what the request says.
        closed: The problem for those who are known and may not pass.
    """

    grants: tuple[str, ...]
    method: str
    path: str
    media_type: str = ""
    body: str = ""
    open: int = 200
    closed: str = "forbidden"


SIGN = json.dumps({"digests": [digest_of(b"")]})
BATCH = json.dumps({"key": "KEY", "digests": [digest_of(b"")]})
DOORS = {
    "sign": Door(("sign",), "POST", "/v1/keys/KEY/signatures", JSON, SIGN),
    "cms": Door(("cms",), "POST", "/v1/keys/KEY/cms", "application/octet-stream", "hello"),
    "decrypt": Door(("decrypt",), "POST", "/v1/keys/KEY/decryptions", "application/cms", "nonsense", 422),
    "verify": Door(
        ("verify",), "POST", "/v1/verifications", "multipart/form-data; boundary=x", "--x--\r\n", 422
    ),
    "start-job": Door(("jobs",), "POST", "/v1/jobs", JSON, BATCH, 202),
    "show-job": Door(("jobs",), "GET", "/v1/jobs/JOB", closed="not-found"),
    "list-keys": Door(OPERATIONS, "GET", "/v1/keys"),  # what is in the list is told by TestKeyList
    "show-key": Door(("sign", "cms", "decrypt", "jobs"), "GET", "/v1/keys/KEY"),
    "entries": Door(("audit",), "GET", "/v1/audit/entries"),
    "checkpoint": Door(("audit",), "GET", "/v1/audit/checkpoint"),
    "proof": Door(("audit",), "GET", "/v1/audit/proof?number=0"),
    "monitor": Door(("sign",), "GET", "/v1/monitor"),
}


@dataclass(frozen=True)
class Guarded:
    """A service before which all of them stand.

    Attributes:
        service: It.
        job: The id of a job of `only-jobs`.
    """

    service: RunningService
    job: str

    def knock(
        self, door: Door, who: str | None, content: bytes | None = None, *, once: str | None = None
    ) -> Answer:
        """Ask for what a door is about, or for another content; `once` is an Idempotency-Key."""
        key, other = self.service.key(KEY), digest_of(content or b"")
        path = door.path.replace("KEY", key).replace("JOB", self.job)
        body = door.body.replace("KEY", key).replace(digest_of(b""), other).encode()
        if content is not None and door.media_type != JSON:
            body = content
        headers = {} if once is None else {"Idempotency-Key": once}
        return self.service.ask(
            door.method, path, body or None, who=who, media_type=door.media_type, headers=headers
        )

    def encrypted(self, content: bytes) -> bytes:
        """A message to the key."""
        certificate = self.service.context.lanes.keys()[self.service.key(KEY)].certificate
        assert certificate is not None
        message = io.BytesIO()
        encrypt(io.BytesIO(content), [certificate], message)
        return message.getvalue()

    def outcome(self, door: Door, who: str | None) -> str:
        """The problem with which somebody is sent away, or the status."""
        try:
            answer = self.knock(door, who)
        except (ssl.SSLError, ConnectionError):
            return "no connection"
        if answer.status == 401:
            assert "detail" not in answer.json
        return answer.problem if answer.status in {401, 403, 404} else str(answer.status)

    def outcomes(self, door: Door, everybody: Iterable[str]) -> dict[str, str]:
        """What each of them gets."""
        return {who: self.outcome(door, None if who == "nobody" else who) for who in everybody}


@pytest.fixture(scope="module")
def guarded(furnished_token: TokenPlace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    token = furnished_token.copy(folder / "token")
    place = ServicePlace(folder, token)
    add_strangers(place)
    add_known(place)
    settings = settings_for_strangers(place) | {"monitor-key": f"{token.label}/ec=3Ap256"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(token.configuration))
        patch.setattr(permissions, "STALENESS", 0.0)  # so that tests need not wait
        with running_service(place, **settings) as running:
            with place.open_store() as store:
                make_checkpoint(store, running.context.lanes.keys()[running.key(KEY)].signer())
            batch = {"key": running.key(KEY), "digests": [digest_of(b"")]}
            job = running.ask("POST", "/v1/jobs", batch, who="only-jobs").json["id"]
            yield Guarded(running, job)


class TestDoors:
    def test_all_that_the_service_describes_are_tried(self, guarded: Guarded) -> None:
        paths = guarded.service.ask("GET", "/v1/openapi.json", who=None).json["paths"]
        described = {
            (method.upper(), path)
            for path, found in paths.items()
            for method in found
            if path.startswith("/v1/")
        }
        tried = {
            (door.method, door.path.partition("?")[0].replace("KEY", "{key}").replace("JOB", "{id}"))
            for door in DOORS.values()
        }
        assert tried == described

    @pytest.mark.parametrize("name", DOORS)
    def test_strangers_are_sent_away_and_who_may_passes_afterwards(self, guarded: Guarded, name: str) -> None:
        door = DOORS[name]
        assert guarded.outcomes(door, STRANGERS) == STRANGERS
        assert guarded.knock(door, f"only-{door.grants[0]}").status == door.open

    @pytest.mark.parametrize("name", [name for name in DOORS if name != "list-keys"])
    def test_grant_opens_its_own_doors_only(self, guarded: Guarded, name: str) -> None:
        door = DOORS[name]
        by_grant = {
            f"only-{one}": str(door.open) if one in door.grants else door.closed for one in OPERATIONS
        }
        by_key = {f"api-key-for-{one}": by_grant[f"only-{one}"] for one in OPERATIONS}
        if name == "show-job":  # which is that of one of them
            by_key["api-key-for-jobs"] = door.closed
        closed = dict.fromkeys(CLOSED, door.closed)
        expected = closed | by_grant | by_key
        assert guarded.outcomes(door, expected) == expected


class TestCredentials:
    """Those of `STRANGERS` with nothing wrong about them, so that it is the difference which closes."""

    def test_certificate_is_known_by_its_subject_alternative_name(self, guarded: Guarded) -> None:
        assert guarded.knock(DOORS["sign"], "alice").status == 200

    def test_token_of_the_provider_is_known_by_its_subject(self, guarded: Guarded) -> None:
        assert guarded.knock(DOORS["sign"], "token").status == 200

    def test_api_key_opens_nothing_any_more_when_it_is_revoked(self, guarded: Guarded) -> None:
        place = guarded.service.place
        whole = place.bearer("former-api-key")
        place.grant("former-api-key", "*", "sign")
        assert guarded.outcome(DOORS["sign"], "former-api-key") == "200"
        with place.open_store() as store:
            revoke_api_key(store, whole.split("_")[1])
        assert guarded.outcome(DOORS["sign"], "former-api-key") == "unauthenticated"


class TestKeyList:
    @pytest.mark.parametrize(
        "who", [one for one in CLOSED if one != "grant-for-another-key"] + ["only-verify", "only-audit"]
    )
    def test_is_empty_for_who_may_use_no_key(self, guarded: Guarded, who: str) -> None:
        assert guarded.knock(DOORS["list-keys"], who).json == {"keys": []}

    @pytest.mark.parametrize("operation", ["sign", "cms", "decrypt", "jobs"])
    @pytest.mark.parametrize("who", ["only", "api-key-for"])
    def test_has_what_the_caller_may_do(self, guarded: Guarded, who: str, operation: str) -> None:
        keys = guarded.knock(DOORS["list-keys"], f"{who}-{operation}").json["keys"]
        assert [key["operations"] for key in keys] == [[operation]] * 3

    def test_has_no_key_that_the_grant_does_not_name(self, guarded: Guarded) -> None:
        keys = guarded.knock(DOORS["list-keys"], "grant-for-another-key").json["keys"]
        assert [key["id"] for key in keys] == [guarded.service.key("rsa:2048")]


class TestGrants:
    @pytest.mark.parametrize("name", ["sign", "cms", "start-job"])
    def test_grant_for_a_scheme_opens_no_other(self, guarded: Guarded, name: str) -> None:
        place, door = guarded.service.place, DOORS[name]
        for who, scheme in ((f"{name}-pss", "rsa-pss"), (f"{name}-ecdsa", "ecdsa-sha256")):
            place.bearer(who)
            place.grant(who, "*", *door.grants, schemes=[scheme])
        assert guarded.outcome(door, f"{name}-pss") == "forbidden"
        assert guarded.outcome(door, f"{name}-ecdsa") == str(door.open)

    @pytest.mark.parametrize("name", DOORS)
    def test_door_closes_when_the_grant_is_revoked(self, guarded: Guarded, name: str) -> None:
        place, door, who = guarded.service.place, DOORS[name], f"former-{name}"
        place.bearer(who)
        number = place.grant(who, "*", *door.grants)
        if name == "show-job":
            job = guarded.knock(DOORS["start-job"], who).json["id"]
            guarded = Guarded(guarded.service, job)
        before = guarded.knock(door, who)
        assert before.status == door.open
        with place.open_store() as store:
            revoke_grant(store, number)
        after = guarded.knock(door, who)
        if name == "list-keys":
            assert (len(before.json["keys"]), after.json["keys"]) == (3, [])
        else:
            assert after.problem == "forbidden"

    def test_rate_is_kept_and_says_when_to_come_again(self, guarded: Guarded) -> None:
        guarded.service.place.bearer("hasty")
        guarded.service.place.grant("hasty", "*", "sign", rate="3/h")
        assert guarded.service.sign(KEY, "hasty", digests=[digest_of(b"")] * 3).status == 200
        answer = guarded.service.sign(KEY, "hasty")
        assert (answer.status, answer.problem) == (429, "rate")
        assert int(answer.headers["retry-after"]) > 60


class TestIdempotencyKeys:
    @pytest.mark.parametrize("name", ["sign", "cms", "decrypt", "start-job"])
    def test_replayed_with_another_body_is_refused(self, guarded: Guarded, name: str) -> None:
        door, who = DOORS[name], f"only-{DOORS[name].grants[0]}"
        first, second = b"first", b"second"
        if name == "decrypt":
            first, second = guarded.encrypted(first), guarded.encrypted(second)
        done = {200, 202}
        assert guarded.knock(door, who, first, once=name).status in done
        answer = guarded.knock(door, who, second, once=name)
        assert (answer.status, answer.problem) == (422, "other-body")
        assert guarded.knock(door, who, second, once=f"another-{name}").status in done


def test_log_tells_who_asked_for_what_and_nothing_secret(guarded: Guarded) -> None:
    service = guarded.service
    answer = service.sign(KEY, "only-sign")
    (line,) = [one for one in service.log if one.get("request_id") == answer.headers["x-request-id"]]
    assert (line["principal"], line["key"], line["status"]) == ("only-sign", service.key(KEY), 200)
    told = str(service.log)
    for secret in (digest_of(b"hello"), service.place.token.pin.read_text(), *service.place.bearers.values()):
        assert secret not in told
