"""The keys of a PIV card and their certificates, made afresh by an authority that exists for one card."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MIXED", "ONLY_ELLIPTIC", "Authority", "CardKey", "KeyType", "Slot"]

OWNER: Final = "Alice"
EMAIL: Final = "alice@example.org"
_VALIDITY: Final = timedelta(days=30)


class Slot(enum.IntEnum):
    """Where a key is, by its key reference (SP 800-73-4 part 1 table 4b)."""

    AUTHENTICATION = 0x9A
    SIGNATURE = 0x9C
    """Wants the PIN anew for each operation."""
    KEY_MANAGEMENT = 0x9D
    CARD_AUTHENTICATION = 0x9E
    """Wants no PIN."""
    RETIRED_1 = 0x82
    RETIRED_2 = 0x83


class KeyType(enum.IntEnum):
    """What a key is, by its algorithm identifier (SP 800-78-4 table 6-2)."""

    RSA_2048 = 0x07
    P256 = 0x11
    P384 = 0x14

    def generate(self) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
        """A fresh key of this type."""
        match self:
            case KeyType.RSA_2048:
                return rsa.generate_private_key(65537, 2048)
            case KeyType.P256:
                return ec.generate_private_key(ec.SECP256R1())
            case KeyType.P384:
                return ec.generate_private_key(ec.SECP384R1())


MIXED: Final[Mapping[Slot, KeyType]] = {
    Slot.AUTHENTICATION: KeyType.RSA_2048,
    Slot.SIGNATURE: KeyType.RSA_2048,
    Slot.KEY_MANAGEMENT: KeyType.RSA_2048,
    Slot.CARD_AUTHENTICATION: KeyType.P256,
    Slot.RETIRED_1: KeyType.P256,
    Slot.RETIRED_2: KeyType.P384,
}
"""RSA where most cards have it, and retired keys for key agreement."""

ONLY_ELLIPTIC: Final[Mapping[Slot, KeyType]] = {
    Slot.AUTHENTICATION: KeyType.P256,
    Slot.SIGNATURE: KeyType.P384,
    Slot.KEY_MANAGEMENT: KeyType.P256,
    Slot.CARD_AUTHENTICATION: KeyType.P256,
}


@dataclass(frozen=True)
class CardKey:
    """A key in a slot.

    Attributes:
        kind: Its type.
        private: The key.
        certificate: Its certificate.
    """

    kind: KeyType
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


class Authority:
    """Who issues the certificates of one card."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Card authority")])

    @cached_property
    def certificate(self) -> x509.Certificate:
        """Its own certificate, self-signed."""
        usage = _key_usage(key_cert_sign=True, crl_sign=True)
        return (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def make_key(self, slot: Slot, kind: KeyType) -> CardKey:
        """A fresh key with a certificate for the use of its slot (FIPS 201-3 section 4.2.2)."""
        private = kind.generate()
        rsa_key = isinstance(private, rsa.RSAPrivateKey)
        purposes = [ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.CLIENT_AUTH]
        match slot:
            case Slot.SIGNATURE:
                # Beyond the standard it may decrypt, to test a decryption that wants the PIN anew.
                usage = _key_usage(digital_signature=True, content_commitment=True, key_encipherment=rsa_key)
            case Slot.KEY_MANAGEMENT | Slot.RETIRED_1 | Slot.RETIRED_2:
                usage = _key_usage(key_encipherment=rsa_key, key_agreement=not rsa_key)
            case _:
                usage = _key_usage(digital_signature=True)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, OWNER)])
        certificate = (
            self._builder(subject, private.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.RFC822Name(EMAIL)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return CardKey(kind, private, certificate)

    def _builder(
        self, subject: x509.Name, public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC).replace(microsecond=0)
        own = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + _VALIDITY)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
        )


def _key_usage(**granted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**(dict.fromkeys(names, False) | granted))
