"""Certification requests (PKCS #10, RFC 2986), signed by the key that they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tokensign.algorithms import KeyUsage
from tokensign.distinguished_names import subject_name
from tokensign.errors import SigningError
from tokensign.pki.extensions import authority, end_entity
from tokensign.pki.signer_key import signer_key, signing_hash

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.keys import Signer
    from tokensign.pki.extensions import Extensions

__all__ = ["authority_request", "certificate_request"]


def certificate_request(
    signer: Signer,
    subject: str,
    emails: Iterable[str] = (),
    *,
    usage: KeyUsage = KeyUsage.SIGN,
    encoding: Encoding = Encoding.PEM,
) -> bytes:
    """Ask a CA for a certificate of a key, and prove that the key is at hand.

    The addresses, the key usage and e-mail protection are asked for in an extensionRequest (RFC 2985
    section 5.4.2); the CA decides.

    Args:
        signer: The key.
        subject: The name to be certified, such as "CN=Alice,O=Acme,C=CH" (RFC 4514).
        emails: The addresses to be certified.
        usage: What the key is for.
        encoding: PEM (RFC 7468) or DER.

    Returns:
        The CertificationRequest. Its signature was verified with the public key.

    Raises:
        UsageError: The subject or an address cannot be read, or the key cannot be used so.
        SigningError: The signature does not hold.
        TokenError: The token failed.
    """
    return _signed(signer, subject, end_entity(signer.public_key, usage, emails), encoding)


def authority_request(signer: Signer, subject: str, *, encoding: Encoding = Encoding.PEM) -> bytes:
    """Ask a CA for the certificate of a CA below it; see `certificate_request`.

    Args:
        signer: The key of the CA that is asked for.
        subject: The name to be certified, such as "CN=Acme People,O=Acme,C=CH" (RFC 4514).
        encoding: PEM (RFC 7468) or DER.

    Returns:
        The CertificationRequest. Its signature was verified with the public key.

    Raises:
        UsageError: The subject cannot be read.
        UnsupportedError: The key's type does not sign.
        SigningError: The signature does not hold.
        TokenError: The token failed.
    """
    return _signed(signer, subject, authority(path_length=None), encoding)


def _signed(signer: Signer, subject: str, extensions: Extensions, encoding: Encoding) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject_name(subject))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    request = builder.sign(signer_key(signer), signing_hash(signer.public_key))
    if not request.is_signature_valid:
        raise SigningError(
            "the signature of the fresh certification request does not hold",
            hint="check the token; it is faulty",
        )
    return request.public_bytes(encoding)
