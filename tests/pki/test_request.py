from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tokensign.algorithms import KeyUsage
from tokensign.errors import SigningError, UnsupportedError, UsageError
from tokensign.pki.request import certificate_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import SoftwareSigner

    Signers = Callable[..., SoftwareSigner]


@pytest.mark.parametrize("kind", ["rsa:2048", "p256", "p384", "ed25519"])
def test_openssl_verifies_the_request(software_signer: Signers, kind: str) -> None:
    request = certificate_request(software_signer(kind), "CN=Alice,O=Acme,C=CH", ["alice@example.org"])
    done = subprocess.run(
        ["openssl", "req", "-verify", "-noout", "-subject", "-text"],
        input=request,
        capture_output=True,
        check=True,
    )
    assert b"verify OK" in done.stderr
    assert b"subject=C = CH, O = Acme, CN = Alice" in done.stdout
    assert b"email:alice@example.org" in done.stdout


def test_the_request_asks_for_addresses_usage_and_mail(
    software_signer: Signers,
) -> None:
    signer = software_signer("rsa:2048")
    der = certificate_request(
        signer, "CN=Alice", ["a@example.org", "b@example.org"], usage=KeyUsage.BOTH, encoding=Encoding.DER
    )
    request = x509.load_der_x509_csr(der)
    assert request.public_key() == signer.public_key
    extensions = request.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.RFC822Name) == ["a@example.org", "b@example.org"]
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.content_commitment) == (True, True, False)
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.EMAIL_PROTECTION]


def test_without_addresses_there_is_no_alternative_name(
    software_signer: Signers,
) -> None:
    request = x509.load_pem_x509_csr(certificate_request(software_signer("p256"), "CN=Alice"))
    with pytest.raises(x509.ExtensionNotFound):
        request.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_a_false_signature_is_not_released(faulty_signer: Signers) -> None:
    with pytest.raises(SigningError, match="does not hold"):
        certificate_request(faulty_signer("p256"), "CN=Alice")


def test_what_cannot_be_meant_is_refused(software_signer: Signers) -> None:
    with pytest.raises(UsageError, match="not a distinguished name"):
        certificate_request(software_signer("p256"), "Alice")
    with pytest.raises(UsageError, match="not an e-mail address"):
        certificate_request(software_signer("p256"), "CN=Alice", ["alice"])
    with pytest.raises(UsageError, match="does not decrypt"):
        certificate_request(software_signer("ed25519"), "CN=Alice", usage=KeyUsage.DECRYPT)
    with pytest.raises(UsageError, match="does not sign"):
        certificate_request(software_signer("x25519"), "CN=Alice")
    with pytest.raises(UnsupportedError):
        certificate_request(software_signer("x25519"), "CN=Alice", usage=KeyUsage.DECRYPT)
