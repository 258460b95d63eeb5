"""CAs whose keys are on tokens, of each type: what they sign is verified by others."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from certificate_authorities import private_key
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from software_signer import SoftwareSigner

from tokensign.algorithms import KeySpec
from tokensign.authority import Reason, create_authority, load_profile
from tokensign.certificates import Certificate
from tokensign.errors import UntrustedError
from tokensign.pki.request import certificate_request
from tokensign.pki.trust import TrustPolicy, validate_path
from tokensign.store import Store
from tokensign.token import delete_key, generate_key, open_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokensign.token import Token, TokenKey

REQUEST = certificate_request(SoftwareSigner(private_key("ec:p256")), "CN=Alice", ("alice@acme.example",))


@pytest.fixture(params=["ml-dsa-44", "ml-dsa-65", "ml-dsa-87"])
def lattice_key(request: pytest.FixtureRequest, nss_token: Token) -> Iterator[TokenKey]:
    key = open_key(nss_token, generate_key(nss_token, "ca", KeySpec.parse(request.param)))
    yield key
    delete_key(nss_token, key.info)


def life_of(signer: TokenKey, folder: Path) -> tuple[x509.Certificate, x509.Certificate, list[bytes]]:
    """A root, a certificate, and CRLs before and after it was revoked; verified with cryptography."""
    with Store(folder / "pki.sqlite") as store:
        root = create_authority(store, "root", signer, "CN=Acme Root", profile=load_profile("root-ca"))
        issued = root.issue(signer, REQUEST, load_profile("signing"))
        crls = [root.crl(signer)]
        root.revoke(issued.certificate.serial_number, Reason.KEY_COMPROMISE)
        crls.append(root.crl(signer))
    ca, leaf = (x509.load_der_x509_certificate(one.der) for one in (root.certificate, issued.certificate))
    ca.verify_directly_issued_by(ca)
    leaf.verify_directly_issued_by(ca)
    for crl, expected in zip(map(x509.load_der_x509_crl, crls), ([], [leaf.serial_number]), strict=True):
        assert crl.is_signature_valid(ca.public_key())  # type: ignore[arg-type]  # it signs
        assert [entry.serial_number for entry in crl] == expected
    return ca, leaf, crls


@pytest.mark.parametrize("spec", ["rsa:2048", "ec:p256", "ec:p384", "ec:p521", "ed25519"])
def test_openssl_accepts_what_a_ca_on_softhsm_signs(
    token_key: Callable[..., TokenKey], tmp_path: Path, spec: str
) -> None:
    ca, leaf, crls = life_of(token_key(spec, name="ca"), tmp_path)
    for name, one in (("ca", ca), ("leaf", leaf)):
        (tmp_path / f"{name}.pem").write_bytes(one.public_bytes(Encoding.PEM))
    outcomes = []
    for number, der in enumerate(crls):
        file = tmp_path / f"{number}.crl"
        file.write_bytes(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM))
        done = subprocess.run(
            ["openssl", "verify", "-crl_check", "-CAfile", "ca.pem", "-CRLfile", file.name, "leaf.pem"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        outcomes.append(done.stdout + done.stderr)
    assert outcomes[0] == "leaf.pem: OK\n"
    assert "certificate revoked" in outcomes[1]


def test_a_path_from_a_lattice_ca_on_nss_holds(lattice_key: TokenKey, tmp_path: Path) -> None:
    ca, leaf, (before, after) = life_of(lattice_key, tmp_path)
    assert ca.signature_algorithm_oid == leaf.signature_algorithm_oid
    assert ca.public_key_algorithm_oid == ca.signature_algorithm_oid  # RFC 9881 section 4
    anchor, certificate = (Certificate(one.public_bytes(Encoding.DER)) for one in (ca, leaf))
    policy = TrustPolicy((anchor,), revocation="require")
    now = datetime.now(UTC)
    path = validate_path(certificate, (), replace(policy, crls=(before,)), now)
    assert path.certificates == (certificate, anchor)
    with pytest.raises(UntrustedError, match="revoked"):
        validate_path(certificate, (), replace(policy, crls=(after,)), now)
