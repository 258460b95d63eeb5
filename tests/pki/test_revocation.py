from __future__ import annotations

import itertools
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest
from asn1crypto import crl as asn1_crl
from asn1crypto import ocsp as asn1_ocsp
from asn1crypto import pem
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from tokensign import der
from tokensign.errors import MalformedError, UntrustedError
from tokensign.pki.revocation import RevokedCertificateError
from tokensign.pki.revocation.inquiry import EMBEDDED_MAXIMUM
from tokensign.pki.revocation.ocsp import ANSWERS_MAXIMUM
from tokensign.pki.trust import RevocationInfo, TrustPolicy, validate_path

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


def test_information_may_be_asked_to_be_newer_than_its_issuer_says(
    toolbox: Toolbox, alice: Forged, root: Forged
) -> None:
    crl = toolbox.crl(root)  # a day old, for a week
    judge(toolbox, alice, root, revocation="require", crls=(crl,), maximum_age=timedelta(days=1))
    with pytest.raises(UntrustedError, match="nothing tells") as refusal:
        judge(toolbox, alice, root, revocation="require", crls=(crl,), maximum_age=timedelta(hours=23))
    assert "one is older than 23:00:00: 2026-05-31 12:00 UTC" in (refusal.value.hint or "")


def test_each_answer_is_told_with_its_age(toolbox: Toolbox, alice: Forged, root: Forged) -> None:
    crl, response = toolbox.crl(root), toolbox.ocsp(alice, root)
    policy = TrustPolicy((root.certificate,), revocation="prefer", crls=(crl,), ocsp_responses=(response,))
    path = validate_path(alice.certificate, [], policy, toolbox.now)
    told = {(entry.kind, entry.source, entry.status, entry.encoded) for entry in path.revocation}
    assert told == {("crl", "given", "good", crl), ("ocsp", "given", "good", response)}
    assert {entry.this_update for entry in path.revocation} == {toolbox.now - timedelta(days=1)}
    assert path.valid_until == toolbox.now + timedelta(days=6)


def test_what_comes_along_with_a_message_counts_like_what_is_given(
    toolbox: Toolbox, alice: Forged, root: Forged
) -> None:
    policy = TrustPolicy((root.certificate,), revocation="require")
    for info in (
        RevocationInfo("crl", toolbox.crl(root)),
        RevocationInfo("ocsp", toolbox.ocsp(alice, root)),
    ):
        path = validate_path(alice.certificate, [], policy, toolbox.now, embedded=[info])
        assert [entry.source for entry in path.revocation] == ["embedded"]
        with pytest.raises(UntrustedError, match="nothing tells"):  # not remembered for messages without it
            validate_path(alice.certificate, [], policy, toolbox.now)
    revoking = RevocationInfo("crl", toolbox.crl(root, [alice]))
    with pytest.raises(RevokedCertificateError):
        validate_path(
            alice.certificate, [], replace(policy, revocation="prefer"), toolbox.now, embedded=[revoking]
        )


@pytest.mark.parametrize("kind", ["crl", "ocsp"])
def test_broken_or_foreign_information_in_a_message_does_no_harm(
    toolbox: Toolbox, alice: Forged, root: Forged, kind: Literal["crl", "ocsp"]
) -> None:
    policy = TrustPolicy((root.certificate,), revocation="prefer")
    forged = toolbox.authority(number=4)  # the name of the root, another key
    odd = toolbox.authority(kind="rsa:2048")  # and an algorithm that does not fit the root's key
    encoded = {
        "crl": [b"", b"\x30\x00", toolbox.crl(forged, [alice]), toolbox.crl(odd, [alice])],
        "ocsp": [
            b"",
            b"\x30\x00",
            toolbox.ocsp(alice, forged, revoked=True),
            toolbox.ocsp(alice, odd, revoked=True),
        ],
    }[kind]
    embedded = [RevocationInfo(kind, entry) for entry in encoded]
    path = validate_path(alice.certificate, [], policy, toolbox.now, embedded=embedded)
    assert path.revocation == ()


def test_a_message_is_not_searched_for_more_than_a_hundred(
    toolbox: Toolbox, alice: Forged, root: Forged
) -> None:
    junk = [RevocationInfo("crl", number.to_bytes(2)) for number in range(EMBEDDED_MAXIMUM)]
    policy = TrustPolicy((root.certificate,), revocation="require")
    last = RevocationInfo("crl", toolbox.crl(root))
    assert validate_path(alice.certificate, [], policy, toolbox.now, embedded=[*junk[1:], last])
    with pytest.raises(UntrustedError, match="nothing tells") as refusal:
        validate_path(alice.certificate, [], policy, toolbox.now, embedded=[*junk, last])
    assert "only 100 of the CRLs and OCSP responses were looked at" in (refusal.value.hint or "")


def complete_crl(toolbox: Toolbox, root: Forged, number: int, *revoked: Forged) -> bytes:
    """A CRL that says that there are delta CRLs."""
    place = x509.DistributionPoint([x509.UniformResourceIdentifier("http://ca.example/")], None, None, None)
    extra = [(x509.CRLNumber(number), False), (x509.FreshestCRL([place]), False)]
    return toolbox.crl(root, revoked, extra=extra)


def delta_crl(
    toolbox: Toolbox,
    root: Forged,
    base: int,
    number: int,
    *revoked: Forged,
    **options: Any,  # noqa: ANN401 - of the toolbox
) -> bytes:
    extra = [(x509.CRLNumber(number), False), (x509.DeltaCRLIndicator(base), True)]
    return toolbox.crl(root, revoked, updated=toolbox.now - timedelta(hours=1), extra=extra, **options)


def test_a_delta_crl_updates_a_complete_one(toolbox: Toolbox, alice: Forged, root: Forged) -> None:
    base = complete_crl(toolbox, root, 5)
    judge(toolbox, alice, root, revocation="require", crls=(base, delta_crl(toolbox, root, 5, 6)))
    with pytest.raises(RevokedCertificateError):
        judge(toolbox, alice, root, revocation="prefer", crls=(base, delta_crl(toolbox, root, 4, 6, alice)))
    back = delta_crl(toolbox, root, 5, 6, alice, reason=x509.ReasonFlags.remove_from_crl)
    held = complete_crl(toolbox, root, 5, alice)
    judge(toolbox, alice, root, revocation="require", crls=(held, back))


@pytest.mark.parametrize(("base", "number"), [(6, 7), (2, 4)])
def test_a_delta_crl_of_another_complete_one_updates_nothing(
    toolbox: Toolbox, alice: Forged, root: Forged, base: int, number: int
) -> None:
    """Made for a later CRL, or older than this one (RFC 5280 section 5.2.4)."""
    removed = delta_crl(toolbox, root, base, number, alice, reason=x509.ReasonFlags.remove_from_crl)
    with pytest.raises(UntrustedError, match="nothing tells"):
        judge(toolbox, alice, root, revocation="require", crls=(complete_crl(toolbox, root, 5), removed))


def test_a_forged_delta_crl_keeps_no_genuine_one_away(toolbox: Toolbox, alice: Forged, root: Forged) -> None:
    base, genuine = complete_crl(toolbox, root, 5), delta_crl(toolbox, root, 5, 6, alice)
    forged = delta_crl(toolbox, toolbox.authority(number=4), 5, 9)
    for crls in itertools.permutations((base, genuine, forged)):
        with pytest.raises(RevokedCertificateError):
            judge(toolbox, alice, root, revocation="prefer", crls=crls)
    with pytest.raises(UntrustedError, match="nothing tells"):
        judge(toolbox, alice, root, revocation="require", crls=(base, forged))


def test_a_large_crl_is_searched_in_no_time(toolbox: Toolbox, alice: Forged, root: Forged) -> None:
    """Some MB: asn1crypto alone would take seconds for its entries."""
    asn1 = asn1_crl.CertificateList.load(toolbox.crl(root, [alice]))
    entry = asn1["tbs_cert_list"]["revoked_certificates"][0].dump()
    serial = der.integer(alice.certificate.serial_number)
    others = [
        entry.replace(serial, serial[:4] + number.to_bytes(len(serial) - 4)) for number in range(1, 60_001)
    ]
    for entries, is_revoked in ((others, False), ([*others, entry], True)):
        asn1["tbs_cert_list"]["revoked_certificates"] = asn1_crl.RevokedCertificates.load(
            der.sequence(*entries)
        )
        tbs = asn1["tbs_cert_list"].dump()
        signature = root.key.sign(tbs, ec.ECDSA(hashes.SHA256()))
        encoded = der.sequence(tbs, asn1["signature_algorithm"].dump(), der.tlv(0x03, b"\x00" + signature))
        started = time.process_time()
        if is_revoked:
            with pytest.raises(RevokedCertificateError):
                judge(toolbox, alice, root, revocation="require", crls=(encoded,))
        else:
            judge(toolbox, alice, root, revocation="require", crls=(encoded,))
        assert time.process_time() - started < 1
        assert len(encoded) > 2_000_000


def test_a_response_with_very_many_answers_is_refused(toolbox: Toolbox, alice: Forged, root: Forged) -> None:
    asn1 = asn1_ocsp.OCSPResponse.load(toolbox.ocsp(alice, root))
    answers = asn1.response_data["responses"]
    single = answers[0].dump()
    many = asn1_ocsp.Responses.load(der.sequence(*[single] * (ANSWERS_MAXIMUM + 1)))
    basic = asn1.basic_ocsp_response
    basic["tbs_response_data"]["responses"] = many
    asn1["response_bytes"]["response"] = basic
    with pytest.raises(MalformedError, match="more than 100 answers"):
        judge(toolbox, alice, root, revocation="prefer", ocsp_responses=(asn1.dump(force=True),))


def test_an_extension_that_nobody_understands_makes_an_ocsp_response_void(
    toolbox: Toolbox, alice: Forged, root: Forged
) -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    judge(
        toolbox,
        alice,
        root,
        revocation="require",
        ocsp_responses=(toolbox.ocsp(alice, root, extra=[(unknown, False)]),),
    )
    with pytest.raises(UntrustedError, match=r"critical extension 1\.2\.3\.4"):
        judge(
            toolbox,
            alice,
            root,
            revocation="require",
            ocsp_responses=(toolbox.ocsp(alice, root, extra=[(unknown, True)]),),
        )


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
