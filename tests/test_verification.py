from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tokensign.cms.countersignature import add_countersignatures
from tokensign.cms.signed import SigningOptions, sign_attached, sign_detached
from tokensign.cms.signed_data import read_signed_data
from tokensign.errors import MalformedError, OutputExistsError, UsageError, VerificationError
from tokensign.pki.ca import issue as issue_under
from tokensign.pki.ca import root_certificate, self_signed
from tokensign.pki.policy import TrustPolicy
from tokensign.token import open_key
from tokensign.verification import (
    Expectations,
    SignerReport,
    Status,
    Verdict,
    VerificationReport,
    verify,
    verify_to_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
    """Integrity, trust and identity."""
    return [verdict.status.value for verdict in report.signers[number].verdicts.values()]


# --- three verdicts


def test_all_three_verdicts_pass(alice: TokenKey, trusting: Expectations) -> None:
    output = io.BytesIO()
    report = verify(signed(alice), replace(trusting, email=EMAIL), output=output)
    assert report.holds
    assert statuses(report) == ["passed", "passed", "passed"]
    assert output.getvalue() == CONTENT
    (signer,) = report.signers
    assert signer.certificate == alice.certificate
    assert signer.scheme == "ecdsa with sha256"
    assert [entry.subject for entry in signer.path] == ["CN=Alice,O=Acme", "CN=Root,O=Acme"]
    assert signer.integrity.reason == "the content is what was signed"
    assert signer.trust.reason == "issued under CN=Root,O=Acme"
    assert signer.identity.reason == f"the certificate belongs to {EMAIL}"
    assert signer.failure is None
    assert report.content_type == "data"
    assert not report.detached


def test_a_detached_signature_passes(alice: TokenKey, trusting: Expectations) -> None:
    signature = io.BytesIO(sign_detached(io.BytesIO(CONTENT), [alice]))
    report = verify(signature, trusting, io.BytesIO(CONTENT))
    assert report.detached
    assert report.holds
    assert statuses(report) == ["passed", "passed", "not-checked"]


def test_nothing_is_trusted_where_nothing_was_given(mallory: TokenKey) -> None:
    report = verify(signed(mallory), SIGNATURE_ONLY)
    assert statuses(report) == ["passed", "not-checked", "not-checked"]
    assert report.holds
    assert report.signers[0].path == ()


def test_only_integrity_fails_for_changed_content(alice: TokenKey, trusting: Expectations) -> None:
    error = failure(tampered(signed(alice)), replace(trusting, email=EMAIL))
    assert statuses(error.report) == ["failed", "passed", "passed"]
    assert str(error) == (
        "the signature of CN=Alice,O=Acme does not hold: the content was changed after it was signed"
    )


def test_only_trust_fails_for_an_unknown_issuer(mallory: TokenKey, trusting: Expectations) -> None:
    error = failure(signed(mallory), replace(trusting, email=EMAIL))
    assert statuses(error.report) == ["passed", "failed", "passed"]
    assert error.report.signers[0].path == ()
    assert error.hint == error.report.signers[0].trust.hint


def test_only_identity_fails_for_another_address(alice: TokenKey, trusting: Expectations) -> None:
    error = failure(signed(alice), replace(trusting, email="bob@acme.example"))
    assert statuses(error.report) == ["passed", "passed", "failed"]
    assert error.report.signers[0].identity.reason == (
        f"the certificate belongs to {EMAIL}, a@acme.example, not to bob@acme.example"
    )


def test_all_three_verdicts_can_fail(mallory: TokenKey, trusting: Expectations) -> None:
    error = failure(tampered(signed(mallory)), replace(trusting, email="bob@acme.example"))
    assert statuses(error.report) == ["failed", "failed", "failed"]


def test_certificates_are_judged_at_the_moment_that_was_asked(
    alice: TokenKey, trusting: Expectations
) -> None:
    later = datetime.now(UTC) + timedelta(days=5000)
    error = failure(signed(alice), replace(trusting, moment=later))
    assert statuses(error.report) == ["passed", "failed", "not-checked"]
    assert "expired" in error.report.signers[0].trust.reason
    assert error.report.moment == later


# --- where the certificate is not in the message


def test_a_missing_certificate_fails_every_verdict(alice: TokenKey, trusting: Expectations) -> None:
    message = signed(alice, include_certificates=False)
    error = failure(message, replace(trusting, email=EMAIL))
    assert statuses(error.report) == ["failed", "failed", "failed"]
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
    signer = SignerReport(None, "somebody", None, None, unknown, unknown, unknown)
    assert signer.failure is None
    assert not signer.holds


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


def test_the_json_report_has_stable_keys(alice: TokenKey, trusting: Expectations) -> None:
    moment = datetime.now(UTC).replace(microsecond=0)
    report = verify(signed(alice, signing_time=moment), replace(trusting, email=EMAIL, moment=moment))
    certificate = alice.certificate
    assert certificate is not None
    assert json.loads(json.dumps(report.to_json())) == {
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
                "path": ["CN=Alice,O=Acme", "CN=Root,O=Acme"],
                "holds": True,
                "integrity": {"status": "passed", "reason": "the content is what was signed", "hint": None},
                "trust": {"status": "passed", "reason": "issued under CN=Root,O=Acme", "hint": None},
                "identity": {
                    "status": "passed",
                    "reason": f"the certificate belongs to {EMAIL}",
                    "hint": None,
                },
                "countersignatures": [],
            }
        ],
    }


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
