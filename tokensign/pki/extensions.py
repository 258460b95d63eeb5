"""The certificate extensions that tokensign writes (RFC 5280 section 4.2, RFC 8550 section 4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa, x448, x25519
from cryptography.x509.oid import ExtendedKeyUsageOID

from tokensign.errors import UsageError
from tokensign.pki.names import mailboxes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PublicKeyTypes

    from tokensign.algorithms import KeyUsage

__all__ = [
    "Extensions",
    "authority",
    "end_entity",
    "end_entity_usages",
    "key_usage",
    "subject_key_identifier",
]

_DECRYPTING: Final = (
    x25519.X25519PublicKey,
    x448.X448PublicKey,
    mlkem.MLKEM768PublicKey,
    mlkem.MLKEM1024PublicKey,
)

Extensions = list[tuple[x509.ExtensionType, bool]]
"""Extensions, each with whether it is critical."""


def end_entity(public_key: PublicKeyTypes, usage: KeyUsage, emails: Iterable[str]) -> Extensions:
    """What a person's certificate or request says: how the key is used, for mail, by whom.

    nonRepudiation is not set: it promises something about the person's intent that only a policy of the CA
    can define (RFC 5280 section 4.2.1.3), and S/MIME does without (RFC 8550 section 4.4.2).

    Args:
        public_key: The person's key.
        usage: What the key is for.
        emails: The person's addresses; may be none.

    Raises:
        UsageError: The key cannot be used so, or an address is none.
    """
    extensions: Extensions = [
        (key_usage(end_entity_usages(public_key, usage)), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
    ]
    if addresses := mailboxes(emails):
        extensions.append((x509.SubjectAlternativeName(addresses), False))
    return extensions


def authority(path_length: int | None) -> Extensions:
    """What a CA certificate says.

    Args:
        path_length: CAs that may follow below, or None for any number.
    """
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (key_usage({"key_cert_sign", "crl_sign"}), True),
    ]


def subject_key_identifier(public_key: PublicKeyTypes) -> x509.SubjectKeyIdentifier:
    """SHA-1 of the subjectPublicKey bits (RFC 5280 section 4.2.1.2 method 1); a name, no protection."""
    return x509.SubjectKeyIdentifier.from_public_key(cast("CertificatePublicKeyTypes", public_key))


def end_entity_usages(public_key: PublicKeyTypes, usage: KeyUsage) -> set[str]:
    """The bits of keyUsage for a key that is not a CA's, in cryptography's names.

    Args:
        public_key: The key.
        usage: What it is for.

    Raises:
        UsageError: The key cannot be used so.
    """
    usages = set()
    if usage.signs:
        if isinstance(public_key, _DECRYPTING):
            raise UsageError("this key does not sign", hint="ask for the usage decrypt")
        usages.add("digital_signature")
    if usage.decrypts:
        match public_key:
            case rsa.RSAPublicKey() | mlkem.MLKEM768PublicKey() | mlkem.MLKEM1024PublicKey():
                usages.add("key_encipherment")  # of ML-KEM: RFC 9935 section 5
            case ec.EllipticCurvePublicKey() | x25519.X25519PublicKey() | x448.X448PublicKey():
                usages.add("key_agreement")
            case _:
                raise UsageError("this key does not decrypt", hint="ask for the usage sign")
    return usages


def key_usage(usages: set[str]) -> x509.KeyUsage:
    """The extension keyUsage.

    Args:
        usages: The bits that are set, in cryptography's names.
    """
    return x509.KeyUsage(
        digital_signature="digital_signature" in usages,
        content_commitment=False,
        key_encipherment="key_encipherment" in usages,
        data_encipherment=False,
        key_agreement="key_agreement" in usages,
        key_cert_sign="key_cert_sign" in usages,
        crl_sign="crl_sign" in usages,
        encipher_only=False,
        decipher_only=False,
    )
