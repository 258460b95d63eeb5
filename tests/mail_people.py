"""People who write mail in tests: with keys in memory, which sign and decrypt as those on a token do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding

from tokensign.certificates import Certificate
from tokensign.pki.policy import TrustPolicy
from tokensign.verification import Expectations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.algorithms import SignatureScheme

USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


@dataclass(frozen=True)
class MailPerson:
    """Somebody with an address, a P-256 key and a certificate: a `Signer` and a `KeyAgreement`."""

    address: str
    key: ec.EllipticCurvePrivateKey
    certificate: Certificate
    chain: Sequence[Certificate] = ()

    @property
    def certificates(self) -> Sequence[Certificate]:
        return (self.certificate,)

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self.key.public_key()

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        return self.key.sign(message, ec.ECDSA(scheme.digest.primitive()))

    def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        return self.key.sign(digest, ec.ECDSA(utils.Prehashed(scheme.digest.primitive())))

    def agree(self, peer: Any) -> bytes:  # noqa: ANN401 - a public key
        return self.key.exchange(ec.ECDH(), peer)


@cache
def person(address: str) -> MailPerson:
    """The person with an address, always the same one in a process."""
    key = ec.generate_private_key(ec.SECP256R1())
    return MailPerson(address, key, _issued(key, address, *_authority()))


@cache
def trusting() -> Expectations:
    """What those expect who trust the mail CA."""
    return Expectations(trust=TrustPolicy(anchors=(_authority()[1],)))


@cache
def _authority() -> tuple[ec.EllipticCurvePrivateKey, Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _issued(key, "", key, None)


def _issued(
    key: ec.EllipticCurvePrivateKey, address: str, ca_key: ec.EllipticCurvePrivateKey, ca: Certificate | None
) -> Certificate:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    usage = {"digital_signature", "key_agreement"} if ca else {"key_cert_sign"}
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(address.partition("@")[0].capitalize() if ca else "Mail CA"))
        .issuer_name(name("Mail CA"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{entry: entry in usage for entry in USAGES}), critical=True)
    )
    if ca:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.RFC822Name(address)]), critical=False
        )
    return Certificate(builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.DER))
