"""A small PKI whose certificates are valid now, and a timestamp authority: OpenSSL's, behind HTTP."""

from __future__ import annotations

import io
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from asn1crypto import tsp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tokensign import der
from tokensign.certificates import Certificate
from tokensign.cms.signed import SigningOptions, sign_attached
from tokensign.cms.timestamp import TST_INFO, TimestampRequest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from loopback import Exchange

    from tokensign.algorithms import SignatureScheme

POLICY = "1.2.3.4.1"  # of the timestamps
_CONFIGURATION = f"""\
[tsa]
default_tsa = here
[here]
serial = {{folder}}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = {POLICY}
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""


@dataclass(frozen=True)
class Holder:
    """A certificate with its key; as far as it may, it issues others. It signs as a Signer does."""

    loaded: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: Sequence[Certificate] = ()

    @cached_property
    def certificate(self) -> Certificate:
        return Certificate(self.loaded.public_bytes(Encoding.DER))

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self.key.public_key()

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        return self.key.sign(message, ec.ECDSA(scheme.digest.primitive()))

    def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        raise NotImplementedError

    def issue(self, name: str, **options: Any) -> Holder:  # noqa: ANN401 - those of `certify`
        """A certificate below this one."""
        return certify(name, issuer=self, **options)

    def crl(self, *revoked: Holder, since: datetime | None = None, at: datetime | None = None) -> bytes:
        """A CRL that holds for a week from `at`, DER; `revoked` were revoked at `since`."""
        made = at or now() - timedelta(hours=1)
        builder = x509.CertificateRevocationListBuilder(self.loaded.subject, made, made + timedelta(days=7))
        for holder in revoked:
            entry = x509.RevokedCertificateBuilder(holder.loaded.serial_number, since or made)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


def now() -> datetime:
    """To the second, as certificates have it."""
    return datetime.now(UTC).replace(microsecond=0)


def certify(
    name: str,
    *,
    issuer: Holder | None = None,
    ca: bool = False,
    timestamping: bool = False,
    also: Sequence[x509.ObjectIdentifier] = (),
    days: int = 365,
    since: timedelta = timedelta(days=1),
) -> Holder:
    """A certificate that began a day ago; one for time stamping has that as its only and critical usage."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.loaded.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - since)
        .not_valid_after(now() + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if timestamping:
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING, *also])
        builder = builder.add_extension(usages, critical=True)
    loaded = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    above = (issuer.certificate, *issuer.chain) if issuer else ()
    return Holder(loaded, key, above)


@dataclass
class OpensslTsa:
    """OpenSSL's timestamp authority.

    Attributes:
        folder: Where its files are; it is its own.
        holder: Its key and certificate.
        chained: Whether its tokens hold the certificates above its own too.
    """

    folder: Path
    holder: Holder
    chained: bool = True

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "tsa.cnf").write_text(_CONFIGURATION.format(folder=self.folder))
        (self.folder / "serial").write_text("01\n")
        (self.folder / "tsa.pem").write_text(self.holder.certificate.pem())
        (self.folder / "chain.pem").write_text("".join(entry.pem() for entry in self.holder.chain))
        (self.folder / "tsa.key").write_bytes(
            self.holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )

    def reply(self, request: bytes) -> bytes:
        """The response to a request, DER."""
        query, reply = self.folder / "query.tsq", self.folder / "reply.tsr"
        query.write_bytes(request)
        files = ["-config", self.folder / "tsa.cnf", "-signer", self.folder / "tsa.pem"]
        files += ["-inkey", self.folder / "tsa.key", "-queryfile", query, "-out", reply]
        if self.chained:
            files += ["-chain", self.folder / "chain.pem"]
        subprocess.run(["openssl", "ts", "-reply", *files], check=True, capture_output=True, timeout=30)
        return reply.read_bytes()

    def page(self, exchange: Exchange) -> None:
        """Answers as an honest TSA does."""
        exchange.answer(self.reply(exchange.body), content_type="application/timestamp-reply")


@dataclass(frozen=True)
class CarelessTsa:
    """A timestamp authority that signs with whatever certificate it has, and says any time.

    Attributes:
        holder: Its key and certificate.
        time: genTime.
    """

    holder: Holder
    time: datetime

    def reply(self, request: bytes) -> bytes:
        """The response to a request, DER."""
        asked = TimestampRequest.load(request)
        info = tsp.TSTInfo(
            {
                "version": "v1",
                "policy": POLICY,
                "message_imprint": {
                    "hash_algorithm": {"algorithm": asked.digest.name},
                    "hashed_message": asked.hashed_message,
                },
                "serial_number": 1,
                "gen_time": self.time,
                "nonce": asked.nonce,
            }
        )
        token = io.BytesIO()
        options = SigningOptions(content_type=TST_INFO)
        sign_attached(io.BytesIO(info.dump()), [self.holder], token, options)
        return der.sequence(der.sequence(der.integer(0)), token.getvalue())

    def page(self, exchange: Exchange) -> None:
        """Answers a request."""
        exchange.answer(self.reply(exchange.body), content_type="application/timestamp-reply")
