from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from jsonschema import ValidationError
from reports import SCHEMA, check_document

import tokensign.verification
from tokensign.cms.countersignature import add_countersignatures
from tokensign.cms.signed import SigningOptions, sign_attached, sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.errors import MalformedError, OutputExistsError, UsageError, VerificationError
from tokensign.pki.ca import issue as issue_under
from tokensign.pki.ca import root_certificate, self_signed
from tokensign.pki.policy import PolicyInputs, TrustPolicy
from tokensign.pki.signer_key import signer_key, signing_hash
from tokensign.token import open_key
from tokensign.verification import (
    Expectations,
    SignerReport,
    Status,
    Verdict,
    VerificationReport,
    verify_to_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.certificates import Certificate
    from tokensign.token import TokenKey

CONTENT = b"Pay 100 to Bob."
EMAIL = "alice@acme.example"
SIGNATURE_ONLY = Expectations(trust=None)


@pytest.fixture(scope="module")
def authority(token_key: Callable[..., TokenKey]) -> tuple[TokenKey, Certificate]:
    key = token_key("ec:p384", name="verification")
    return key, root_certificate(key, "CN=Root,O=Acme")


@pytest.fixture(scope="module")
def alice(token_key: Callable[..., TokenKey], authority: tuple[TokenKey, Certificate]) -> TokenKey:
    """A key with a certificate under the authority."""
    key = token_key("ec:p256", name="verification")
    certificate = issue_under(*authority, key.public_key, "CN=Alice,O=Acme", [EMAIL, "a@acme.example"])
    return open_key(key.token, key.info, certificate=certificate)


@pytest.fixture(scope="module")
def mallory(token_key: Callable[..., TokenKey]) -> TokenKey:
    """A key whose certificate nobody trusts."""
    key = token_key("ed25519", name="verification")
    certificate = self_signed(key, "CN=Mallory", [EMAIL])
    return open_key(key.token, key.info, certificate=certificate)


@pytest.fixture(scope="module")
def trusting(authority: tuple[TokenKey, Certificate]) -> Expectations:
    return Expectations(trust=TrustPolicy(anchors=(authority[1],)))


def signed(*signers: TokenKey, **options: Any) -> io.BytesIO:  # noqa: ANN401 - options of several types
    output = io.BytesIO()
    sign_attached(io.BytesIO(CONTENT), signers, output, SigningOptions(**options))
    return io.BytesIO(output.getvalue())


def tampered(message: io.BytesIO) -> io.BytesIO:
    return io.BytesIO(message.getvalue().replace(CONTENT, b"Pay 900 to Bob."))


def verify(
    message: io.BytesIO,
    expectations: Expectations,
    content: io.BytesIO | None = None,
    output: io.BytesIO | None = None,
) -> VerificationReport:
    """Verify, and see that every report is what is promised to programs."""
    try:
        report = tokensign.verification.verify(message, expectations, content, output)
    except VerificationError as error:
        check_document(error.report.to_json())
        raise
    check_document(report.to_json())
    return report


def failure(
    message: io.BytesIO, expectations: Expectations, content: io.BytesIO | None = None
) -> VerificationError:
    """Why it does not hold; nothing may have come out."""
    output = io.BytesIO()
    with pytest.raises(VerificationError) as caught:
        verify(message, expectations, content, output)
    assert output.getvalue() == b""
    assert not caught.value.report.holds
    return caught.value


def statuses(report: VerificationReport, number: int = 0) -> list[str]:
    """Integrity, trust, identity and policy."""
    return [verdict.status.value for verdict in report.signers[number].verdicts.values()]


# --- four verdicts


def test_all_four_verdicts_pass(alice: TokenKey, trusting: Expectations) -> None:
    output = io.BytesIO()
    report = verify(signed(alice), replace(trusting, email=EMAIL), output=output)
    assert report.holds
    assert statuses(report) == ["passed", "passed", "passed", "passed"]
    assert output.getvalue() == CONTENT
    (signer,) = report.signers
    assert signer.certificate == alice.certificate
    assert signer.scheme == "ecdsa with sha256"
    assert signer.path is not None
    assert [entry.subject for entry in signer.path] == ["CN=Alice,O=Acme", "CN=Root,O=Acme"]
    assert signer.integrity.reason == "the content is what was signed"
    assert signer.trust.reason == "issued under CN=Root,O=Acme"
    assert signer.identity.reason == f"the certificate belongs to {EMAIL}"
    assert signer.policy.reason == "the algorithms are strong; nobody asked whether certificates were revoked"
    assert signer.failure is None
    assert report.content_type == "data"
    assert not report.detached


def test_a_detached_signature_passes(alice: TokenKey, trusting: Expectations) -> None:
    signature = io.BytesIO(sign_detached(io.BytesIO(CONTENT), [alice]))
    report = verify(signature, trusting, io.BytesIO(CONTENT))
    assert report.detached
    assert report.holds
    assert statuses(report) == ["passed", "passed", "not-checked", "passed"]


def test_nothing_is_trusted_where_nothing_was_given(mallory: TokenKey) -> None:
    report = verify(signed(mallory), SIGNATURE_ONLY)
    assert statuses(report) == ["passed", "not-checked", "not-checked", "not-checked"]
    assert report.holds
    assert report.signers[0].path is None


def test_only_integrity_fails_for_changed_content(alice: TokenKey, trusting: Expectations) -> None:
    error = failure(tampered(signed(alice)), replace(trusting, email=EMAIL))
    assert statuses(error.report) == ["failed", "passed", "passed", "passed"]
    assert str(error) == (
        "the signature of CN=Alice,O=Acme does not hold: the content was changed after it was signed"
    )


def test_only_trust_fails_for_an_unknown_issuer(mallory: TokenKey, trusting: Expectations) -> None:
    error = failure(signed(mallory), replace(trusting, email=EMAIL))
    assert statuses(error.report) == ["passed", "failed", "passed", "not-checked"]
    assert error.report.signers[0].path is None
    assert error.hint == error.report.signers[0].trust.hint


def test_only_identity_fails_for_another_address(alice: TokenKey, trusting: Expectations) -> None:
    error = failure(signed(alice), replace(trusting, email="bob@acme.example"))
    assert statuses(error.report) == ["passed", "passed", "failed", "passed"]
    assert error.report.signers[0].identity.reason == (
        f"the certificate belongs to {EMAIL}, a@acme.example, not to bob@acme.example"
    )


def test_several_verdicts_can_fail(mallory: TokenKey, trusting: Expectations) -> None:
    error = failure(tampered(signed(mallory)), replace(trusting, email="bob@acme.example"))
    assert statuses(error.report) == ["failed", "failed", "failed", "not-checked"]
    assert error.report.failed == ["integrity", "trust", "identity"]


def test_certificates_are_judged_at_the_moment_that_was_asked(
    alice: TokenKey, trusting: Expectations
) -> None:
    later = datetime.now(UTC) + timedelta(days=5000)
    error = failure(signed(alice), replace(trusting, moment=later))
    assert statuses(error.report) == ["passed", "failed", "not-checked", "not-checked"]
    assert "expired" in error.report.signers[0].trust.reason
    assert error.report.moment == later


# --- policy


@pytest.fixture(scope="module")
def revocation_list(authority: tuple[TokenKey, Certificate]) -> Callable[..., bytes]:
    """A CRL of the authority: `revocation_list(*serial_numbers)`; two days old, current for one day more."""
    key, certificate = authority

    def make(*revoked: int, days_left: int = 1) -> bytes:
        now = datetime.now(UTC).replace(microsecond=0)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(x509.load_der_x509_certificate(certificate.der).subject)
            .last_update(now - timedelta(days=2))
            .next_update(now + timedelta(days=days_left))
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for number in revoked:
            entry = x509.RevokedCertificateBuilder(number, now - timedelta(days=3)).build()
            builder = builder.add_revoked_certificate(entry)
        made = builder.sign(signer_key(key), signing_hash(key.public_key))
        return made.public_bytes(Encoding.DER)

    return make


def test_only_the_policy_fails_where_revocation_must_be_known_and_is_not(
    alice: TokenKey, trusting: Expectations
) -> None:
    assert trusting.trust is not None
    expectations = replace(trusting, trust=replace(trusting.trust, revocation="require"), email=EMAIL)
    error = failure(signed(alice), expectations)
    assert statuses(error.report) == ["passed", "not-checked", "passed", "failed"]
    assert error.report.failed == ["policy"]
    assert "nothing tells whether the certificate of Alice was revoked" in str(error)


def test_a_crl_that_is_out_of_date_tells_nothing(
    alice: TokenKey, trusting: Expectations, revocation_list: Callable[..., bytes]
) -> None:
    assert trusting.trust is not None
    crls = (revocation_list(days_left=-1),)
    trust = replace(trusting.trust, revocation="require", crls=crls)
    assert failure(signed(alice), replace(trusting, trust=trust)).report.failed == ["policy"]
    report = verify(signed(alice), replace(trusting, trust=replace(trust, revocation="prefer")))
    (signer,) = report.signers
    assert (
        signer.policy.reason == "the algorithms are strong; nothing tells whether certificates were revoked"
    )
    assert signer.revocation == ()


def test_each_answer_about_revocation_is_in_the_report_with_its_source_and_age(
    alice: TokenKey, trusting: Expectations, revocation_list: Callable[..., bytes]
) -> None:
    assert trusting.trust is not None
    trust = replace(trusting.trust, revocation="require", crls=(revocation_list(),))
    report = verify(signed(alice), replace(trusting, trust=trust))
    (signer,) = report.signers
    assert signer.policy.reason == "the algorithms are strong; no certificate was revoked"
    document = signer.to_json()
    (answer,) = document["revocation"]
    assert answer["certificate"] == "CN=Alice,O=Acme"
    assert (answer["status"], answer["kind"], answer["source"], answer["url"]) == (
        "good",
        "crl",
        "given",
        None,
    )
    assert timedelta(0) <= timedelta(seconds=answer["age"]) - timedelta(days=2) < timedelta(minutes=5)
    assert document["valid_until"] == answer["next_update"]


def test_a_revoked_certificate_is_not_trusted_and_the_report_has_who_says_so(
    alice: TokenKey, trusting: Expectations, revocation_list: Callable[..., bytes]
) -> None:
    assert trusting.trust is not None
    assert alice.certificate is not None
    crls = (revocation_list(alice.certificate.serial_number),)
    trust = replace(trusting.trust, revocation="prefer", crls=crls)
    error = failure(signed(alice), replace(trusting, trust=trust))
    assert error.report.failed == ["trust"]
    (signer,) = error.report.signers
    assert signer.path is None
    assert [answer.status for answer in signer.revocation] == ["revoked"]


def test_certificate_policies_that_are_demanded_are_a_policy(alice: TokenKey, trusting: Expectations) -> None:
    assert trusting.trust is not None
    demanded = PolicyInputs(frozenset({"1.2.3"}), require_explicit_policy=True)
    trust = replace(trusting.trust, policies=demanded)
    error = failure(signed(alice), replace(trusting, trust=trust))
    assert error.report.failed == ["policy"]


# --- the verdict in one sentence


def test_the_summary_of_what_holds_says_who_signed_and_who_says_so(
    alice: TokenKey, mallory: TokenKey, trusting: Expectations
) -> None:
    report = verify(signed(alice), trusting)
    assert report.verdict == "good"
    assert report.summary("letter.txt") == (
        f"letter.txt is unchanged since it was signed by Alice <{EMAIL}> (says Root)"
    )
    assert mallory.certificate is not None
    direct = Expectations(trust=TrustPolicy(anchors=(mallory.certificate,)))
    assert verify(signed(mallory), direct).summary().endswith(f"Mallory <{EMAIL}> (trusted directly)")


def test_the_summary_says_where_nobody_vouches_for_the_signer(mallory: TokenKey) -> None:
    report = verify(signed(mallory), SIGNATURE_ONLY)
    assert report.verdict == "intact"
    assert (
        report.summary() == "the content is unchanged since it was signed; nobody checked whether by Mallory"
    )


def test_the_summary_of_what_does_not_hold_has_the_first_reason(
    alice: TokenKey, mallory: TokenKey, trusting: Expectations
) -> None:
    report = failure(tampered(signed(alice, mallory)), trusting).report
    assert report.verdict == "bad"
    assert report.summary().startswith("the signature of ")
    assert report.summary().endswith(
        "on the content does not hold: the content was changed after it was signed;"
        " another signature does not hold"
    )
    report = verify(signed(alice, mallory), replace(trusting, any_signer=True))
    assert report.failed == []
    assert report.summary().endswith("(says Root); another signature does not hold")


# --- where the certificate is not in the message


def test_a_missing_certificate_fails_every_verdict(alice: TokenKey, trusting: Expectations) -> None:
    message = signed(alice, include_certificates=False)
    error = failure(message, replace(trusting, email=EMAIL))
    assert statuses(error.report) == ["failed", "failed", "failed", "not-checked"]
    (signer,) = error.report.signers
    assert signer.certificate is None
    assert signer.name == signer.identifier
    assert signer.identifier.endswith("of CN=Root,O=Acme")
    assert signer.to_json()["certificate_sha256"] is None
    assert "--untrusted" in str(error.hint)


def test_a_certificate_given_beside_the_message_is_used_and_not_trusted(
    alice: TokenKey, mallory: TokenKey, trusting: Expectations
) -> None:
    assert alice.certificate is not None
    assert mallory.certificate is not None
    message = signed(alice, include_certificates=False)
    assert verify(message, replace(trusting, certificates=[alice.certificate])).holds
    message = signed(mallory, include_certificates=False)
    error = failure(message, replace(trusting, certificates=[mallory.certificate]))
    assert statuses(error.report)[:2] == ["passed", "failed"]


# --- the address


@pytest.mark.parametrize(
    ("email", "same"),
    [
        ("alice@acme.example", True),
        ("alice@ACME.Example", True),  # RFC 5280 section 7.5: domains have no case
        ("Alice@acme.example", False),  # and local parts may have one
        ("a@acme.example", True),
        ("alice@acme.example.org", False),
        ("alice", False),
        ("acme.example", False),
        ("@acme.example", False),
        ("", False),
    ],
)
def test_addresses_are_compared_as_rfc_5280_says(email: str, same: bool, alice: TokenKey) -> None:  # noqa: FBT001
    expectations = replace(SIGNATURE_ONLY, email=email)
    if same:
        assert statuses(verify(signed(alice), expectations))[2] == "passed"
    else:
        assert statuses(failure(signed(alice), expectations).report)[2] == "failed"


def test_a_certificate_without_address_belongs_to_nobody(
    token_key: Callable[..., TokenKey], issue: Callable[..., Certificate]
) -> None:
    key = token_key("ec:p256", name="verification")
    nobody = open_key(key.token, key.info, certificate=issue(key.public_key, "nobody"))
    error = failure(signed(nobody), replace(SIGNATURE_ONLY, email=EMAIL))
    assert "nobody with an e-mail address, not to" in str(error)


# --- several signatures


def test_every_signature_must_hold(alice: TokenKey, mallory: TokenKey, trusting: Expectations) -> None:
    error = failure(signed(alice, mallory), trusting)
    assert sorted(signer.holds for signer in error.report.signers) == [False, True]
    assert "CN=Mallory" in str(error)
    assert "more" not in str(error)


def test_one_is_enough_where_that_was_asked(
    alice: TokenKey, mallory: TokenKey, trusting: Expectations
) -> None:
    output = io.BytesIO()
    report = verify(signed(alice, mallory), replace(trusting, any_signer=True), output=output)
    assert report.holds
    assert output.getvalue() == CONTENT
    assert not all(signer.holds for signer in report.signers)


def test_one_that_holds_in_parts_is_not_enough(
    alice: TokenKey, mallory: TokenKey, trusting: Expectations
) -> None:
    """Integrity of one and trust in the other do not add up."""
    error = failure(tampered(signed(alice, mallory)), replace(trusting, any_signer=True))
    assert str(error).endswith("(and 1 more signatures fail)")


def test_a_message_without_signature_never_holds() -> None:
    report = VerificationReport("data", detached=False, signers=(), moment=datetime.now(UTC))
    assert not report.holds
    assert not replace(report, any_signer=True).holds


def test_integrity_that_was_not_proved_does_not_hold() -> None:
    unknown = Verdict(Status.NOT_CHECKED, "nobody looked")
    signer = SignerReport(
        certificate=None,
        identifier="somebody",
        scheme=None,
        signing_time=None,
        judged_at=datetime.now(UTC),
        integrity=unknown,
        trust=unknown,
        identity=unknown,
        policy=unknown,
    )
    assert signer.failure is None
    assert not signer.holds
    assert signer.reason == "its integrity was not proved"


# --- countersignatures


def countersigned(message: io.BytesIO, *signers: TokenKey) -> io.BytesIO:
    output = io.BytesIO()
    add_countersignatures(read_signed_data(message), signers, output)
    return io.BytesIO(output.getvalue())


def test_a_countersignature_is_judged_beneath_its_signature(alice: TokenKey, trusting: Expectations) -> None:
    report = verify(countersigned(signed(alice), alice), replace(trusting, email=EMAIL))
    (signer,) = report.signers
    (countersigner,) = signer.countersignatures
    assert countersigner.holds
    assert countersigner.integrity.reason == "the signature above is what was signed"
    assert countersigner.trust.reason == "issued under CN=Root,O=Acme"
    assert countersigner.identity.status is Status.NOT_CHECKED
    assert signer.witness is None
    assert report.to_json()["signers"][0]["countersignatures"][0]["signer"] == "CN=Alice,O=Acme"


def test_a_bad_countersignature_does_no_harm(
    alice: TokenKey, mallory: TokenKey, trusting: Expectations
) -> None:
    report = verify(countersigned(signed(alice), mallory), trusting)
    assert report.holds
    (countersigner,) = report.signers[0].countersignatures
    assert not countersigner.holds
    assert countersigner.trust.status is Status.FAILED


def test_a_witness_who_is_asked_for_must_be_there(alice: TokenKey, trusting: Expectations) -> None:
    error = failure(signed(alice), replace(trusting, countersigned=True))
    assert str(error) == "the signature of CN=Alice,O=Acme does not hold: nobody countersigned it"


def test_a_witness_who_is_asked_for_must_be_trusted(
    alice: TokenKey, mallory: TokenKey, trusting: Expectations
) -> None:
    message = countersigned(signed(alice), mallory)
    error = failure(message, replace(trusting, countersigned=True))
    assert "no countersignature holds; that of CN=Mallory: no path" in str(error)
    assert error.report.signers[0].verdicts["witness"].status is Status.FAILED


def test_one_good_witness_among_bad_ones_is_enough(
    alice: TokenKey, mallory: TokenKey, trusting: Expectations
) -> None:
    message = countersigned(signed(alice), mallory, alice)
    (signer,) = verify(message, replace(trusting, countersigned=True)).signers
    assert signer.witness == Verdict(Status.PASSED, "countersigned by CN=Alice,O=Acme")
    assert signer.to_json()["witness"]["status"] == "passed"


# --- content


def test_a_detached_signature_needs_its_content(alice: TokenKey) -> None:
    signature = io.BytesIO(sign_detached(io.BytesIO(CONTENT), [alice]))
    with pytest.raises(UsageError, match="detached") as caught:
        verify(signature, SIGNATURE_ONLY)
    assert "--content" in str(caught.value.hint)


def test_a_message_with_content_takes_no_other(alice: TokenKey) -> None:
    """Or else somebody would believe that the other one was verified."""
    with pytest.raises(UsageError, match="holds its content, and another one was given"):
        verify(signed(alice), SIGNATURE_ONLY, io.BytesIO(CONTENT))


def test_other_content_does_not_hold(alice: TokenKey) -> None:
    signature = io.BytesIO(sign_detached(io.BytesIO(CONTENT), [alice]))
    error = failure(signature, SIGNATURE_ONLY, io.BytesIO(b"other"))
    assert statuses(error.report)[0] == "failed"


def test_a_file_appears_only_if_everything_holds(
    alice: TokenKey, trusting: Expectations, tmp_path: Path
) -> None:
    path = tmp_path / "content"
    with pytest.raises(VerificationError):
        verify_to_file(tampered(signed(alice)), trusting, path)
    with pytest.raises(VerificationError):
        verify_to_file(signed(alice), replace(trusting, email="bob@acme.example"), path)
    with pytest.raises(MalformedError):
        verify_to_file(io.BytesIO(signed(alice).getvalue()[:-1]), trusting, path)
    assert list(tmp_path.iterdir()) == []
    assert verify_to_file(signed(alice), trusting, path).holds
    assert path.read_bytes() == CONTENT
    with pytest.raises(OutputExistsError):
        verify_to_file(signed(alice), trusting, path)
    verify_to_file(signed(alice), trusting, path, force=True)


# --- the report


def test_the_json_report_has_stable_keys(
    alice: TokenKey, authority: tuple[TokenKey, Certificate], trusting: Expectations
) -> None:
    moment = datetime.now(UTC).replace(microsecond=0)
    report = verify(signed(alice, signing_time=moment), replace(trusting, email=EMAIL, moment=moment))
    certificate = alice.certificate
    assert certificate is not None
    assert json.loads(json.dumps(report.to_json())) == {
        "verdict": "good",
        "summary": f"the content is unchanged since it was signed by Alice <{EMAIL}> (says Root)",
        "failed": [],
        "holds": True,
        "content_type": "data",
        "detached": False,
        "verified_at": moment.isoformat(),
        "signers": [
            {
                "signer": "CN=Alice,O=Acme",
                "emails": [EMAIL, "a@acme.example"],
                "issuer": "CN=Root,O=Acme",
                "serial_number": f"{certificate.serial_number:x}",
                "certificate_sha256": certificate.sha256.hex(),
                "scheme": "ecdsa with sha256",
                "signing_time": moment.isoformat(),
                "judged_at": moment.isoformat(),
                "holds": True,
                "integrity": {"status": "passed", "reason": "the content is what was signed", "hint": None},
                "trust": {"status": "passed", "reason": "issued under CN=Root,O=Acme", "hint": None},
                "identity": {
                    "status": "passed",
                    "reason": f"the certificate belongs to {EMAIL}",
                    "hint": None,
                },
                "policy": {
                    "status": "passed",
                    "reason": "the algorithms are strong; nobody asked whether certificates were revoked",
                    "hint": None,
                },
                "witness": None,
                "path": ["CN=Alice,O=Acme", "CN=Root,O=Acme"],
                "valid_until": min(certificate.not_after, authority[1].not_after).isoformat(),
                "revocation": [],
                "level": "b-b",
                "existed_at": None,
                "timestamps": [],
                "countersignatures": [],
                "ess": {},
            }
        ],
    }


def test_the_manual_and_the_schema_have_the_same_keys() -> None:
    manual = (Path(__file__).parents[1] / "docs" / "verification.md").read_text()
    rows = [line.split("|")[1] for line in manual.splitlines() if line.startswith("| `")]
    told = {key for row in rows for key in re.findall("`([a-z0-9_]+)`", row)}
    objects = [SCHEMA, *(entry for entry in SCHEMA["$defs"].values() if "properties" in entry)]
    keys = {key for entry in objects for key in entry["properties"]}
    assert told == keys


def test_the_schema_refuses_what_is_not_promised(alice: TokenKey) -> None:
    document = verify(signed(alice), SIGNATURE_ONLY).to_json()
    for broken in (
        document | {"verdict": "fine"},
        document | {"more": 1},
        {key: value for key, value in document.items() if key != "failed"},
        document | {"signers": [document["signers"][0] | {"holds": "yes"}]},
    ):
        with pytest.raises(ValidationError):
            check_document(broken)


def test_an_unknown_scheme_is_reported(alice: TokenKey) -> None:
    message = signed(alice).getvalue()
    ecdsa_with_sha256 = bytes.fromhex("06082a8648ce3d040302")
    position = message.rindex(ecdsa_with_sha256)
    strange = message[:position] + bytes.fromhex("06082a8648ce3d04037f") + message[position + 10 :]
    error = failure(io.BytesIO(strange), SIGNATURE_ONLY)
    (signer,) = error.report.signers
    assert signer.scheme is None
    assert signer.to_json()["scheme"] is None
    assert "is not supported" in signer.integrity.reason
