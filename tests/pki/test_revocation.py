from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asn1crypto import pem
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tokensign.errors import MalformedError, UntrustedError
from tokensign.pki.trust import TrustPolicy, validate_path

if TYPE_CHECKING:
    from conftest import Forged, Toolbox


@pytest.fixture
def root(toolbox: Toolbox) -> Forged:
    return toolbox.authority()


@pytest.fixture
def alice(toolbox: Toolbox, root: Forged) -> Forged:
    return toolbox.forge(issuer=root)


def judge(toolbox: Toolbox, leaf: Forged, root: Forged, *others: Forged, **policy: Any) -> None:  # noqa: ANN401 - fields of the policy
    validate_path(
        leaf.certificate,
        [other.certificate for other in others],
        TrustPolicy((root.certificate,), **policy),
        toolbox.now,
    )


@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_a_current_crl_clears_a_certificate(toolbox: Toolbox, alice: Forged, root: Forged, mode: str) -> None:
    judge(toolbox, alice, root, revocation=mode, crls=(toolbox.crl(root),))
    judge(toolbox, alice, root, revocation=mode, crls=(pem.armor("X509 CRL", toolbox.crl(root)),))


@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_a_current_ocsp_response_clears_a_certificate(
    toolbox: Toolbox, alice: Forged, root: Forged, mode: str
) -> None:
    judge(toolbox, alice, root, revocation=mode, ocsp_responses=(toolbox.ocsp(alice, root),))


@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_a_certificate_on_a_crl_is_refused_with_date_and_reason(
    toolbox: Toolbox, alice: Forged, root: Forged, mode: str
) -> None:
    with pytest.raises(UntrustedError) as refusal:
        judge(toolbox, alice, root, revocation=mode, crls=(toolbox.crl(root, [alice]),))
    assert refusal.value.message == "the certificate of Alice was revoked on 2026-05-31 (keyCompromise)"


@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_a_certificate_revoked_by_ocsp_is_refused_with_date_and_reason(
    toolbox: Toolbox, alice: Forged, root: Forged, mode: str
) -> None:
    response = toolbox.ocsp(alice, root, revoked=True)
    with pytest.raises(UntrustedError, match=r"Alice was revoked on 2026-05-31 \(superseded\)"):
        judge(toolbox, alice, root, revocation=mode, ocsp_responses=(response,))


def test_one_source_that_says_revoked_outweighs_another_that_does_not(
    toolbox: Toolbox, alice: Forged, root: Forged
) -> None:
    good, bad = toolbox.ocsp(alice, root), toolbox.crl(root, [alice])
    with pytest.raises(UntrustedError, match="was revoked"):
        judge(toolbox, alice, root, revocation="prefer", ocsp_responses=(good,), crls=(bad,))


def test_nobody_asks_when_revocation_is_off(toolbox: Toolbox, alice: Forged, root: Forged) -> None:
    judge(toolbox, alice, root, crls=(toolbox.crl(root, [alice]), b"broken"))


def test_nothing_at_hand_is_enough_for_prefer_only(toolbox: Toolbox, alice: Forged, root: Forged) -> None:
    judge(toolbox, alice, root, revocation="prefer")
    with pytest.raises(UntrustedError, match="nothing tells whether the certificate of Alice was revoked"):
        judge(toolbox, alice, root, revocation="require")


def test_an_old_crl_is_as_good_as_none(toolbox: Toolbox, alice: Forged, root: Forged) -> None:
    old = toolbox.crl(root, updated=toolbox.now - timedelta(days=20))
    judge(toolbox, alice, root, revocation="prefer", crls=(old,))
    with pytest.raises(UntrustedError) as refusal:
        judge(toolbox, alice, root, revocation="require", crls=(old,))
    assert "not recent enough" in (refusal.value.hint or "")


def test_a_crl_of_another_authority_says_nothing(toolbox: Toolbox, alice: Forged, root: Forged) -> None:
    other = toolbox.crl(toolbox.authority("Other", number=4))
    with pytest.raises(UntrustedError, match="nothing tells"):
        judge(toolbox, alice, root, revocation="require", crls=(other,))


def test_a_crl_with_a_false_signature_says_nothing(toolbox: Toolbox, alice: Forged, root: Forged) -> None:
    false = toolbox.crl(toolbox.authority(number=4), [alice])  # the name of the root, another key
    judge(toolbox, alice, root, revocation="prefer", crls=(false,))
    with pytest.raises(UntrustedError, match="nothing tells"):
        judge(toolbox, alice, root, revocation="require", crls=(false,))


def test_a_revoked_intermediate_is_named_also_when_the_signer_is_unknown(
    toolbox: Toolbox, root: Forged
) -> None:
    middle = toolbox.authority("Middle", issuer=root, number=2)
    alice = toolbox.forge(issuer=middle)
    with pytest.raises(UntrustedError, match="the certificate of Middle was revoked"):
        judge(toolbox, alice, root, middle, revocation="prefer", crls=(toolbox.crl(root, [middle]),))


def test_a_revoked_signer_is_found_also_when_the_intermediate_is_unknown(
    toolbox: Toolbox, root: Forged
) -> None:
    middle = toolbox.authority("Middle", issuer=root, number=2)
    alice = toolbox.forge(issuer=middle)
    with pytest.raises(UntrustedError, match="the certificate of Alice was revoked"):
        judge(toolbox, alice, root, middle, revocation="prefer", crls=(toolbox.crl(middle, [alice]),))


def test_every_certificate_below_the_anchor_needs_its_own_crl(toolbox: Toolbox, root: Forged) -> None:
    middle = toolbox.authority("Middle", issuer=root, number=2)
    alice = toolbox.forge(issuer=middle)
    both = (toolbox.crl(root), toolbox.crl(middle))
    judge(toolbox, alice, root, middle, revocation="require", crls=both)
    with pytest.raises(UntrustedError, match="whether the certificate of Middle was revoked"):
        judge(toolbox, alice, root, middle, revocation="require", crls=both[1:])


def test_weak_signatures_on_crls_and_ocsp_responses_count_with_legacy_only(
    toolbox: Toolbox, alice: Forged, root: Forged
) -> None:
    crl, response = toolbox.crl(root, sha1=True), toolbox.ocsp(alice, root, sha1=True)
    with pytest.raises(UntrustedError, match="the CRL of Root does not count") as refusal:
        judge(toolbox, alice, root, revocation="require", crls=(crl,))
    assert "--legacy" in (refusal.value.hint or "")
    with pytest.raises(UntrustedError, match="the OCSP response does not count"):
        judge(toolbox, alice, root, revocation="require", ocsp_responses=(response,))
    judge(toolbox, alice, root, revocation="require", crls=(crl,), legacy=True)
    judge(toolbox, alice, root, revocation="require", ocsp_responses=(response,), legacy=True)


@pytest.mark.parametrize(
    "data", [b"", b"no CRL", b"\x30\x00", b"-----BEGIN X509 CRL-----\n-----END X509 CRL-----\n"]
)
def test_what_is_no_crl_is_malformed(toolbox: Toolbox, alice: Forged, root: Forged, data: bytes) -> None:
    with pytest.raises(MalformedError, match="the CRL cannot be read"):
        judge(toolbox, alice, root, revocation="prefer", crls=(data,))


@pytest.mark.parametrize("data", [b"", b"no response", b"\x30\x00", b"\x30\x03\x0a\x01\x00"])
def test_what_is_no_ocsp_response_is_malformed(
    toolbox: Toolbox, alice: Forged, root: Forged, data: bytes
) -> None:
    with pytest.raises(MalformedError, match="the OCSP response cannot be read"):
        judge(toolbox, alice, root, revocation="prefer", ocsp_responses=(data,))


def test_a_responder_that_gives_no_answer_is_named_so(toolbox: Toolbox, alice: Forged, root: Forged) -> None:
    later = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    with pytest.raises(MalformedError, match="no answer but 'try_later'"):
        judge(toolbox, alice, root, revocation="prefer", ocsp_responses=(later.public_bytes(Encoding.DER),))


def test_a_person_who_is_the_anchor_has_nobody_to_revoke_it(toolbox: Toolbox) -> None:
    alice = toolbox.forge()
    judge(toolbox, alice, alice, revocation="require")
