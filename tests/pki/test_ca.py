from __future__ import annotations

import hashlib
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tokensign.algorithms import KeyUsage
from tokensign.certificates import Certificate
from tokensign.errors import MalformedError, SigningError, UnsupportedError, UsageError
from tokensign.pki.ca import DAYS_MAXIMUM, issue, root_certificate, self_signed
from tokensign.pki.certificate_builder import pyca_certificate
from tokensign.pki.trust import TrustPolicy, check_encryption_use, validate_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import SoftwareSigner, Toolbox

    Signers = Callable[..., SoftwareSigner]

KINDS = ["rsa:2048", "p256", "p384", "ed25519"]


def openssl_verify(root: Certificate, certificate: Certificate, folder: Path) -> str:
    (folder / "root.pem").write_text(root.pem())
    (folder / "leaf.pem").write_text(certificate.pem())
    return subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "smimesign", "-CAfile", "root.pem", "leaf.pem"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def loaded(certificate: Certificate) -> x509.Certificate:
    return x509.load_der_x509_certificate(certificate.der)


@pytest.mark.parametrize("kind", KINDS)
def test_a_ca_issues_what_openssl_and_our_own_validation_accept(
    software_signer: Signers, kind: str, tmp_path: Path
) -> None:
    ca = software_signer(kind, 1)
    root = root_certificate(ca, "CN=Acme CA,O=Acme,C=CH", path_length=0)
    alice = issue(ca, root, software_signer("p256").public_key, "CN=Alice,O=Acme,C=CH", ["alice@example.org"])
    assert openssl_verify(root, alice, tmp_path).strip() == "leaf.pem: OK"
    assert validate_path(alice, [], TrustPolicy((root,)), datetime.now(UTC)).certificates == (alice, root)
    assert alice.emails == ("alice@example.org",)
    assert alice.key_usage == {"digital_signature"}
    assert alice.extended_key_usage == {"email_protection"}
    assert not alice.is_ca


def test_keys_are_identified_by_the_hash_of_their_bits(
    software_signer: Signers,
) -> None:
    ca, person = software_signer("p256", 1), software_signer("p256")
    root = root_certificate(ca, "CN=CA")
    alice = issue(ca, root, person.public_key, "CN=Alice")
    bits = person.public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert alice.subject_key_identifier == hashlib.sha1(bits, usedforsecurity=False).digest()
    authority = loaded(alice).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == root.subject_key_identifier


def test_a_root_may_sign_certificates_and_lists_only(software_signer: Signers) -> None:
    root = root_certificate(software_signer("p256"), "CN=CA", path_length=1, days=10)
    assert root.key_usage == {"key_cert_sign", "crl_sign"}
    constraints = loaded(root).extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 1)


@pytest.mark.parametrize(
    ("kind", "usage", "expected"),
    [
        ("rsa:2048", KeyUsage.SIGN, {"digital_signature"}),
        ("rsa:2048", KeyUsage.DECRYPT, {"key_encipherment"}),
        ("rsa:2048", KeyUsage.BOTH, {"digital_signature", "key_encipherment"}),
        ("p256", KeyUsage.BOTH, {"digital_signature", "key_agreement"}),
        ("ed25519", KeyUsage.SIGN, {"digital_signature"}),
    ],
)
def test_the_key_usage_is_what_the_key_may_do(
    software_signer: Signers, kind: str, usage: KeyUsage, expected: set[str]
) -> None:
    certificate = self_signed(software_signer(kind), "CN=Alice", ["alice@example.org"], usage=usage)
    assert certificate.key_usage == expected
    if usage.decrypts:
        check_encryption_use(certificate)


def test_a_key_that_only_agrees_gets_a_certificate_from_a_ca(
    software_signer: Signers,
) -> None:
    ca = software_signer("p256", 1)
    public_key = software_signer("x25519").public_key
    carol = issue(ca, root_certificate(ca, "CN=CA"), public_key, "CN=Carol", usage=KeyUsage.DECRYPT)
    assert carol.key_usage == {"key_agreement"}


def test_a_self_signed_certificate_vouches_for_itself(software_signer: Signers, tmp_path: Path) -> None:
    alice = self_signed(software_signer("p256"), "CN=Alice", ["alice@example.org"])
    assert validate_path(alice, [], TrustPolicy((alice,)), datetime.now(UTC)).certificates == (alice,)
    (tmp_path / "alice.pem").write_text(alice.pem())
    subprocess.run(
        ["openssl", "verify", "-purpose", "smimesign", "-CAfile", "alice.pem", "alice.pem"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )


def test_serial_numbers_are_random_positive_and_at_most_twenty_octets(
    software_signer: Signers,
) -> None:
    serials = {self_signed(software_signer("p256"), "CN=Alice").serial_number for _ in range(20)}
    assert len(serials) == 20
    assert all(0 < serial <= 1 << 128 for serial in serials)
    assert max(serials).bit_length() > 100


def test_validity_begins_a_little_early_and_ends_as_asked(
    software_signer: Signers,
) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    certificate = self_signed(software_signer("p256"), "CN=Alice", days=30)
    after = datetime.now(UTC)
    assert before - timedelta(minutes=5) <= certificate.not_before <= after - timedelta(minutes=5)
    assert before + timedelta(days=30) <= certificate.not_after <= after + timedelta(days=30)


def test_a_certificate_stays_within_the_validity_of_its_ca(
    software_signer: Signers,
) -> None:
    ca = software_signer("p256", 1)
    root = root_certificate(ca, "CN=CA", days=10)
    alice = issue(ca, root, software_signer("p256").public_key, "CN=Alice", days=700)
    assert alice.not_after == root.not_after
    assert alice.not_before >= root.not_before


@pytest.mark.parametrize("days", [0, -1, DAYS_MAXIMUM + 1])
def test_impossible_lifetimes_are_refused(software_signer: Signers, days: int) -> None:
    with pytest.raises(UsageError, match="cannot be valid for"):
        self_signed(software_signer("p256"), "CN=Alice", days=days)


def test_only_a_ca_issues_and_with_its_own_key(software_signer: Signers, toolbox: Toolbox) -> None:
    ca, other = software_signer("p256", 1), software_signer("p256", 2)
    public_key = software_signer("p256").public_key
    with pytest.raises(UsageError, match="not that of a CA"):
        issue(ca, self_signed(ca, "CN=Alice"), public_key, "CN=Bob")
    with pytest.raises(UsageError, match="belongs to another key"):
        issue(other, root_certificate(ca, "CN=CA"), public_key, "CN=Bob")
    expired = toolbox.authority("Old CA", number=1, end=datetime(2026, 5, 20, tzinfo=UTC)).certificate
    with pytest.raises(UsageError, match="Old CA expired on 2026-05-20"):
        issue(ca, expired, public_key, "CN=Bob")


def test_a_ca_without_key_identifier_is_identified_by_its_key(
    software_signer: Signers, toolbox: Toolbox
) -> None:
    now = datetime.now(UTC)
    bare = toolbox.authority(identifiers=False, start=now - timedelta(1), end=now + timedelta(1)).certificate
    alice = issue(software_signer("p256", 1), bare, software_signer("p256").public_key, "CN=Alice")
    assert validate_path(alice, [], TrustPolicy((bare,)), datetime.now(UTC)).certificates == (alice, bare)


def test_weak_keys_get_no_certificate(software_signer: Signers) -> None:
    with pytest.raises(UnsupportedError, match="1024 bits"):
        self_signed(software_signer("rsa:1024"), "CN=Alice")


def test_a_false_signature_is_not_released(faulty_signer: Signers, software_signer: Signers) -> None:
    with pytest.raises(SigningError, match="does not hold"):
        root_certificate(faulty_signer("p256"), "CN=CA")
    root = root_certificate(software_signer("p256"), "CN=CA")
    with pytest.raises(SigningError, match="does not hold"):
        issue(faulty_signer("p256"), root, software_signer("p384").public_key, "CN=Alice")


def test_what_cryptography_cannot_read_of_a_certificate_is_an_error_of_ours(
    software_signer: Signers,
) -> None:
    root = root_certificate(software_signer("p256", 1), "CN=Acme CA,O=Acme,C=CH", path_length=0)
    refused = 0
    for position in range(len(root.der)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(root.der)
            damaged[position] ^= mask
            try:
                certificate = Certificate(bytes(damaged))
                pyca_certificate(certificate)
            except UnsupportedError:
                refused += 1
            except MalformedError:  # by our own reader
                continue
    assert refused
