"""Certification requests as a CA receives them (PKCS #10, RFC 2986): the key, its proof, and the names."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from tokensign.errors import BadSignatureError, MalformedError, UnsupportedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = ["REQUEST_MAXIMUM", "CertificationRequest", "read_request", "request_der"]

REQUEST_MAXIMUM: Final = 1 << 16  # octets; one for ML-DSA-87 has 7,500, or 10,000 as PEM
_NAMES_MAXIMUM: Final = 100  # names in a request; a person has a few addresses
_EXTENSION_REQUESTS: Final = {
    x509.ObjectIdentifier("1.2.840.113549.1.9.14"),  # RFC 2985 section 5.4.2
    x509.ObjectIdentifier("1.3.6.1.4.1.311.2.1.14"),  # Microsoft's, which is read likewise
}


@dataclass(frozen=True, slots=True)
class CertificationRequest:
    """What a request asks for; the profile decides what of it is granted.

    Attributes:
        public_key: The key; the request is signed with its private key.
        subject: The name that is asked for.
        emails: The addresses that are asked for.
        dns: The host names that are asked for.
    """

    public_key: PublicKeyTypes
    subject: x509.Name
    emails: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()


def read_request(encoded: bytes) -> CertificationRequest:
    """Read a request, and check that who made it has the private key (RFC 2986 section 4.2).

    Args:
        encoded: The CertificationRequest, DER or PEM.

    Raises:
        MalformedError: It is none, it is too large, or it asks for more names than anybody has.
        UnsupportedError: Its key or its signature is of a type that is not known.
        BadSignatureError: It is not signed by its own key.
    """
    if len(encoded) > REQUEST_MAXIMUM:
        raise MalformedError(f"the certification request is larger than {REQUEST_MAXIMUM} bytes")
    try:
        request = _load(encoded)
        with warnings.catch_warnings():  # of names that are too long, which the profile refuses
            warnings.simplefilter("ignore")
            subject = request.subject
        valid, public_key = request.is_signature_valid, request.public_key()
        names = _names(request)
    except UnsupportedAlgorithm as error:
        raise UnsupportedError(
            "the key or the signature of the certification request is of no known type"
        ) from error
    except x509.UnsupportedGeneralNameType as error:
        raise _unsupported_name("x400Address or ediPartyName") from error
    except (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension) as error:
        raise MalformedError(
            "this is no certification request", hint="make one with `tokensign cert request`"
        ) from error
    if not valid:
        raise BadSignatureError(
            "the certification request is not signed by its own key", hint="ask for a new one; it was changed"
        )
    if len(names) + len(list(subject)) > _NAMES_MAXIMUM:
        raise MalformedError(f"the certification request has more than {_NAMES_MAXIMUM} names")
    for name in names:
        if not isinstance(name, x509.RFC822Name | x509.DNSName):
            raise _unsupported_name(type(name).__name__)
    return CertificationRequest(
        public_key,
        subject,
        emails=tuple(name.value for name in names if isinstance(name, x509.RFC822Name)),
        dns=tuple(name.value for name in names if isinstance(name, x509.DNSName)),
    )


def request_der(encoded: bytes) -> bytes:
    """A request that `read_request` has read, in DER.

    Args:
        encoded: The CertificationRequest, DER or PEM.
    """
    return _load(encoded).public_bytes(Encoding.DER)


def _unsupported_name(kind: str) -> UnsupportedError:
    return UnsupportedError(
        f"the certification request asks for a name of type {kind}",
        hint="make one with e-mail addresses and host names only",
    )


def _load(encoded: bytes) -> x509.CertificateSigningRequest:
    is_pem = b"-----BEGIN " in encoded
    return x509.load_pem_x509_csr(encoded) if is_pem else x509.load_der_x509_csr(encoded)


def _names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    if sum(attribute.oid in _EXTENSION_REQUESTS for attribute in request.attributes) > 1:
        raise MalformedError(  # some programs would read the first, and some the second
            "the certification request asks for extensions twice",
            hint="make one with `tokensign cert request`",
        )
    try:
        return list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []
