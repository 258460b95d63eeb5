"""`ca serve` as others see it: their OCSP clients, their verifiers, their caches."""

from __future__ import annotations

import base64
import ipaddress
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from pki_serving import Pki, ask, get, post, served_pki

from tokensign.algorithms import DIGESTS
from tokensign.authority import Authority, Reason, ocsp_service, publications
from tokensign.pki.http import HttpClient, Limits
from tokensign.pki.purpose import Purpose
from tokensign.pki.revocation import RevokedCertificateError
from tokensign.pki.revocation.ocsp import ocsp_request
from tokensign.pki.trust import CHAINS, TrustPolicy, validate_path
from tokensign.pki.tsa_client import TimestampAuthority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from software_signer import SoftwareSigner

    from tokensign.authority import RevocationList


LOOPBACK = (ipaddress.ip_network("127.0.0.1/32"),)


@pytest.fixture(scope="module", autouse=True)
def at_once() -> Iterator[None]:
    """Look at the database for each answer, so that tests need not wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ocsp_service, "LOOK_SECONDS", 0)
        patch.setattr(publications, "LOOK_SECONDS", 0)
        yield


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pki]:
    with served_pki(tmp_path_factory.mktemp("pki")) as served:
        yield served


def openssl(*arguments: object, code: int = 0) -> str:
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def online(pki: Pki) -> TrustPolicy:
    fetch = HttpClient(Limits(private_networks=LOOPBACK))
    return TrustPolicy((pki.root.certificate,), revocation="require", fetch=fetch)


class TestOcsp:
    def test_openssl_asks_about_good_revoked_and_unknown_ones(self, pki: Pki) -> None:
        alice, bob = pki.issue(), pki.issue()
        pki.people.revoke(bob.certificate.serial_number, Reason.KEY_COMPROMISE)
        asked = []
        for name, holder in (("alice", alice), ("bob", bob)):
            asked += ["-cert", pki.write(f"{name}.pem", holder.certificate)]
        common = ["-CAfile", pki.folder / "root.pem", "-issuer", pki.folder / "people.pem"]
        where = ["-url", pki.people.ocsp_url]
        for certificate, expected in zip(asked[1::2], ("good", "revoked"), strict=True):
            for nonce in ("-nonce", "-no_nonce"):
                said = openssl("ocsp", *where, *common, "-cert", certificate, nonce)
                assert "Response verify OK" in said
                assert f"{certificate}: {expected}" in said
        assert "Reason: keyCompromise" in said
        said = openssl("ocsp", *where, *common, "-serial", "0x1234")
        assert "0x1234: unknown" in said

    def test_root_answers_with_its_own_key(self, pki: Pki) -> None:
        root = pki.folder / "root.pem"
        certificate = pki.folder / "people.pem"
        common = ["-CAfile", root, "-issuer", root, "-cert", certificate]
        said = openssl("ocsp", "-url", pki.root.ocsp_url, *common)
        assert "Response verify OK" in said
        assert f"{certificate}: good" in said

    def test_get_gives_the_same_as_post_and_may_be_cached(self, pki: Pki) -> None:
        alice = pki.issue()
        issuer = x509.load_der_x509_certificate(pki.people.certificate.der)
        loaded = x509.load_der_x509_certificate(alice.certificate.der)
        hashed = ocsp.OCSPRequestBuilder().add_certificate(loaded, issuer, hashes.SHA1()).build()  # noqa: S303 - as clients have it
        encoded = hashed.public_bytes(Encoding.DER)
        path = urlsplit(pki.people.ocsp_url).path
        posted = post(pki, path, encoded, "application/ocsp-request")
        answer = posted.body
        text = base64.b64encode(encoded).decode()
        for form in (quote(text, safe=""), quote(text), text):
            response = get(pki, f"{path}/{form}")
            assert (response.status, response.body) == (200, answer)
            assert response.headers["Content-Type"] == "application/ocsp-response"
            assert "max-age=300, public" in response.headers["Cache-Control"]
            assert response.headers["Expires"]

    def test_nonce_is_not_cached(self, pki: Pki) -> None:
        encoded, _ = ocsp_request(pki.issue().certificate, pki.people.certificate)
        answer = post(pki, urlsplit(pki.people.ocsp_url).path, encoded, "application/ocsp-request")
        assert answer.headers["Cache-Control"] == "no-store"

    def test_our_own_verifier_asks_it(self, pki: Pki) -> None:
        alice = pki.issue()
        judge(pki, alice)
        pki.people.revoke(alice.certificate.serial_number, Reason.SUPERSEDED)
        with pytest.raises(RevokedCertificateError, match="superseded"):
            judge(pki, alice)

    def test_hold_can_be_released(self, pki: Pki) -> None:
        alice = pki.issue()
        pki.people.revoke(alice.certificate.serial_number, Reason.CERTIFICATE_HOLD)
        with pytest.raises(RevokedCertificateError):
            judge(pki, alice)
        pki.people.release(alice.certificate.serial_number)
        judge(pki, alice)

    def test_many_ask_at_once(self, pki: Pki) -> None:
        holders = [pki.issue() for _ in range(5)]
        path = urlsplit(pki.people.ocsp_url).path

        def ask_about(number: int) -> None:
            certificate = holders[number % 5].certificate
            encoded, nonce = ocsp_request(certificate, pki.people.certificate)
            answer = post(pki, path, encoded, "application/ocsp-request").body
            response = ocsp.load_der_ocsp_response(answer)
            assert response.serial_number == certificate.serial_number
            assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == nonce

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask_about, range(80)))


class TestFiles:
    def test_certificate_of_the_issuer_is_where_aia_says(self, pki: Pki) -> None:
        for authority in (pki.root, pki.people):
            response = get(pki, urlsplit(authority.issuer_url).path)
            assert response.body == authority.certificate.der
            assert response.headers["Content-Type"] == "application/pkix-cert"

    def test_openssl_verifies_with_the_crl_that_is_served(self, pki: Pki, tmp_path: Path) -> None:
        alice, bob = pki.issue(), pki.issue()
        pki.people.revoke(bob.certificate.serial_number, Reason.AFFILIATION_CHANGED)
        pki.people.crl(pki.people_key)
        pki.root.crl(pki.root_key)
        lists = []
        for authority in (pki.root, pki.people):
            response = get(pki, urlsplit(authority.crl_url()).path)
            assert response.headers["Content-Type"] == "application/pkix-crl"
            der, pem = tmp_path / f"{authority.name}.crl", tmp_path / f"{authority.name}.pem"
            der.write_bytes(response.body)
            openssl("crl", "-inform", "DER", "-in", der, "-out", pem)
            lists += ["-CRLfile", pem]
        chain = ["-CAfile", pki.folder / "root.pem", "-untrusted", pki.folder / "people.pem"]
        checks = ["-crl_check_all", "-x509_strict", *lists]
        openssl("verify", *chain, *checks, pki.write("alice.pem", alice.certificate))
        said = openssl("verify", *chain, *checks, pki.write("bob.pem", bob.certificate), code=2)
        assert "certificate revoked" in said

    def test_crl_is_of_its_own_time_while_ocsp_says_what_the_database_says(self, pki: Pki) -> None:
        alice = pki.issue()
        pki.people.crl(pki.people_key)
        path = urlsplit(pki.people.crl_url()).path
        before = get(pki, path)
        pki.people.revoke(alice.certificate.serial_number, Reason.KEY_COMPROMISE)
        assert get(pki, path).body == before.body  # nobody has signed a newer one yet
        with pytest.raises(RevokedCertificateError):
            judge(pki, alice)
        made = pki.people.crl(pki.people_key)
        assert get(pki, path).body == made != before.body

    def test_expired_crl_is_served_without_being_cached_and_told_to_the_operator(
        self, pki: Pki, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        pki.root.crl(pki.root_key)
        latest = Authority.latest_crl

        def ended(*arguments: Any, **options: Any) -> RevocationList | None:  # noqa: ANN401 - passed on
            found = latest(*arguments, **options)
            return found and replace(found, next_update=datetime.now(UTC) - timedelta(seconds=1))

        monkeypatch.setattr(Authority, "latest_crl", ended)
        answer = get(pki, urlsplit(pki.root.crl_url()).path)
        assert answer.status == 200
        assert answer.headers["Cache-Control"].startswith("max-age=0,")
        assert "ca.crl of the CA root has expired" in caplog.text

    def test_who_has_it_already_is_told_so(self, pki: Pki) -> None:
        first = get(pki, "/root/ca.cer")
        again = ask(pki, "GET", "/root/ca.cer", fields={"If-None-Match": first.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        other = ask(pki, "GET", "/root/ca.cer", fields={"If-None-Match": '"x"'})
        assert (other.status, other.body) == (200, first.body)

    def test_what_is_not_there_is_404(self, pki: Pki) -> None:
        for path in (
            "/",
            "/ca.cer",
            "/root/other.cer",
            "/pki/people/../../etc/passwd",
            "/root/1.crl",
            "/docs",
        ):
            assert get(pki, path).status == 404


class TestTimestamps:
    def test_our_own_client_gets_a_token(self, pki: Pki) -> None:
        fetch = HttpClient(Limits(private_networks=LOOPBACK))
        trust = TrustPolicy((pki.root.certificate,), Purpose.TIME_STAMPING)
        client = TimestampAuthority(url=f"{pki.url}/tsa", fetch=fetch, trust=trust)
        hashed = DIGESTS["sha256"].new(b"letter").digest()
        before = datetime.now(UTC)
        token = client.timestamp(hashed)
        token.check_digest(hashed)
        assert before <= token.info.time <= datetime.now(UTC)

    def test_openssl_asks_and_verifies(self, pki: Pki, tmp_path: Path) -> None:
        (tmp_path / "data").write_bytes(b"letter")
        query, reply = tmp_path / "q", tmp_path / "r"
        openssl("ts", "-query", "-data", tmp_path / "data", "-sha256", "-cert", "-out", query)
        answer = post(pki, "/tsa", query.read_bytes(), "application/timestamp-query")
        assert answer.headers["Content-Type"] == "application/timestamp-reply"
        reply.write_bytes(answer.body)
        files = ["-queryfile", query, "-in", reply, "-CAfile", pki.folder / "root.pem"]
        assert "Verification: OK" in openssl("ts", "-verify", *files)

    def test_nonsense_is_rejected_in_the_protocol(self, pki: Pki) -> None:
        answer = post(pki, "/tsa", b"nonsense", "application/timestamp-query")
        assert answer.status == 200
        assert b"TimeStampReq" in answer.body


def judge(pki: Pki, holder: SoftwareSigner) -> None:
    CHAINS.clear()  # what was valid a moment ago would not be asked about again
    validate_path(holder.certificate, [pki.people.certificate], online(pki), datetime.now(UTC))
