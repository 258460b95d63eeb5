"""CRLs that nobody signed who may: they clear nobody, whatever genuine ones are beside them."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from asn1crypto import crl as asn1_crl
from timestamping import certify, now

from tokensign.errors import UntrustedError
from tokensign.pki.revocation import RevokedCertificateError
from tokensign.pki.trust import RevocationInfo, TrustPolicy, validate_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.pki.validated_path import ValidatedPath

ROOT = certify("Root", ca=True)
PEOPLE = ROOT.issue("People CA", ca=True)
SIBLING = ROOT.issue("Sibling CA", ca=True)
ALICE = PEOPLE.issue("Alice")


def validated(crls: Iterable[bytes]) -> ValidatedPath:
    policy = TrustPolicy((ROOT.certificate,), revocation="require")
    embedded = [RevocationInfo("crl", encoded) for encoded in crls]
    others = [PEOPLE.certificate, SIBLING.certificate]
    return validate_path(ALICE.certificate, others, policy, now(), embedded=embedded)


def test_a_crl_with_a_wrong_signature_clears_nobody_beside_a_crl_of_a_sibling() -> None:
    forged = bytearray(PEOPLE.crl())
    forged[-1] ^= 1
    for crls in itertools.permutations([ROOT.crl(), SIBLING.crl(), bytes(forged)]):
        with pytest.raises(UntrustedError, match="nothing tells"):
            validated(crls)


def test_a_crl_with_the_signature_of_another_clears_nobody() -> None:
    genuine = PEOPLE.crl(ALICE, since=now() - timedelta(hours=2))
    stolen = asn1_crl.CertificateList.load(genuine)["signature"].native
    clean = asn1_crl.CertificateList.load(PEOPLE.crl())
    fields = {name: clean[name] for name in ("tbs_cert_list", "signature_algorithm")}
    forged = asn1_crl.CertificateList(fields | {"signature": stolen}).dump()
    for crls in itertools.permutations([ROOT.crl(), genuine, forged]):
        with pytest.raises(RevokedCertificateError):
            validated(crls)


def test_the_crl_of_a_sibling_clears_nobody() -> None:
    with pytest.raises(UntrustedError, match="nothing tells whether the certificate of People CA"):
        validated([SIBLING.crl(), PEOPLE.crl()])


def test_the_crls_of_the_issuers_clear_the_path() -> None:
    path = validated([ROOT.crl(), SIBLING.crl(), PEOPLE.crl()])
    assert [entry.certificate for entry in path.revocation] == [PEOPLE.certificate, ALICE.certificate]
