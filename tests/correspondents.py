"""People with software keys under a CA, and what they sign."""

# ruff: noqa: ANN401 - keys of every type pass through here

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from software_signer import SoftwareSigner

from tokensign.certificates import Certificate
from tokensign.cms.signed import SigningOptions, sign_attached
from tokensign.pki.policy import TrustPolicy
from tokensign.verification import Expectations, VerificationReport, verify

if TYPE_CHECKING:
    from collections.abc import Sequence

BOB = "bob@acme.example"
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


@cache
def private_key(name: str) -> Any:
    """A key for each name; an RSA key where the name says so."""
    return rsa.generate_private_key(65537, 2048) if "rsa" in name else ec.generate_private_key(ec.SECP256R1())


@dataclass
class Authority:
    """A CA, a root where no other one issued its certificate."""

    name: str
    above: Authority | None = None
    key: Any = field(init=False)
    certificate: Certificate = field(init=False)

    def __post_init__(self) -> None:
        self.key = private_key(self.name)
        issuer = self.above or self
        usage = ("key_cert_sign", "crl_sign")
        self.certificate = issuer.certify(self.key, self.name, (), usage, (-400, 4000), ca=True)

    def issue(
        self,
        key: str = "bob",
        emails: Sequence[str] = (BOB,),
        usage: Sequence[str] = ("digital_signature", "key_agreement"),
        days: tuple[int, int] = (-30, 300),
    ) -> Certificate:
        """A certificate, valid from and until some days from now."""
        return self.certify(private_key(key), key, emails, usage, days, ca=False)

    def crl(self, *revoked: Certificate) -> bytes:
        """A CRL, issued just now, DER."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        builder = x509.CertificateRevocationListBuilder(name, NOW - DAY / 24, NOW + DAY)
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder(certificate.serial_number, NOW - DAY)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)

    def certify(
        self,
        key: Any,
        name: str,
        emails: Sequence[str],
        usage: Sequence[str],
        days: tuple[int, int],
        *,
        ca: bool,
    ) -> Certificate:
        usages = (
            "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
            "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
        )  # fmt: skip
        subject, issuer = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, self.name)
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + days[0] * DAY)
            .not_valid_after(NOW + days[1] * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**{one: one in usage for one in usages}), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if emails:
            names = x509.SubjectAlternativeName([x509.RFC822Name(email) for email in emails])
            builder = builder.add_extension(names, critical=False)
        return Certificate(builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER))


@dataclass
class Mail:
    """What somebody signs, and what is found when it is verified by those who trust a CA."""

    authority: Authority

    @property
    def trust(self) -> TrustPolicy:
        return TrustPolicy(anchors=(self.authority.certificate,))

    def signed(self, certificate: Certificate, key: str = "bob", **options: Any) -> bytes:
        options.setdefault("signing_time", NOW - DAY)
        output = io.BytesIO()
        signer = SoftwareSigner(private_key(key), certificate)
        sign_attached(io.BytesIO(b"Hello"), [signer], output, SigningOptions(**options))
        return output.getvalue()

    def report(self, certificate: Certificate, key: str = "bob", **options: Any) -> VerificationReport:
        message = io.BytesIO(self.signed(certificate, key, **options))
        return verify(message, Expectations(trust=self.trust, email=BOB))
