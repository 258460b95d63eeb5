"""What the service does for whoever may, as clients see it; its signatures are verified by others."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from service_place import digest_of, openssl_verify

from tokensign.cms.encrypt import encrypt
from tokensign.errors import FileError
from tokensign.service.documents import KEPT_MAXIMUM
from tokensign.service.problems import problem_of

if TYPE_CHECKING:
    from pathlib import Path

    from service_place import Answer, RunningService

    from tokensign.service.lanes import LaneKey

KINDS = ("rsa:2048", "ec:p256")
ALL_KINDS = (*KINDS, "ed25519")


def lane_key(service: RunningService, label: str) -> LaneKey:
    return service.context.lanes.keys()[service.key(label)]


def verify_raw(key: LaneKey, signature: bytes, message: bytes) -> None:
    """By cryptography; raises where it does not hold."""
    match key.public_key:
        case rsa.RSAPublicKey() as public_key:
            public_key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        case ec.EllipticCurvePublicKey() as public_key:
            public_key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        case ed25519.Ed25519PublicKey() as public_key:
            public_key.verify(signature, message)
        case _:
            pytest.fail("no such key is expected")


def signatures(answer: Answer) -> list[bytes]:
    assert answer.status == 200, answer.body
    return [base64.b64decode(one["signature"]) for one in answer.json["results"]]


class TestSignatures:
    @pytest.mark.parametrize("kind", KINDS)
    def test_signature_over_a_digest_verifies(self, service: RunningService, kind: str) -> None:
        (signature,) = signatures(service.sign(kind))
        verify_raw(lane_key(service, kind), signature, b"hello")

    def test_ed25519_signs_the_message_itself(self, service: RunningService) -> None:
        message = base64.b64encode(b"hello").decode()
        (signature,) = signatures(service.sign("ed25519", messages=[message]))
        verify_raw(lane_key(service, "ed25519"), signature, b"hello")

    @pytest.mark.parametrize("kind", KINDS)
    def test_detached_cms_over_a_digest_verifies_with_openssl(
        self, service: RunningService, kind: str, tmp_path: Path
    ) -> None:
        (message,) = signatures(service.sign(kind, form="cms"))
        openssl_verify(tmp_path, lane_key(service, kind).certificate, message, b"hello")

    @pytest.mark.parametrize("form", ["raw", "cms"])
    def test_results_of_a_hundred_stand_in_the_order_of_the_digests(
        self, service: RunningService, form: str, tmp_path: Path
    ) -> None:
        contents = [str(number).encode() for number in range(100)]
        found = signatures(
            service.sign("ec:p256", form=form, digests=[digest_of(content) for content in contents])
        )
        assert len(found) == 100
        key = lane_key(service, "ec:p256")
        for position in (0, 57, 99):
            if form == "raw":
                verify_raw(key, found[position], contents[position])
            else:
                openssl_verify(tmp_path, key.certificate, found[position], contents[position])

    def test_dry_run_signs_and_records_nothing(self, service: RunningService) -> None:
        before = service.ask("GET", "/v1/audit/entries").json["size"]
        answer = service.sign("rsa:2048", dry_run=True)
        assert (answer.status, answer.json["results"]) == (200, [])
        assert service.ask("GET", "/v1/audit/entries").json["size"] == before

    @pytest.mark.parametrize(
        ("wanted", "pointer"),
        [
            ({"digests": ["not base64!"]}, "#/digests/0"),
            ({"digests": [digest_of(b"", "sha256"), digest_of(b"", "sha512")]}, "#/digests/1"),
            ({"digests": []}, "#/digests"),
            ({"digests": [digest_of(b"")] * 101}, "#/digests"),
            ({"digests": [digest_of(b"")], "surprise": 1}, "#/surprise"),
            ({"digests": [digest_of(b"")], "messages": ["aGVsbG8="]}, "#"),
            ({"digests": [digest_of(b"")], "form": "pdf"}, "#/form"),
        ],
    )
    def test_wrong_field_is_pointed_at(
        self, service: RunningService, wanted: dict[str, Any], pointer: str
    ) -> None:
        answer = service.sign("rsa:2048", **wanted)
        assert (answer.status, answer.problem) == (422, "invalid")
        assert answer.json["errors"][0]["pointer"] == pointer
        assert "not base64!" not in answer.body.decode()

    def test_digest_for_a_scheme_that_hashes_nothing_is_refused(self, service: RunningService) -> None:
        assert service.sign("ed25519", digests=[digest_of(b"", "sha512")]).problem == "invalid"

    def test_scheme_that_the_key_does_not_do_is_refused(self, service: RunningService) -> None:
        answer = service.sign("ec:p256", scheme="rsa-pkcs1-sha256")
        assert (answer.status, answer.problem) == (422, "unsupported")
        assert "ecdsa-sha256" in answer.json["detail"]

    def test_scheme_can_be_chosen(self, service: RunningService) -> None:
        answer = service.sign("rsa:2048", scheme="rsa-pss-sha384", digests=[digest_of(b"hello", "sha384")])
        (signature,) = signatures(answer)
        public_key = lane_key(service, "rsa:2048").public_key
        assert isinstance(public_key, rsa.RSAPublicKey)
        pss = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
        public_key.verify(signature, b"hello", pss, hashes.SHA384())

    def test_each_use_is_on_record_before_and_after(self, service: RunningService) -> None:
        before = service.ask("GET", "/v1/audit/entries").json["size"]
        (signature,) = signatures(service.sign("ec:p256"))
        entries = service.ask("GET", f"/v1/audit/entries?start={before}").json["entries"]
        intent, outcome = (json.loads(one["leaf"]) for one in entries)
        assert intent["intent"] == {"digests": [digest_of(b"hello")], "form": "raw", "scheme": "ecdsa-sha256"}
        assert (intent["principal"]["name"], intent["key"]) == ("alice", service.key("ec:p256"))
        assert outcome["intent"] == before
        assert outcome["outcome"]["results"] == [f"sha256:{hashlib.sha256(signature).hexdigest()}"]


class TestIdempotency:
    def test_repeated_request_gets_the_same_answer_and_is_done_once(self, service: RunningService) -> None:
        headers = {"Idempotency-Key": "repeated"}
        first = service.sign("ec:p256", headers=headers)
        size = service.ask("GET", "/v1/audit/entries").json["size"]
        again = service.sign("ec:p256", headers=headers)
        assert again.body == first.body
        assert again.headers["idempotency-replayed"] == "true"
        assert service.ask("GET", "/v1/audit/entries").json["size"] == size

    @pytest.mark.parametrize("label", ["ec:p256", "rsa:2048"])
    def test_same_key_with_another_body_or_another_target_is_refused(
        self, service: RunningService, label: str
    ) -> None:
        headers = {"Idempotency-Key": f"bound-to-{label}"}
        assert service.sign("ec:p256", headers=headers).status == 200
        other = [digest_of(b"other")] if label == "ec:p256" else [digest_of(b"hello")]
        answer = service.sign(label, digests=other, headers=headers)
        assert (answer.status, answer.problem) == (422, "other-body")

    def test_key_belongs_to_a_principal(self, service: RunningService) -> None:
        headers = {"Idempotency-Key": "shared"}
        first = service.sign("ec:p256", "alice", headers=headers)
        second = service.sign("ec:p256", "bob", headers=headers)
        assert second.status == 200
        assert second.body != first.body

    def test_answer_that_was_not_kept_is_not_made_again(self, service: RunningService) -> None:
        headers = {"Idempotency-Key": "large"}
        path = f"/v1/keys/{service.key('rsa:2048')}/cms?attached=true"
        content = bytes(KEPT_MAXIMUM)
        kind = "application/octet-stream"
        assert service.ask("POST", path, content, media_type=kind, headers=headers).status == 200
        again = service.ask("POST", path, content, media_type=kind, headers=headers)
        assert (again.status, again.headers["content-type"]) == (409, "application/problem+json")
        assert again.json["type"] == "urn:tokensign:problem:answer-not-kept"


class TestCms:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("attached", ["false", "true"])
    def test_document_is_signed(
        self, service: RunningService, kind: str, attached: str, tmp_path: Path
    ) -> None:
        content = b"a document\n" * 10_000
        path = f"/v1/keys/{service.key(kind)}/cms?attached={attached}"
        answer = service.ask("POST", path, content, media_type="application/octet-stream")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/cms")
        key = lane_key(service, kind)
        assert (
            openssl_verify(tmp_path, key.certificate, answer.body, None if attached == "true" else content)
            == content
        )

    def test_document_that_is_too_large_is_refused(
        self, service: RunningService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service.context.documents, "_size", 1000)
        path = f"/v1/keys/{service.key('rsa:2048')}/cms"
        answer = service.ask("POST", path, bytes(1001), media_type="application/octet-stream")
        assert (answer.status, answer.problem) == (413, "too-large")

    def test_level_without_a_timestamp_authority_is_refused(self, service: RunningService) -> None:
        path = f"/v1/keys/{service.key('rsa:2048')}/cms?level=b-t"
        answer = service.ask("POST", path, b"x", media_type="application/octet-stream")
        assert (answer.status, answer.problem) == (422, "unsupported")

    def test_too_many_documents_are_sent_away_at_once(
        self, service: RunningService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service.context.documents, "_free", 0)
        path = f"/v1/keys/{service.key('rsa:2048')}/cms"
        answer = service.ask("POST", path, b"x", media_type="application/octet-stream")
        assert (answer.status, answer.problem) == (429, "busy")
        assert int(answer.headers["retry-after"]) > 0


class TestDecryptions:
    def decrypt(self, service: RunningService, label: str, message: bytes) -> Answer:
        path = f"/v1/keys/{service.key(label)}/decryptions"
        return service.ask("POST", path, message, media_type="application/cms")

    def message(self, service: RunningService, label: str, content: bytes) -> bytes:
        certificate = lane_key(service, label).certificate
        assert certificate is not None
        output = io.BytesIO()
        encrypt(io.BytesIO(content), [certificate], output)
        return output.getvalue()

    @pytest.mark.parametrize("kind", KINDS)
    def test_content_comes_out(self, service: RunningService, kind: str) -> None:
        answer = self.decrypt(service, kind, self.message(service, kind, b"secret"))
        assert (answer.status, answer.body) == (200, b"secret")
        assert answer.headers["tokensign-authenticated"] == "yes"

    def test_every_failure_looks_the_same(self, service: RunningService) -> None:
        good = self.message(service, "rsa:2048", b"secret")
        damaged = good[:-1] + bytes([good[-1] ^ 1])
        middle = good.index(b"\x04\x82\x01\x00") + 50
        wrong_key = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
        for_another = self.message(service, "ec:p256", b"secret")
        answers = []
        for message in (damaged, wrong_key, for_another, b"nonsense", b""):
            answer = self.decrypt(service, "rsa:2048", message)
            assert (answer.status, answer.problem) == (422, "not-decrypted")
            told = dict(answer.json)
            del told["request_id"]
            answers.append(told)
        assert all(told == answers[0] for told in answers)
        assert "detail" not in answers[0]

    def test_content_is_kept_for_nobody(self, service: RunningService) -> None:
        message = self.message(service, "rsa:2048", b"the secret of Bob")
        path = f"/v1/keys/{service.key('rsa:2048')}/decryptions"
        headers = {"Idempotency-Key": "once"}
        kind = "application/cms"
        assert service.ask("POST", path, message, media_type=kind, headers=headers).status == 200
        assert service.ask("POST", path, message, media_type=kind, headers=headers).status == 409
        for file in service.place.folder.glob("service.sqlite*"):
            assert b"the secret of Bob" not in file.read_bytes()


def part(disposition: str, content: bytes) -> bytes:
    """A part of a form (RFC 7578)."""
    return f"--BOUNDARY\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode() + content + b"\r\n"


class TestVerifications:
    def verify(self, service: RunningService, fields: dict[str, str], **files: bytes) -> Answer:
        body = b"".join(
            [part(f'name="{name}"; filename="{name}"', content) for name, content in files.items()]
            + [part(f'name="{name}"', value.encode()) for name, value in fields.items()]
        )
        kind = "multipart/form-data; boundary=BOUNDARY"
        return service.ask("POST", "/v1/verifications", body + b"--BOUNDARY--\r\n", media_type=kind)

    def test_good_and_bad_are_told_apart(self, service: RunningService) -> None:
        path = f"/v1/keys/{service.key('rsa:2048')}/cms"
        signature = service.ask("POST", path, b"hello", media_type="application/octet-stream").body
        good = self.verify(service, {}, signature=signature, content=b"hello")
        assert (good.status, good.json["holds"]) == (200, True)
        bad = self.verify(service, {}, signature=signature, content=b"other")
        assert (bad.status, bad.json["holds"]) == (200, False)
        assert bad.json["report"]["holds"] is False

    def test_what_is_no_signature_is_refused(self, service: RunningService) -> None:
        assert self.verify(service, {}, signature=b"nonsense").problem == "invalid"
        assert self.verify(service, {}, content=b"hello").problem == "invalid"
        assert self.verify(service, {"moment": "soon"}, signature=b"x").problem == "invalid"


class TestKeys:
    def test_each_sees_the_keys_it_may_use(self, service: RunningService) -> None:
        own = {key["id"]: key["operations"] for key in service.ask("GET", "/v1/keys").json["keys"]}
        assert own == {service.key(kind): ["sign", "cms", "decrypt", "jobs"] for kind in ALL_KINDS}
        bobs = service.ask("GET", "/v1/keys", who="bob").json["keys"]
        assert [(key["id"], key["operations"]) for key in bobs] == [(service.key("ec:p256"), ["sign"])]

    def test_key_is_described(self, service: RunningService) -> None:
        document = service.ask("GET", f"/v1/keys/{service.key('ec:p256')}").json
        assert (document["type"], document["state"]) == ("ec:p256", "up")
        assert "ecdsa-sha256" in document["schemes"]
        certificate = lane_key(service, "ec:p256").certificate
        assert certificate is not None
        assert document["certificate"] == certificate.pem()

    def test_key_that_is_not_there_is_told_only_to_who_might_use_it(self, service: RunningService) -> None:
        assert service.ask("GET", "/v1/keys/lane/nobody").problem == "not-found"
        assert service.ask("GET", "/v1/keys/lane/nobody", who="bob").problem == "forbidden"
        hidden = service.ask("GET", f"/v1/keys/{service.key('rsa:2048')}", who="bob")
        assert hidden.problem == "forbidden"


class TestHealth:
    def test_live_ready_and_monitor(self, service: RunningService) -> None:
        assert service.ask("GET", "/livez", who=None).json == {"status": "alive"}
        ready = service.ask("GET", "/readyz", who=None)
        assert (ready.status, ready.json["ready"]) == (200, True)
        monitored = service.ask("GET", "/v1/monitor")
        assert monitored.json["key"] == service.key("ec:p256")
        assert service.ask("GET", "/v1/monitor", who=None).status == 401


def test_metrics_count_requests_and_signatures(service: RunningService) -> None:
    def counted(name: str, **labels: str) -> float:
        return service.context.telemetry.registry.get_sample_value(name, labels) or 0.0

    route = {"method": "POST", "route": "/v1/keys/{key}/signatures"}
    signed = {"lane": service.place.token.label, "operation": "sign", "result": "succeeded"}
    requests = counted("tokensign_requests_total", **route, status="200")
    operations = counted("tokensign_operations_total", **signed)
    assert service.sign("ec:p256", digests=[digest_of(b"")] * 3).status == 200
    deadline = time.monotonic() + 60  # an answer is counted when it has left, a moment after it is there
    while counted("tokensign_requests_total", **route, status="200") < requests + 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert counted("tokensign_requests_total", **route, status="200") == requests + 1
    assert counted("tokensign_operations_total", **signed) == operations + 3
    assert counted("tokensign_request_seconds_count", **route) > 0
    assert counted("tokensign_lane_up", lane=service.place.token.label) == 1


class TestProblems:
    def test_service_that_has_no_database_tells_when_to_ask_again(self) -> None:
        answer = problem_of(FileError("the database is away")).response()
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert b"away" not in answer.body

    def test_unknown_path_and_method(self, service: RunningService) -> None:
        assert service.ask("GET", "/nowhere").problem == "not-found"
        assert "reason" not in service.log[-1]  # a stranger's mistake is no bug
        answer = service.ask("DELETE", "/v1/keys")
        assert (answer.status, answer.problem) == (405, "method-not-allowed")

    def test_body_of_another_type_or_too_large(self, service: RunningService) -> None:
        path = f"/v1/keys/{service.key('rsa:2048')}/signatures"
        assert service.ask("POST", path, b"{}", media_type="text/plain").problem == "media-type"
        assert service.ask("POST", path, b"{" * 300_000).problem == "too-large"
        assert service.ask("POST", path, b"{nonsense").problem == "invalid"
