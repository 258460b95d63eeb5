"""The OCSP responder: what it reads, what it signs, and what it keeps."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from asn1crypto import ocsp as asn1_ocsp
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pki_serving import Pki
from software_signer import SoftwareSigner

from tokensign.authority import ocsp_service
from tokensign.authority.http_server import listening
from tokensign.authority.ocsp_responder import ANSWER_LIFE, OcspResponder, read_question
from tokensign.authority.ocsp_service import OcspService
from tokensign.authority.records import CertificateStatus, Reason, Status
from tokensign.authority.signing_queue import SIGNING_THREADS, WAITING_MAXIMUM, SigningQueue
from tokensign.certificates import Certificate
from tokensign.errors import MalformedError, SigningError, TokenRemovedError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tokensign.algorithms import SignatureScheme
    from tokensign.authority.ocsp_responder import Answer

GOOD = CertificateStatus(Status.GOOD)
UNKNOWN = CertificateStatus(Status.UNKNOWN)
YESTERDAY = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
REVOKED = CertificateStatus(Status.REVOKED, YESTERDAY, Reason.KEY_COMPROMISE)


def certify(
    name: str,
    key: object,
    issuer: SoftwareSigner | None = None,
    *,
    ca: bool = False,
    purpose: x509.ObjectIdentifier | None = None,
    days: int = 30,
) -> Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    above = x509.load_der_x509_certificate(issuer.certificate.der).subject if issuer else subject  # type: ignore[union-attr]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above)
        .public_key(key.public_key())  # type: ignore[attr-defined]
        .serial_number(x509.random_serial_number())
        .not_valid_before(YESTERDAY)
        .not_valid_after(datetime.now(UTC) + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    signing = issuer.key if issuer else key
    algorithm = None if isinstance(signing, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Certificate(builder.sign(signing, algorithm).public_bytes(Encoding.DER))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def ca() -> SoftwareSigner:
    key = ec.generate_private_key(ec.SECP256R1())
    return SoftwareSigner(key, certify("CA", key, ca=True))


def delegate(ca: SoftwareSigner, key: object | None = None, **options: object) -> SoftwareSigner:
    key = key or ec.generate_private_key(ec.SECP256R1())
    options = {"purpose": ExtendedKeyUsageOID.OCSP_SIGNING} | options
    return SoftwareSigner(key, certify("OCSP", key, ca, **options))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def responder(ca: SoftwareSigner) -> OcspResponder:
    return OcspResponder(ca.certificate, delegate(ca))  # type: ignore[arg-type]


def request(
    ca: SoftwareSigner,
    serial: int = 1,
    *extensions: x509.ExtensionType,
    sha1: bool = True,
    critical: bool = False,
) -> bytes:
    issuer = x509.load_der_x509_certificate(ca.certificate.der)  # type: ignore[union-attr]
    algorithm = hashes.SHA1() if sha1 else hashes.SHA256()  # noqa: S303 - as clients have it
    key = bytes(ca.certificate.asn1.public_key["public_key"])  # type: ignore[union-attr]
    digests = [hashes.Hash(algorithm), hashes.Hash(algorithm)]
    digests[0].update(issuer.subject.public_bytes())
    digests[1].update(key)
    names = [one.finalize() for one in digests]
    builder = ocsp.OCSPRequestBuilder().add_certificate_by_hash(names[0], names[1], serial, algorithm)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.build().public_bytes(Encoding.DER)


class TestReading:
    def test_nonce_is_found(self, ca: SoftwareSigner) -> None:
        assert read_question(request(ca)).nonce is None
        question = read_question(request(ca, 7, x509.OCSPNonce(b"n" * 32)))
        assert (question.serial_number, question.nonce) == (7, b"n" * 32)
        assert question.without_nonce == read_question(request(ca, 7))

    @pytest.mark.parametrize("size", [0, 129])
    def test_nonce_of_no_permitted_size_is_refused(self, ca: SoftwareSigner, size: int) -> None:
        with pytest.raises(MalformedError, match="nonce"):
            read_question(request(ca, 1, x509.OCSPNonce(b"n" * size)))

    def test_numbers_that_no_certificate_has_are_refused(self, ca: SoftwareSigner) -> None:
        for serial in (-1, 1 << 160):
            other = asn1_ocsp.OCSPRequest.load(request(ca, 1))
            other["tbs_request"]["request_list"][0]["req_cert"]["serial_number"] = serial
            with pytest.raises(MalformedError, match="serial number"):
                read_question(other.dump(force=True))

    def test_critical_extensions_are_not_passed_over(self, ca: SoftwareSigner) -> None:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3"), b"\x05\x00")
        assert read_question(request(ca, 1, extension)).serial_number == 1
        with pytest.raises(UnsupportedError, match=r"1\.2\.3"):
            read_question(request(ca, 1, extension, critical=True))

    def test_two_questions_at_once_are_refused(self, ca: SoftwareSigner) -> None:
        both = asn1_ocsp.OCSPRequest.load(request(ca, 1))
        both["tbs_request"]["request_list"].append(both["tbs_request"]["request_list"][0].copy())
        with pytest.raises(MalformedError, match="more than one"):
            read_question(both.dump(force=True))

    def test_unknown_hash_is_refused(self, ca: SoftwareSigner) -> None:
        other = asn1_ocsp.OCSPRequest.load(request(ca, 1))
        other["tbs_request"]["request_list"][0]["req_cert"]["hash_algorithm"]["algorithm"] = "1.2.3"
        with pytest.raises(UnsupportedError, match="hash"):
            read_question(other.dump(force=True))

    def test_damaged_requests_are_refused_and_nothing_else(self, ca: SoftwareSigner) -> None:
        whole = request(ca, 1, x509.OCSPNonce(b"n" * 16))
        for place in range(len(whole)):
            for damaged in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x21]) + whole[place + 1 :]):
                with contextlib.suppress(MalformedError, UnsupportedError):
                    read_question(damaged)


class TestSigning:
    @pytest.mark.parametrize("status", [GOOD, REVOKED, UNKNOWN])
    @pytest.mark.parametrize("sha1", [True, False])
    def test_answer_says_what_is_known(
        self, ca: SoftwareSigner, responder: OcspResponder, status: CertificateStatus, *, sha1: bool
    ) -> None:
        question = read_question(request(ca, 5, x509.OCSPNonce(b"n" * 16), sha1=sha1))
        assert responder.is_asked(question)
        answer = responder.sign(question, status)
        response = ocsp.load_der_ocsp_response(answer.encoded)
        assert response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
        assert response.certificate_status.name.lower() == status.status.value
        assert (response.serial_number, response.issuer_key_hash) == (5, question.key_hash)
        assert response.revocation_time_utc == status.revoked_at
        assert response.revocation_reason is (x509.ReasonFlags.key_compromise if status is REVOKED else None)
        assert response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 16
        assert response.next_update_utc - response.this_update_utc == ANSWER_LIFE  # type: ignore[operator]
        assert [Certificate(one.public_bytes(Encoding.DER)) for one in response.certificates] == [
            responder.certificate
        ]

    def test_reason_unspecified_is_left_out(self, ca: SoftwareSigner, responder: OcspResponder) -> None:
        status = CertificateStatus(Status.REVOKED, YESTERDAY, Reason.UNSPECIFIED)
        answer = responder.sign(read_question(request(ca)), status)
        assert ocsp.load_der_ocsp_response(answer.encoded).revocation_reason is None

    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(65537, 2048),
            ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(),
        ],
        ids=["rsa", "p384", "ed25519"],
    )
    def test_keys_of_all_types_sign(self, ca: SoftwareSigner, key: object) -> None:
        signer = delegate(ca, key)
        answer = OcspResponder(ca.certificate, signer).sign(read_question(request(ca)), GOOD)  # type: ignore[arg-type]
        response = ocsp.load_der_ocsp_response(answer.encoded)
        public = x509.load_der_x509_certificate(signer.certificate.der).public_key()  # type: ignore[union-attr]
        tampered = bytearray(response.tbs_response_bytes)
        tampered[-1] ^= 1
        verify(public, response, response.tbs_response_bytes)
        with pytest.raises(InvalidSignature):
            verify(public, response, bytes(tampered))

    def test_own_key_of_the_ca_signs_with_its_certificate(self, ca: SoftwareSigner) -> None:
        answer = OcspResponder(ca.certificate, ca).sign(read_question(request(ca)), GOOD)  # type: ignore[arg-type]
        (only,) = ocsp.load_der_ocsp_response(answer.encoded).certificates
        assert Certificate(only.public_bytes(Encoding.DER)) == ca.certificate

    def test_answers_end_with_the_certificate_of_the_responder(self, ca: SoftwareSigner) -> None:
        responder = OcspResponder(ca.certificate, delegate(ca, days=1), timedelta(days=7))  # type: ignore[arg-type]
        answer = responder.sign(read_question(request(ca)), GOOD)
        assert answer.next_update == responder.certificate.not_after
        with pytest.raises(UsageError, match="expired"):
            responder.sign(read_question(request(ca)), GOOD, datetime.now(UTC) + timedelta(days=2))

    def test_question_about_another_ca_is_not_its_own(self, responder: OcspResponder) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        other = SoftwareSigner(key, certify("CA", key, ca=True))  # of the same name
        assert not responder.is_asked(read_question(request(other)))

    def test_key_needs_a_certificate_for_ocsp_by_the_ca_itself(self, ca: SoftwareSigner) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        other = SoftwareSigner(key, certify("CA", key, ca=True))
        for signer, problem in [
            (delegate(other), "has no certificate that was issued by CA"),
            (delegate(ca, purpose=ExtendedKeyUsageOID.EMAIL_PROTECTION), "is not meant for OCSP"),
            (SoftwareSigner(key), "has no certificate that was issued by CA"),
        ]:
            with pytest.raises(UsageError, match=problem):
                OcspResponder(ca.certificate, signer)  # type: ignore[arg-type]

    def test_wrong_signature_is_not_released(self, ca: SoftwareSigner) -> None:
        class Faulty(SoftwareSigner):
            def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
                return super().sign(message + b"x", scheme)

        good = delegate(ca)
        responder = OcspResponder(ca.certificate, Faulty(good.key, good.certificate))  # type: ignore[arg-type]
        with pytest.raises(SigningError, match="does not hold"):
            responder.sign(read_question(request(ca)), GOOD)


def verify(public: object, response: ocsp.OCSPResponse, data: bytes) -> None:
    from cryptography.hazmat.primitives.asymmetric import padding

    match public:
        case rsa.RSAPublicKey():
            public.verify(response.signature, data, padding.PKCS1v15(), response.signature_hash_algorithm)  # type: ignore[arg-type]
        case ec.EllipticCurvePublicKey():
            public.verify(response.signature, data, ec.ECDSA(response.signature_hash_algorithm))  # type: ignore[arg-type]
        case ed25519.Ed25519PublicKey():
            public.verify(response.signature, data)
        case _:
            raise AssertionError(public)


@dataclass
class Register:
    """The status of certificates, as a CA would tell it."""

    name: str = "ca"
    statuses: dict[int, CertificateStatus] = field(default_factory=lambda: {1: GOOD, 2: REVOKED})
    asked: int = 0

    def status_of(self, serial: int) -> CertificateStatus:
        if serial.bit_length() > 16:  # the responder's own
            return self.statuses.get(serial, GOOD)
        self.asked += 1
        return self.statuses.get(serial, UNKNOWN)


@dataclass
class CountingSigner(SoftwareSigner):
    """Counts its signatures, and may have lost its token."""

    made: int = 0
    gone: bool = False

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        if self.gone:
            raise TokenRemovedError("the token acme was removed")
        self.made += 1
        return super().sign(message, scheme)


@dataclass
class Service:
    ocsp: OcspService
    register: Register
    signer: CountingSigner
    queue: SigningQueue

    async def status(self, encoded: bytes) -> str:
        response = ocsp.load_der_ocsp_response((await self.ocsp.reply(encoded)).encoded)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return response.response_status.name
        return response.certificate_status.name


@pytest.fixture
def served(ca: SoftwareSigner) -> Callable[[Callable[[Service], Awaitable[None]]], None]:
    """Run a test in an event loop with a service of its own."""

    def run(test: Callable[[Service], Awaitable[None]]) -> None:
        async def inside() -> None:
            good = delegate(ca)
            signer = CountingSigner(good.key, good.certificate)
            queue, register = SigningQueue(), Register()
            responder = OcspResponder(ca.certificate, signer)  # type: ignore[arg-type]
            service = OcspService([(register, responder)], queue)  # type: ignore[list-item]
            try:
                await test(Service(service, register, signer, queue))
            finally:
                queue.close()

        asyncio.run(inside())

    return run


async def ready(service: OcspService, encoded: bytes) -> Answer:
    """The answer that was signed in advance, as soon as it is."""
    while (reply := service.ready(encoded)) is None:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)
    assert reply.answer is not None
    return reply.answer


class TestService:
    def test_answers_are_kept_and_signed_once(self, ca: SoftwareSigner, served: Callable[..., None]) -> None:
        async def test(service: Service) -> None:
            replies = await asyncio.gather(*(service.ocsp.reply(request(ca, 1)) for _ in range(50)))
            assert len({reply.encoded for reply in replies}) == 1
            assert all(reply.may_be_cached for reply in replies)
            assert (service.signer.made, service.register.asked) == (1, 1)
            assert await service.status(request(ca, 2)) == "REVOKED"
            assert service.signer.made == 2

        served(test)

    def test_revocation_shows_after_the_next_look(
        self, ca: SoftwareSigner, served: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def test(service: Service) -> None:
            assert await service.status(request(ca, 1)) == "GOOD"
            service.register.statuses[1] = REVOKED
            assert await service.status(request(ca, 1)) == "GOOD"  # looked at a moment ago
            monkeypatch.setattr(ocsp_service, "LOOK_SECONDS", 0)
            assert await service.status(request(ca, 1)) == "REVOKED"
            assert await service.status(request(ca, 1)) == "REVOKED"
            assert (service.signer.made, service.register.asked) == (2, 3)  # the third look changed nothing

        served(test)

    def test_nonce_is_repeated_and_the_answer_is_for_nobody_else(
        self, ca: SoftwareSigner, served: Callable[..., None]
    ) -> None:
        async def test(service: Service) -> None:
            for number in range(2):
                nonce = x509.OCSPNonce(bytes([number]) * 16)
                reply = await service.ocsp.reply(request(ca, 1, nonce))
                response = ocsp.load_der_ocsp_response(reply.encoded)
                assert response.extensions.get_extension_for_class(x509.OCSPNonce).value == nonce
                assert not reply.may_be_cached
            assert service.signer.made == 2

        served(test)

    def test_busy_token_answers_with_what_is_kept_or_asks_for_patience(
        self, ca: SoftwareSigner, served: Callable[..., None]
    ) -> None:
        async def test(service: Service) -> None:
            assert await service.status(request(ca, 1)) == "GOOD"
            release = asyncio.Event()
            loop = asyncio.get_running_loop()

            def wait() -> None:
                asyncio.run_coroutine_threadsafe(release.wait(), loop).result(timeout=20)

            slow = [asyncio.create_task(service.queue.run(wait)) for _ in range(WAITING_MAXIMUM)]
            await asyncio.sleep(0)
            assert service.queue.is_full
            assert WAITING_MAXIMUM > SIGNING_THREADS
            assert await service.status(request(ca, 1, x509.OCSPNonce(b"n" * 16))) == "GOOD"
            assert await service.status(request(ca, 2)) == "TRY_LATER"
            release.set()
            await asyncio.gather(*slow)
            assert await service.status(request(ca, 2)) == "REVOKED"

        served(test)

    def test_strangers_cannot_fill_the_memory(
        self, ca: SoftwareSigner, served: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def test(service: Service) -> None:
            monkeypatch.setattr(ocsp_service, "KEPT_MAXIMUM", 2)
            service.register.statuses[3] = GOOD
            for serial in (1, 2, 900, 901, 3):
                await service.ocsp.reply(request(ca, serial))
            assert await service.status(request(ca, 900)) == "UNKNOWN"
            made = service.signer.made
            await service.ocsp.reply(request(ca, 3))
            await service.ocsp.reply(request(ca, 2))
            assert service.signer.made == made  # the newest two are kept
            await service.ocsp.reply(request(ca, 1))
            assert service.signer.made == made + 1

        served(test)

    def test_answers_are_signed_and_renewed_before_anybody_asks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ocsp_service, "RENEWAL_SECONDS", 0.01)
        with listening("127.0.0.1", 0) as listener:
            pki = Pki(tmp_path, listener)
            services = pki.services()
            issuer = SoftwareSigner(pki.people_key.key, pki.people.certificate)
            alice, bob = (request(issuer, pki.issue().certificate.serial_number) for _ in range(2))  # type: ignore[union-attr]
            pki.people.revoke(read_question(bob).serial_number, Reason.SUPERSEDED)

            async def test(service: OcspService) -> None:
                signing = asyncio.create_task(service.keep_signed())
                first = {encoded: await ready(service, encoded) for encoded in (alice, bob)}
                assert first[alice].status == GOOD
                assert first[bob].status.status is Status.REVOKED
                monkeypatch.setattr(ocsp_service, "_is_old", lambda _: True)
                while await ready(service, alice) == first[alice]:  # noqa: ASYNC110 - until it is renewed
                    await asyncio.sleep(0.01)
                signing.cancel()

            assert services.ocsp is not None
            asyncio.run(asyncio.wait_for(test(services.ocsp), 20))
            services.queue.close()
            pki.store.close()

    def test_lost_token_leaves_the_kept_answers(
        self,
        ca: SoftwareSigner,
        served: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async def test(service: Service) -> None:
            assert await service.status(request(ca, 1)) == "GOOD"
            service.signer.gone = True
            monkeypatch.setattr(ocsp_service, "LOOK_SECONDS", 0)
            monkeypatch.setattr(ocsp_service, "_is_old", lambda _: True)
            assert await service.status(request(ca, 1)) == "GOOD"
            assert await service.status(request(ca, 2)) == "INTERNAL_ERROR"
            service.register.statuses[1] = REVOKED
            assert await service.status(request(ca, 1)) == "INTERNAL_ERROR"  # and never good again
            service.signer.gone = False
            assert await service.status(request(ca, 1)) == "REVOKED"
            assert await service.status(request(ca, 2, x509.OCSPNonce(b"n" * 16))) == "REVOKED"

        served(test)
        assert "the token acme was removed" in caplog.text

    def test_kept_answer_is_not_given_out_after_its_end(
        self, ca: SoftwareSigner, served: Callable[..., None]
    ) -> None:
        async def test(service: Service) -> None:
            assert await service.status(request(ca, 1)) == "GOOD"
            ((question, kept),) = service.ocsp._kept.items()  # noqa: SLF001 - to let its time pass
            ended = replace(kept.answer, next_update=YESTERDAY)
            service.ocsp._kept[question] = replace(kept, answer=ended)  # noqa: SLF001 - as above
            service.signer.gone = True
            assert await service.status(request(ca, 1)) == "INTERNAL_ERROR"

        served(test)

    def test_revoked_responder_answers_nothing_any_more(
        self,
        ca: SoftwareSigner,
        served: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async def test(service: Service) -> None:
            monkeypatch.setattr(ocsp_service, "LOOK_SECONDS", 0)
            assert await service.status(request(ca, 1)) == "GOOD"
            own = service.signer.certificate.serial_number  # type: ignore[union-attr]
            service.register.statuses[own] = REVOKED
            for nonce in ((), (x509.OCSPNonce(b"n" * 16),)):
                assert await service.status(request(ca, 1, *nonce)) == "INTERNAL_ERROR"
            assert service.signer.made == 1

        served(test)
        assert "is revoked by the CA ca" in caplog.text

    def test_what_it_does_not_answer_is_refused_without_a_signature(
        self, served: Callable[..., None]
    ) -> None:
        async def test(service: Service) -> None:
            key = ec.generate_private_key(ec.SECP256R1())
            other = SoftwareSigner(key, certify("Other", key, ca=True))
            assert await service.status(b"nonsense") == "MALFORMED_REQUEST"
            assert await service.status(request(other, 1)) == "UNAUTHORIZED"
            assert service.signer.made == 0

        served(test)
