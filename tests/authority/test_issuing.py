"""Issuing: what is taken from a request, what is recorded, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from certificate_authorities import URL, private_key
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from software_signer import SoftwareSigner

from tokensign.audit.changes import changes
from tokensign.authority import (
    State,
    Status,
    load_profile,
    open_authority,
)
from tokensign.authority.requests import REQUEST_MAXIMUM
from tokensign.errors import (
    BadSignatureError,
    MalformedError,
    PolicyError,
    SigningError,
    TokenError,
    UsageError,
)

if TYPE_CHECKING:
    from certificate_authorities import People

    from tokensign.algorithms import SignatureScheme

MAILBOX = "smime-mailbox-strict"


def extension(certificate: Any, kind: type[Any]) -> Any:  # noqa: ANN401 - of any kind
    loaded = x509.load_der_x509_certificate(certificate.der)
    return loaded.extensions.get_extension_for_class(kind).value


def test_a_certificate_is_recorded_with_all_that_is_asked_later(people: People) -> None:
    issued = people.issue(request_id="7")
    (record,) = people.authority.certificates()
    assert record == issued.record == people.authority.find(issued.certificate.serial_number)
    assert record.certificate == issued.certificate
    assert (record.state, record.profile, record.request_id) == (State.ISSUED, MAILBOX, "7")
    assert (record.subject, record.emails) == ("CN=alice@acme.example", ("alice@acme.example",))
    assert (record.not_before, record.not_after) == (
        issued.certificate.not_before,
        issued.certificate.not_after,
    )
    assert issued.chain == (people.authority.certificate, people.root.certificate)
    assert people.authority.status_of(record.serial).status is Status.GOOD
    assert people.authority.status_of(record.serial + 1).status is Status.UNKNOWN
    last = list(changes(people.store))[-1]
    assert last.action == "certificate issued"
    assert last.details["sha256"] == issued.certificate.sha256.hex()


def test_a_certificate_says_where_its_status_is(people: People) -> None:
    issued = people.issue()
    points = extension(issued.certificate, x509.CRLDistributionPoints)
    assert [name.value for point in points for name in point.full_name] == [f"{URL}/ca.crl"]
    access = extension(issued.certificate, x509.AuthorityInformationAccess)
    assert {one.access_method: one.access_location.value for one in access} == {
        AuthorityInformationAccessOID.OCSP: f"{URL}/ocsp",
        AuthorityInformationAccessOID.CA_ISSUERS: f"{URL}/ca.cer",
    }


def test_serials_are_random_and_of_128_bits(local_people: People) -> None:
    serials = {local_people.issue().certificate.serial_number for _ in range(20)}
    assert len(serials) == 20
    assert 120 <= max(serials).bit_length() <= 129


def test_nothing_but_names_is_taken_from_a_request(local_people: People) -> None:
    key = private_key("ec:p256")
    everything = x509.KeyUsage(True, True, True, True, False, True, True, False, False)  # noqa: FBT003 - its own
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice@acme.example")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(everything, critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier("2.5.29.37.0")]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name("alice@acme.example")]), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    certificate = local_people.authority.issue(
        local_people.signer, request, load_profile(MAILBOX)
    ).certificate
    assert not certificate.is_ca
    assert certificate.key_usage == {"digital_signature", "key_agreement"}
    assert certificate.extended_key_usage == {"email_protection"}
    names = extension(certificate, x509.SubjectAlternativeName)
    assert [name.value for name in names] == ["alice@acme.example"]


def test_what_the_ca_says_goes_before_what_the_request_says(local_people: People) -> None:
    issued = local_people.issue(subject="CN=bob@acme.example", emails=("bob@acme.example",), days=10)
    assert (issued.certificate.subject, issued.certificate.emails) == (
        "CN=bob@acme.example", ("bob@acme.example",),
    )  # fmt: skip
    assert issued.certificate.not_after - issued.certificate.not_before == timedelta(days=10, seconds=-1)


def test_a_request_that_its_key_did_not_sign_is_refused(local_people: People) -> None:
    request = x509.load_pem_x509_csr(local_people.request())
    other = private_key("ec:p256", 9).public_key()
    encoded = request.public_bytes(Encoding.DER).replace(
        request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )
    with pytest.raises(BadSignatureError, match="not signed by its own key"):
        local_people.authority.issue(local_people.signer, encoded, load_profile(MAILBOX))


@pytest.mark.parametrize(
    "encoded", [b"", b"\x30\x00", b"-----BEGIN CERTIFICATE REQUEST-----\n", bytes(REQUEST_MAXIMUM + 1)]
)
def test_what_is_no_request_is_refused(local_people: People, encoded: bytes) -> None:
    with pytest.raises(MalformedError):
        local_people.authority.issue(local_people.signer, encoded, load_profile(MAILBOX))


def test_another_key_than_that_of_the_ca_is_refused(local_people: People) -> None:
    with pytest.raises(UsageError, match="belongs to another key"):
        local_people.authority.issue(local_people.root_signer, local_people.request(), load_profile(MAILBOX))
    assert list(local_people.authority.certificates()) == []


def test_a_certificate_ends_with_that_of_its_ca(local_people: People) -> None:
    late = local_people.authority.certificate.not_after - timedelta(days=30)
    issued = local_people.issue(now=late)
    assert issued.certificate.not_after == local_people.authority.certificate.not_after


class FailingSigner(SoftwareSigner):
    """A token that fails, or lies."""

    failure: Exception | None = None

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        if self.failure is not None:
            raise self.failure
        return super().sign(message + b"fault", scheme)


def test_what_a_token_does_not_sign_is_not_handed_out(people: People) -> None:
    signer = FailingSigner(people.signer.key)
    with pytest.raises(SigningError, match="does not hold"):
        people.authority.issue(signer, people.request(), load_profile(MAILBOX), request_id="7")
    signer.failure = TokenError("the token is gone")
    with pytest.raises(TokenError, match="the token is gone"):
        people.authority.issue(signer, people.request(), load_profile(MAILBOX), request_id="7")
    states = [record.state for record in people.authority.certificates()]
    assert states == [State.ABANDONED, State.ABANDONED]
    assert people.issue(request_id="7").record.state is State.ISSUED


def test_a_request_has_no_certificate_of_two_cas(people: People) -> None:
    people.issue(request_id="7")
    with pytest.raises(UsageError, match="has a certificate of the CA people already"):
        people.root.issue(
            people.root_signer, people.request("CN=Alice"), load_profile("signing"), request_id="7"
        )


def test_renewal_keeps_key_and_names_and_re_key_keeps_names(people: People) -> None:
    first = people.issue()
    serial, profile = first.certificate.serial_number, load_profile(MAILBOX)
    renewed = people.authority.renew(people.signer, serial, profile, days=30)
    assert renewed.certificate.public_key == first.certificate.public_key
    assert renewed.certificate.emails == first.certificate.emails
    assert renewed.certificate.encoded_subject == first.certificate.encoded_subject
    assert renewed.record.replaces == serial
    request = people.request("CN=bob@acme.example", ("bob@acme.example",), kind="rsa")
    rekeyed = people.authority.renew(people.signer, serial, profile, request=request)
    assert rekeyed.certificate.public_key == private_key("rsa").public_key()
    assert rekeyed.certificate.emails == first.certificate.emails
    with pytest.raises(PolicyError, match="has the profile smime-mailbox-strict"):
        people.authority.renew(people.signer, serial, load_profile("signing"))


def test_what_ends_soon_is_found(local_people: People) -> None:
    soon, late = local_people.issue(days=10), local_people.issue(days=100)
    month = datetime.now(UTC) + timedelta(days=30)
    assert [one.serial for one in local_people.authority.certificates(expiring_before=month)] == [
        soon.certificate.serial_number
    ]
    assert [one.serial for one in local_people.authority.certificates()] == [
        soon.certificate.serial_number, late.certificate.serial_number,
    ]  # fmt: skip


def test_a_ca_is_there_when_it_is_opened_again(people: People) -> None:
    assert open_authority(people.store, "people") == people.authority
    with pytest.raises(UsageError, match="there are several CAs") as raised:
        open_authority(people.store)
    assert raised.value.hint == "choose one with --ca: people, root"
    with pytest.raises(UsageError, match="there is no CA nobody"):
        open_authority(people.store, "nobody")


def test_a_ca_for_mail_issues_for_mail_and_its_own_ocsp_only(local_people: People) -> None:
    for profile in ("timestamping", "tls-client", "code-signing"):
        request = local_people.request("CN=Acme,O=Acme,C=CH", ())
        with pytest.raises(PolicyError, match="leaves out what the profile"):
            local_people.authority.issue(local_people.signer, request, load_profile(profile))
    both = local_people.issue("smime-mailbox-multipurpose").certificate
    assert both.extended_key_usage == {"email_protection", "client_auth"}
    responder = local_people.authority.issue(
        local_people.signer, local_people.request("CN=OCSP,O=Acme,C=CH", ()), load_profile("ocsp-responder")
    )
    assert responder.certificate.extended_key_usage == {"ocsp_signing"}
    stamping = local_people.root.issue(
        local_people.root_signer, local_people.request("CN=TSA,O=Acme,C=CH", ()), load_profile("timestamping")
    )
    assert stamping.certificate.extended_key_usage == {"time_stamping"}
