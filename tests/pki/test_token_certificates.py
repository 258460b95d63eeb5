"""A CA and two people whose keys are on a token: the certificates of the demonstration."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from tokensign.algorithms import KeySpec, KeyUsage
from tokensign.pki.ca import issue, root_certificate, self_signed
from tokensign.pki.request import certificate_request
from tokensign.pki.trust import TrustPolicy, check_encryption_use, validate_path
from tokensign.token import delete_key, generate_key, open_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokensign.token import Token, TokenKey

SPECS = ["rsa:2048", "ec:p256", "ec:p384", "ed25519"]


@pytest.mark.parametrize("spec", SPECS)
def test_a_ca_on_the_token_certifies_two_people_on_the_token(
    token_key: Callable[..., TokenKey], tmp_path: Path, spec: str
) -> None:
    ca = token_key(spec, KeyUsage.SIGN, "ca")
    root = root_certificate(ca, "CN=Acme CA,O=Acme,C=CH", path_length=0)
    (tmp_path / "root.pem").write_text(root.pem())
    for name, person, usage in (
        ("alice", "ec:p256", KeyUsage.SIGN),
        ("bob", "rsa:2048", KeyUsage.BOTH),
    ):
        key = token_key(person, usage, name)
        certificate = issue(
            ca, root, key.public_key, f"CN={name},O=Acme,C=CH", [f"{name}@example.org"], usage=usage
        )
        assert validate_path(certificate, [], TrustPolicy((root,)), datetime.now(UTC)).certificates == (
            certificate,
            root,
        )
        if usage.decrypts:
            check_encryption_use(certificate)
        (tmp_path / f"{name}.pem").write_text(certificate.pem())
    done = subprocess.run(
        ["openssl", "verify", "-purpose", "smimesign", "-CAfile", "root.pem", "alice.pem", "bob.pem"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["alice.pem: OK", "bob.pem: OK"]


@pytest.mark.parametrize("spec", SPECS)
def test_a_key_on_the_token_asks_for_a_certificate(token_key: Callable[..., TokenKey], spec: str) -> None:
    request = certificate_request(token_key(spec), "CN=Alice,O=Acme,C=CH", ["alice@example.org"])
    done = subprocess.run(
        ["openssl", "req", "-verify", "-noout"], input=request, capture_output=True, check=True
    )
    assert b"verify OK" in done.stderr


@pytest.mark.parametrize("spec", SPECS)
def test_a_key_on_the_token_certifies_itself(token_key: Callable[..., TokenKey], spec: str) -> None:
    alice = self_signed(token_key(spec), "CN=Alice", ["alice@example.org"])
    assert validate_path(alice, [], TrustPolicy((alice,)), datetime.now(UTC)).certificates == (alice,)


@pytest.mark.parametrize("spec", ["ml-dsa-44", "ml-dsa-65", "ml-dsa-87"])
def test_an_ml_dsa_key_on_the_token_asks_for_a_certificate_and_certifies_itself(
    nss_token: Token, spec: str
) -> None:
    info = generate_key(nss_token, f"person {spec}", KeySpec.parse(spec))
    try:
        key = open_key(nss_token, info)
        encoded = certificate_request(key, "CN=Alice,O=Acme,C=CH", ["alice@example.org"])
        request = x509.load_pem_x509_csr(encoded)
        assert request.is_signature_valid
        assert request.public_key() == key.public_key
        loaded = x509.load_der_x509_certificate(self_signed(key, "CN=Alice", ["alice@example.org"]).der)
        loaded.verify_directly_issued_by(loaded)
        assert loaded.signature_algorithm_oid == loaded.public_key_algorithm_oid  # RFC 9881 section 2
        assert loaded.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    finally:
        delete_key(nss_token, info)
