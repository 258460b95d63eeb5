"""Software keys behind the Signer protocol, and certificates of every odd kind."""

# ruff: noqa: ANN401 - keys of every type pass through here

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from asn1crypto import crl as asn1_crl
from asn1crypto import ocsp as asn1_ocsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import (
    dsa,
    ec,
    ed448,
    ed25519,
    mldsa,
    padding,
    rsa,
    x25519,
)
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from software_signer import SoftwareSigner

from tokensign.certificates import Certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokensign.algorithms import SignatureScheme

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


class FaultySigner(SoftwareSigner):
    """A token whose signatures do not hold."""

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        return super().sign(message + b"fault", scheme)


@cache
def private_key(kind: str, number: int = 0) -> Any:
    """A key such as "rsa:2048", "p256", "ed25519"; another number is another key of the kind."""
    del number
    makers: dict[str, Callable[[], Any]] = {
        "p192": lambda: ec.generate_private_key(ec.SECP192R1()),
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ed448": ed448.Ed448PrivateKey.generate,
        "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
        "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
        "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
        "x25519": x25519.X25519PrivateKey.generate,
        "rsa:1024": lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505 - weak on purpose
        "rsa:2048": lambda: rsa.generate_private_key(65537, 2048),
        "dsa:1024": lambda: dsa.generate_private_key(1024),  # noqa: S505 - weak on purpose
    }
    return makers[kind]()


@dataclass
class Forged:
    """A certificate and its private key."""

    certificate: Certificate
    key: Any
    loaded: x509.Certificate


KEY_USAGES = (
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


def forge(
    name: str = "Alice",
    *,
    issuer: Forged | None = None,
    kind: str = "p256",
    number: int = 0,
    key: Any = None,
    issuer_name: str | None = None,
    subject: x509.Name | None = None,
    ca: bool | None = None,
    usage: Sequence[str] | None = None,
    extended: Sequence[x509.ObjectIdentifier] | None = None,
    extended_critical: bool = False,
    emails: Sequence[str] = (),
    start: datetime = NOW - timedelta(days=30),
    end: datetime = NOW + timedelta(days=30),
    sha1: bool = False,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    serial: int | None = None,
    identifiers: bool = True,
) -> Forged:
    """Any certificate at all, signed by `issuer` or by its own key."""
    key = key or private_key(kind, number)
    signing = issuer.key if issuer else key
    if subject is None:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)] if name else [])
    by = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer_name)]) if issuer_name else None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by or (issuer.loaded.subject if issuer else subject))
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    extensions: list[tuple[Any, bool]] = []
    if identifiers:
        extensions.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
    if ca is not None:
        extensions.append((x509.BasicConstraints(ca=ca, path_length=None), True))
    if usage is not None:
        extensions.append((x509.KeyUsage(**{entry: entry in usage for entry in KEY_USAGES}), True))
    if extended is not None:
        extensions.append((x509.ExtendedKeyUsage(extended), extended_critical))
    if emails:
        without_validation = x509.RFC822Name._init_without_validation  # noqa: SLF001 - odd addresses too
        names = [without_validation(email) for email in emails]
        extensions.append((x509.SubjectAlternativeName(names), False))
    for extension, critical in [*extensions, *extra]:
        builder = builder.add_extension(extension, critical=critical)
    if isinstance(signing, ed25519.Ed25519PrivateKey):
        loaded = builder.sign(signing, None)
    else:
        loaded = builder.sign(signing, hashes.SHA256())
    der = loaded.public_bytes(Encoding.DER)
    if sha1:
        der = sign_with_sha1(asn1_x509.Certificate.load(der), "tbs_certificate", signing)
    return Forged(Certificate(der), key, loaded)


def sign_with_sha1(signed: Any, content: str, key: Any) -> bytes:
    """Put a SHA-1 signature, which cryptography no longer makes in its builders, on a structure of X.509."""
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    name = "sha1_rsa" if is_rsa else "sha1_ecdsa"
    algorithm = hashes.SHA1()  # noqa: S303 - weak on purpose
    signed["signature_algorithm"] = {"algorithm": name}
    if content != "tbs_response_data":
        signed[content]["signature"] = {"algorithm": name}
    message = signed[content].dump(force=True)
    signed["signature" if content != "tbs_certificate" else "signature_value"] = (
        key.sign(message, padding.PKCS1v15(), algorithm) if is_rsa else key.sign(message, ec.ECDSA(algorithm))
    )
    return signed.dump(force=True)


@dataclass
class Toolbox:
    """What the tests of this folder share."""

    now: datetime = NOW

    def forge(self, *arguments: Any, **options: Any) -> Forged:
        """Any certificate at all; see `forge`."""
        return forge(*arguments, **options)

    def private_key(self, kind: str, number: int = 0) -> Any:
        """A key such as "rsa:2048"; see `private_key`."""
        return private_key(kind, number)

    def authority(self, name: str = "Root", **options: Any) -> Forged:
        """A CA certificate, self-signed unless an issuer is given."""
        return forge(name, **{"ca": True, "number": 1, "usage": ["key_cert_sign", "crl_sign"], **options})

    def crl(
        self,
        issuer: Forged,
        revoked: Sequence[Forged] = (),
        *,
        updated: datetime = NOW - timedelta(days=1),
        lasts: timedelta = timedelta(days=7),
        reason: x509.ReasonFlags = x509.ReasonFlags.key_compromise,
        revoked_at: datetime | None = None,
        sha1: bool = False,
        extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> bytes:
        """A CRL, DER; what it lists was revoked when it was made, or else at `revoked_at`."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.loaded.subject)
            .last_update(updated)
            .next_update(updated + lasts)
        )
        for extension, critical in extra:
            builder = builder.add_extension(extension, critical=critical)
        for entry in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(entry.loaded.serial_number)
                .revocation_date(revoked_at or updated)
                .add_extension(x509.CRLReason(reason), critical=False)
                .build()
            )
        der = builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)
        if sha1:
            return sign_with_sha1(asn1_crl.CertificateList.load(der), "tbs_cert_list", issuer.key)
        return der

    def ocsp(
        self,
        subject: Forged,
        issuer: Forged,
        *,
        revoked: bool = False,
        revoked_at: datetime | None = None,
        updated: datetime = NOW - timedelta(days=1),
        sha1: bool = False,
        extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    ) -> bytes:
        """An OCSP response signed by the issuer itself, DER; for `revoked_at` as with `crl`."""
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=subject.loaded,
                issuer=issuer.loaded,
                algorithm=hashes.SHA1(),  # noqa: S303 - names the issuer in a CertID (RFC 6960)
                cert_status=ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
                this_update=updated,
                next_update=updated + timedelta(days=7),
                revocation_time=(revoked_at or updated) if revoked else None,
                revocation_reason=x509.ReasonFlags.superseded if revoked else None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.loaded)
        )
        for extension, critical in extra:
            builder = builder.add_extension(extension, critical=critical)
        der = builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)
        if sha1:
            response = asn1_ocsp.OCSPResponse.load(der)
            basic = asn1_ocsp.BasicOCSPResponse.load(response["response_bytes"]["response"].contents)
            weak = sign_with_sha1(basic, "tbs_response_data", issuer.key)
            response["response_bytes"]["response"] = asn1_ocsp.BasicOCSPResponse.load(weak)
            return response.dump(force=True)
        return der


@pytest.fixture
def toolbox() -> Toolbox:
    return Toolbox()


@pytest.fixture
def software_signer() -> Callable[..., SoftwareSigner]:
    """Call it with a kind, such as "rsa:2048", "p256" or "ed25519", and another number for another key."""
    return lambda kind, number=0: SoftwareSigner(private_key(kind, number))


@pytest.fixture
def faulty_signer() -> Callable[..., SoftwareSigner]:
    return lambda kind: FaultySigner(private_key(kind, 0))


@pytest.fixture(scope="session")
def deviations() -> Callable[[str], set[str]]:
    """The cases of a suite that docs/deviations.md explains: `deviations("PKITS")`."""
    text = (Path(__file__).parents[2] / "docs" / "deviations.md").read_text()

    def of(suite: str) -> set[str]:
        section = text.partition(f"\n## {suite}\n")[2].partition("\n## ")[0]
        found = re.findall(r"^- `(.+)`$", section, re.MULTILINE)
        assert found
        assert len(found) == len(set(found))
        return set(found)

    return of
