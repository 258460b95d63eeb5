"""Each door is closed to each who may not pass: nobody, strangers, those whose time is over, other grants."""

from __future__ import annotations

import json
import secrets
import ssl
import time
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from joserfc import jwk, jwt
from service_place import ClientCa, ServicePlace, digest_of, running_service

from tokensign.service import permissions
from tokensign.service.granting import revoke_grant
from tokensign.service.identities import add_identity, revoke_api_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lane_places import TokenPlace
    from service_place import Answer, RunningService

ALICE = x509.UniformResourceIdentifier("urn:acme:alice")
KEY = "ec:p256"

ISSUER = "https://login.acme.example"
PROVIDER = jwk.ECKey.generate_key("P-256", {"kid": "provider"})
SIGN = json.dumps({"digests": [digest_of(b"")]}).encode()
JOB = json.dumps({"key": "KEY", "digests": [digest_of(b"")]}).encode()
DOORS = {  # operation: method, path, media type and body
    "sign": ("POST", "/v1/keys/{key}/signatures", "application/json", SIGN),
    "cms": ("POST", "/v1/keys/{key}/cms", "application/octet-stream", b"hello"),
    "decrypt": ("POST", "/v1/keys/{key}/decryptions", "application/cms", b"nonsense"),
    "jobs": ("POST", "/v1/jobs", "application/json", JOB),
    "verify": ("POST", "/v1/verifications", "multipart/form-data; boundary=x", b"--x--\r\n"),
    "audit": ("GET", "/v1/audit/entries", "", b""),
}
OPEN = {"sign": 200, "cms": 200, "decrypt": 422, "jobs": 202, "verify": 422, "audit": 200}


def knock(service: RunningService, operation: str, who: str | None) -> Answer:
    method, path, media_type, body = DOORS[operation]
    path, body = path.format(key=service.key(KEY)), body.replace(b"KEY", service.key(KEY).encode())
    return service.ask(method, path, body or None, who=who, media_type=media_type)


@pytest.fixture(scope="module")
def guarded(
    furnished_token: TokenPlace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    """A service for which each operation is granted to somebody who may do only that."""
    folder = tmp_path_factory.mktemp("guarded")
    token = furnished_token.copy(folder / "token")
    place = ServicePlace(folder, token)
    place.clients.revoke(place.clients.issue("revoked", ALICE))
    place.clients.issue("expired", ALICE, days=(-9, -1))
    place.clients.issue("unknown", x509.UniformResourceIdentifier("urn:acme:unknown"))
    place.clients.issue("urn:acme:alice", x509.DNSName("alice"))  # her name is only in the subject
    ClientCa(folder, "another-ca").issue("stranger", ALICE)
    place.grant("alice", "*", "sign", "cms", "decrypt")
    for operation in DOORS:
        place.bearer(f"only-{operation}")
        place.grant(f"only-{operation}", "*", operation)
    keys = jwk.KeySet([PROVIDER]).as_dict(private=False)
    (folder / "jwks.json").write_text(json.dumps(keys))
    oidc = {"issuer": ISSUER, "audience": "tokensign", "jwks": "jwks.json"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(token.configuration))
        patch.setattr(permissions, "STALENESS", 0.0)  # so that tests need not wait
        with running_service(place, tls={"client-crl": ["clients.crl"]}, oidc=oidc) as running:
            yield running


class TestGrants:
    @pytest.mark.parametrize("operation", DOORS)
    def test_door_is_open_to_the_grant_for_it_only(self, guarded: RunningService, operation: str) -> None:
        assert knock(guarded, operation, f"only-{operation}").status == OPEN[operation]
        for other in DOORS.keys() - {operation}:
            assert knock(guarded, operation, f"only-{other}").problem == "forbidden"

    @pytest.mark.parametrize("operation", DOORS)
    def test_door_is_closed_without_credentials(self, guarded: RunningService, operation: str) -> None:
        answer = knock(guarded, operation, None)
        assert (answer.status, answer.problem) == (401, "unauthenticated")
        assert "detail" not in answer.json

    def test_grant_for_one_key_opens_no_other(self, guarded: RunningService) -> None:
        guarded.place.bearer("one-key")
        guarded.place.grant("one-key", guarded.key(KEY), "sign")
        assert guarded.sign(KEY, "one-key").status == 200
        assert guarded.sign("rsa:2048", "one-key").problem == "forbidden"

    def test_grant_for_a_scheme_opens_no_other(self, guarded: RunningService) -> None:
        guarded.place.bearer("pss-only")
        guarded.place.grant("pss-only", "*", "sign", schemes=["rsa-pss"])
        assert guarded.sign("rsa:2048", "pss-only", scheme="rsa-pss-sha256").status == 200
        assert guarded.sign("rsa:2048", "pss-only").problem == "forbidden"

    def test_revoked_grant_closes_the_door(self, guarded: RunningService) -> None:
        guarded.place.bearer("former")
        number = guarded.place.grant("former", "*", "sign")
        assert guarded.sign(KEY, "former").status == 200
        with guarded.place.open_store() as store:
            revoke_grant(store, number)
        assert guarded.sign(KEY, "former").problem == "forbidden"

    def test_rate_is_kept_and_says_when_to_come_again(self, guarded: RunningService) -> None:
        guarded.place.bearer("hasty")
        guarded.place.grant("hasty", "*", "sign", rate="3/h")
        assert guarded.sign(KEY, "hasty", digests=[digest_of(b"")] * 3).status == 200
        answer = guarded.sign(KEY, "hasty")
        assert (answer.status, answer.problem) == (429, "rate")
        assert int(answer.headers["retry-after"]) > 60


class TestCertificates:
    def test_subject_alternative_name_is_who_somebody_is(self, guarded: RunningService) -> None:
        assert guarded.sign(KEY, "alice").status == 200
        assert guarded.sign(KEY, "urn:acme:alice").problem == "unauthenticated"
        assert guarded.sign(KEY, "unknown").problem == "unauthenticated"

    def test_revoked_certificate_is_nobodys(self, guarded: RunningService) -> None:
        assert guarded.sign(KEY, "revoked").problem == "unauthenticated"

    @pytest.mark.parametrize("who", ["expired", "stranger"])
    def test_certificate_that_leads_nowhere_ends_the_handshake(
        self, guarded: RunningService, who: str
    ) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            guarded.sign(KEY, who)

    def test_certificate_of_a_server_is_none_of_a_client(self, guarded: RunningService) -> None:
        guarded.place.clients.issue("posing", ALICE, server=True)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            guarded.sign(KEY, "posing")


class TestApiKeys:
    def test_secret_must_be_right_to_the_last_digit(self, guarded: RunningService) -> None:
        whole = guarded.place.bearer("exact")
        guarded.place.grant("exact", "*", "sign")
        assert guarded.sign(KEY, "exact").status == 200
        guarded.place.bearers["guesser"] = whole[:-1] + ("0" if whole[-1] != "0" else "1")
        assert guarded.sign(KEY, "guesser").problem == "unauthenticated"
        guarded.place.bearers["inventor"] = f"tokensign_{secrets.token_hex(8)}_{secrets.token_hex(32)}"
        assert guarded.sign(KEY, "inventor").problem == "unauthenticated"

    def test_revoked_key_opens_nothing(self, guarded: RunningService) -> None:
        whole = guarded.place.bearer("gone")
        guarded.place.grant("gone", "*", "sign")
        assert guarded.sign(KEY, "gone").status == 200
        with guarded.place.open_store() as store:
            revoke_api_key(store, whole.split("_")[1])
        assert guarded.sign(KEY, "gone").problem == "unauthenticated"

    def test_key_that_is_limited_does_no_more_than_that(self, guarded: RunningService) -> None:
        guarded.place.bearer("limited", operations=["cms"])
        guarded.place.grant("limited", "*", "sign", "cms")
        assert knock(guarded, "cms", "limited").status == 200
        assert knock(guarded, "sign", "limited").problem == "forbidden"


class TestTokens:
    def present(self, service: RunningService, key: jwk.ECKey = PROVIDER, **claims: object) -> Answer:
        now = int(time.time())
        stated = {"iss": ISSUER, "aud": "tokensign", "sub": "dave", "nbf": now, "exp": now + 60} | claims
        service.place.bearers["dave"] = jwt.encode({"alg": "ES256", "kid": "provider"}, stated, key)
        return service.sign(KEY, "dave")

    def test_token_of_the_provider_opens_what_its_subject_may(self, guarded: RunningService) -> None:
        assert self.present(guarded).problem == "unauthenticated"  # nobody is known by it yet
        with guarded.place.open_store() as store:
            add_identity(store, "dave", "subject", f"{ISSUER} dave")
        assert self.present(guarded).problem == "forbidden"
        guarded.place.grant("dave", "*", "sign")
        assert self.present(guarded).status == 200

    @pytest.mark.parametrize(
        "claims",
        [
            {"exp": 1},
            {"nbf": 1 << 33},
            {"aud": "others"},
            {"iss": "https://elsewhere.example"},
            {"sub": "eve"},
        ],
        ids=lambda claims: next(iter(claims)),
    )
    def test_token_of_another_time_place_or_person_opens_nothing(
        self, guarded: RunningService, claims: dict[str, object]
    ) -> None:
        assert self.present(guarded, **claims).problem == "unauthenticated"

    def test_token_that_somebody_else_signed_opens_nothing(self, guarded: RunningService) -> None:
        forger = jwk.ECKey.generate_key("P-256", {"kid": "provider"})
        assert self.present(guarded, forger).problem == "unauthenticated"


def test_log_tells_who_asked_for_what_and_nothing_secret(guarded: RunningService) -> None:
    answer = guarded.sign(KEY, "only-sign")
    (line,) = [one for one in guarded.log if one.get("request_id") == answer.headers["x-request-id"]]
    assert (line["principal"], line["key"], line["status"]) == ("only-sign", guarded.key(KEY), 200)
    told = str(guarded.log)
    for secret in (digest_of(b"hello"), guarded.place.token.pin.read_text(), *guarded.place.bearers.values()):
        assert secret not in told
