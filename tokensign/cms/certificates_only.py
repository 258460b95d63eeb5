"""Messages that carry certificates and CRLs and no signature: degenerate SignedData (RFC 5652 section 5.2).

RFC 8551 section 3.8 calls them certs-only, with the file extension .p7c; many call them .p7b. Nothing in them
is protected: a certificate is worth what its own signature is worth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from asn1crypto import crl as asn1_crl

from tokensign.cms.content_info import DATA, parsing
from tokensign.cms.signed_data import read_signed_data
from tokensign.cms.signed_data_parts import SignedDataParts
from tokensign.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokensign.certificates import Certificate
    from tokensign.cms.signed_data import SignedData

__all__ = ["read_certificates_only", "write_certificates_only"]


def write_certificates_only(certificates: Iterable[Certificate], crls: Iterable[bytes] = ()) -> bytes:
    """A message that carries certificates and CRLs.

    Args:
        certificates: The certificates; each goes in once.
        crls: The CRLs, DER.

    Returns:
        A ContentInfo with SignedData, DER.

    Raises:
        UsageError: There is nothing to carry.
        MalformedError: One of the CRLs is none.
    """
    choices = {certificate.der for certificate in certificates}
    revocation = set(crls)
    for encoded in revocation:
        with parsing("CertificateList"):
            _ = asn1_crl.CertificateList.load(encoded, strict=True)["tbs_cert_list"]["issuer"].chosen
    if not choices and not revocation:
        raise UsageError("a certificates-only message needs a certificate or a CRL")
    return SignedDataParts(
        digest_algorithms=(), content_type=DATA, certificates=choices, revocation_choices=revocation
    ).detached()


def read_certificates_only(stream: BinaryIO) -> SignedData:
    """Read a message for its certificates and CRLs.

    Args:
        stream: The message in DER or BER from its current position; it must be able to seek.

    Returns:
        The message; what counts are its `certificates` and `crls`.

    Raises:
        MalformedError: The structure is broken.
        UnsupportedError: It is another kind of message, or it is signed.
    """
    message = read_signed_data(stream)
    if message.signer_infos or (
        message.content is not None and message.content.size()
    ):  # NSS: empty, not absent
        raise UnsupportedError("this is a signed message", hint="use `tokensign verify`")
    return message
