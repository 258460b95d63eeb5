"""pkilint, DigiCert's linter of certificates, CRLs and OCSP responses, on what our CA makes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from certificate_authorities import private_key
from pki_serving import Pki
from pkilint import loader, pkix
from pkilint.cabf import cabf_crl, smime
from pkilint.cabf.smime import smime_constants
from pkilint.pkix import certificate, crl, extension, name, ocsp

from tokensign.algorithms import KeyUsage
from tokensign.authority import CertificateStatus, Reason, Status, http_server, profile_names
from tokensign.authority.ocsp_responder import OcspResponder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.certificates import Certificate

KINDS = ("rsa:3072", "ec:p256")
# Under a top-level domain that exists, or pkilint calls it internal.
ALICE = {"emails": ["alice@example.com"]}
PERSON = "CN=Alice Example,GN=Alice,SN=Example,O=Acme AG,organizationIdentifier=NTRCH-CHE123456789,C=CH"
SUBJECTS: dict[str, dict[str, Any]] = {
    "smime-mailbox-strict": ALICE | {"subject": "CN=alice@example.com"},
    "smime-mailbox-multipurpose": ALICE | {"subject": "CN=alice@example.com"},
    "smime-organization-strict": ALICE
    | {"subject": "O=Acme AG,organizationIdentifier=NTRCH-CHE123456789,C=CH"},
    "smime-organization-multipurpose": ALICE
    | {"subject": "O=Acme AG,organizationIdentifier=NTRCH-CHE123456789,C=CH"},
    "smime-sponsor-strict": ALICE | {"subject": PERSON},
    "smime-sponsor-multipurpose": ALICE | {"subject": PERSON},
    "signing": ALICE | {"subject": "CN=Alice"},
    "encryption": ALICE | {"subject": "CN=Alice"},
    "dual-use": ALICE | {"subject": "CN=Alice"},
    "code-signing": {"subject": "CN=Acme AG,O=Acme AG,C=CH"},
    "timestamping": {"subject": "CN=Acme TSA,O=Acme AG,C=CH"},
    "ocsp-responder": {"subject": "CN=Acme OCSP,O=Acme AG,C=CH"},
    "tls-client": {"subject": "CN=Alice"},
    "tls-server": {"subject": None, "dns": ["mail.example.com"]},
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pki]:
    with http_server.listening("127.0.0.1", 0) as listener:
        made = Pki(tmp_path_factory.mktemp("pki"), listener, url="http://pki.example.com", partitions=2)
        yield made
        made.store.close()


def findings(validator: Any, document: Any) -> list[str]:  # noqa: ANN401 - pkilint's
    """What pkilint warns of, and what it calls an error."""
    results = validator.validate(document.root)
    return [
        f"{found.finding.severity.name} {found.finding.code} at {result.node.path}: {found.message or ''}"
        for result in results
        for found in result.finding_descriptions
        if found.finding.severity.name in {"WARNING", "ERROR", "FATAL"}
    ]


@cache
def rfc5280() -> Any:  # noqa: ANN401 - pkilint's
    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


@cache
def baseline_requirements(level: Any, generation: Any) -> Any:  # noqa: ANN401 - pkilint's
    return certificate.create_pkix_certificate_validator_container(
        smime.create_decoding_validators(), smime.create_subscriber_validators(level, generation)
    )


def load(made: Certificate) -> Any:  # noqa: ANN401 - pkilint's
    return loader.load_certificate(made.der, "certificate")


def test_all_profiles_are_linted() -> None:
    authorities = {"root-ca", "subordinate-ca", "smime-subordinate-ca"}
    assert set(profile_names()) == set(SUBJECTS) | authorities


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", SUBJECTS)
def test_certificate_of_every_profile_passes_rfc_5280(pki: Pki, profile: str, kind: str) -> None:
    made = pki.issue(profile, key=private_key(kind), **SUBJECTS[profile]).certificate
    assert findings(rfc5280(), load(made)) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("usage", [KeyUsage.SIGN, KeyUsage.DECRYPT, KeyUsage.BOTH])
@pytest.mark.parametrize("profile", [one for one in SUBJECTS if one.startswith("smime-")])
def test_people_s_certificates_pass_the_smime_baseline_requirements(
    pki: Pki, profile: str, usage: KeyUsage, kind: str
) -> None:
    document = load(pki.issue(profile, key=private_key(kind), usage=usage, **SUBJECTS[profile]).certificate)
    level, generation = smime.determine_validation_level_and_generation(document)
    _, wanted_level, wanted_generation = profile.upper().split("-")
    assert str(level).startswith(wanted_level)
    assert str(generation) == wanted_generation
    assert findings(baseline_requirements(level, generation), document) == []


def test_authorities_pass_rfc_5280(pki: Pki) -> None:
    for authority in (pki.root, pki.people):
        assert findings(rfc5280(), load(authority.certificate)) == []


@pytest.mark.parametrize("partition", [None, 0, 1])
@pytest.mark.parametrize("delta", [False, True])
def test_crls_pass_rfc_5280_and_the_baseline_requirements(
    pki: Pki, partition: int | None, *, delta: bool
) -> None:
    pki.people.crl(pki.people_key, partition=partition)
    for _ in range(5):  # some of which are in this partition, most likely
        pki.people.revoke(pki.issue().certificate.serial_number, Reason.KEY_COMPROMISE)
    made = pki.people.crl(pki.people_key, delta=delta, partition=partition)
    kind = crl.CertificateRevocationListType.CRL
    validator = crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([cabf_crl.create_validity_period_validator(kind)]),
            crl.create_extensions_validator_container([]),
            cabf_crl.CabfCrlReasonCodeAllowlistValidator(kind),
        ],
    )
    assert findings(validator, loader.load_crl(made, "crl")) == []


@pytest.mark.parametrize("status", list(Status))
def test_ocsp_responses_pass_rfc_6960(pki: Pki, status: Status) -> None:
    delegate = pki.issue("ocsp-responder", **SUBJECTS["ocsp-responder"])
    responder = OcspResponder(pki.people.certificate, delegate)
    revoked = (pki.people.certificate.not_before, Reason.SUPERSEDED) if status is Status.REVOKED else ()
    answer = responder.sign(responder.question_about(5), CertificateStatus(status, *revoked))
    validator = ocsp.create_pkix_ocsp_response_validator_container(
        [
            ocsp.create_response_decoder(),
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [],
    )
    assert findings(validator, loader.load_ocsp_response(answer.encoded, "response")) == []


def test_the_linter_sees_what_is_wrong(pki: Pki) -> None:
    """Otherwise an empty list of findings would show nothing."""
    document = load(pki.issue("signing", **SUBJECTS["signing"]).certificate)
    strict = smime_constants.ValidationLevel.MAILBOX, smime_constants.Generation.STRICT
    assert any("cabf.smime" in found for found in findings(baseline_requirements(*strict), document))
