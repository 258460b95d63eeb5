"""A certificate authority for the tests, and people with keys in software for the peers' side."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, mlkem, rsa, x25519
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes

    from peers.schemes import KeyType

PASSPHRASE = "interop"
_GENERATORS: dict[KeyType, Callable[[], PrivateKeyTypes]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "x25519": x25519.X25519PrivateKey.generate,
    "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
    "ml-kem-768": mlkem.MLKEM768PrivateKey.generate,
    "ml-kem-1024": mlkem.MLKEM1024PrivateKey.generate,
}


@dataclass(frozen=True)
class Person:
    """Somebody with a key in software and a certificate."""

    name: str
    private_key: PrivateKeyTypes
    certificate: x509.Certificate

    def pem(self) -> bytes:
        """The private key, PKCS#8 without encryption."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def pkcs12(self) -> bytes:
        """Key and certificate under PASSPHRASE, called by the certificate's fingerprint."""
        encryption = serialization.BestAvailableEncryption(PASSPHRASE.encode())
        return pkcs12.serialize_key_and_certificates(
            fingerprint(self.certificate).encode(), self.private_key, self.certificate, None, encryption
        )


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate in hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


class Authority:
    """A root CA with an RSA key, which every peer can verify.

    Args:
        name: The common name of its subject.
    """

    def __init__(self, name: str = "Interop CA") -> None:
        self._private_key = rsa.generate_private_key(65537, 2048)
        self._subject = _name(name)
        key_usage = _key_usage(key_cert_sign=True, crl_sign=True)
        public_key = self._private_key.public_key()
        self.certificate = (
            self._builder(self._subject, public_key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(key_usage, critical=True)
            .sign(self._private_key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def issue(self, name: str, public_key: CertificatePublicKeyTypes) -> x509.Certificate:
        """A certificate for e-mail: `name` as common name and NAME@example.test as address."""
        encapsulates = isinstance(public_key, mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey)
        signs = not (encapsulates or isinstance(public_key, x25519.X25519PublicKey))
        agrees = isinstance(public_key, x25519.X25519PublicKey | ec.EllipticCurvePublicKey)
        key_usage = _key_usage(
            digital_signature=signs,
            key_encipherment=agrees  # gpgsm asks for it, too
            or encapsulates
            or isinstance(public_key, rsa.RSAPublicKey),
            key_agreement=agrees,
        )
        return (
            self._builder(_name(name), public_key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.RFC822Name(f"{name}@example.test")]), critical=False
            )
            .sign(self._private_key, hashes.SHA256())
        )

    def person(self, name: str, key_type: KeyType) -> Person:
        """Somebody with a fresh key in software."""
        private_key = _GENERATORS[key_type]()
        return Person(name, private_key, self.issue(name, private_key.public_key()))

    def _builder(self, subject: x509.Name, public_key: CertificatePublicKeyTypes) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        authority_key = self._private_key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key), critical=False)
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "tokensign"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_agreement: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=key_agreement,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
