"""The public key that verifies a signature, out of the signer's certificate and in the light of the scheme.

Most keys are what `Certificate.public_key` says. Some are not: keys for RSASSA-PSS alone may restrict their
use, DSA keys may leave their parameters to the issuer, and SLH-DSA keys are unknown to cryptography.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tokensign import der
from tokensign.algorithms import DSA_KEY_OIDS, RSA_ENCRYPTION_OID, RSASSA_PSS_OID, SLH_DSA
from tokensign.cms.signature import PssParameters
from tokensign.cms.slh_dsa import SlhDsaPublicKey
from tokensign.errors import MalformedError, MessageError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.certificates import Certificate
    from tokensign.cms.signature import ReceivedScheme

__all__ = ["verification_key"]

_MAX_INHERITANCE: Final = (
    8  # certificates upward that may leave out their DSA parameters; paths are no longer
)


def verification_key(
    certificate: Certificate, scheme: ReceivedScheme, issuers: Sequence[Certificate] = ()
) -> PublicKeyTypes | SlhDsaPublicKey:
    """The key with which a signature is verified.

    Args:
        certificate: The signer's.
        scheme: How the signature claims to be made.
        issuers: Where DSA parameters may be inherited from (RFC 3279 section 2.3.2). Whoever chooses them can
            forge signatures, so they are never taken from the message itself.

    Raises:
        MalformedError: The key is broken, or restricted to other parameters than those of the signature.
        UnsupportedError: Its type is not known.
    """
    name, parameters, bits = _parts(certificate.public_key_info)
    match name:
        case _ if name == RSASSA_PSS_OID:
            _require_restrictions(parameters, scheme)
            return _load(der.sequence(der.sequence(_RSA_ENCRYPTION, der.NULL), bits), certificate)
        case _ if name in SLH_DSA and (key := SlhDsaPublicKey.load(certificate.public_key_info)):
            return key
        case _ if name in DSA_KEY_OIDS and not parameters:
            inherited = _inherited_parameters(certificate, issuers)
            return _load(der.sequence(der.sequence(_DSA, inherited), bits), certificate)
    return certificate.public_key


_RSA_ENCRYPTION: Final = der.object_identifier(RSA_ENCRYPTION_OID)
_DSA: Final = der.object_identifier(DSA_KEY_OIDS[0])


@der.remembered(256)
def _parts(public_key_info: bytes) -> tuple[str, tuple[bytes, ...], bytes]:
    """What a SubjectPublicKeyInfo has: the algorithm, dotted, its parameters, and the BIT STRING."""
    match der.elements(public_key_info):
        case [algorithm, bits]:
            oid, *parameters = der.elements(algorithm) or [b""]
            return der.dotted(oid), tuple(parameters), bits
        case _:
            raise MalformedError("the public key of a certificate is broken")


def _load(public_key_info: bytes, certificate: Certificate) -> PublicKeyTypes:
    try:
        return load_der_public_key(public_key_info)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnsupportedError(f"the public key of {certificate.subject} cannot be used") from error


def _require_restrictions(parameters: Sequence[bytes], scheme: ReceivedScheme) -> None:
    """A key for RSASSA-PSS alone makes nothing else, and only with its parameters (RFC 4055 section 3.3)."""
    if scheme.family != "rsa-pss":
        raise MalformedError(f"the signer's key is for RSA-PSS only, and the signature is {scheme}")
    if not parameters:
        return
    key = PssParameters.load(parameters[0])
    same = key.digest == scheme.digest and key.mgf_digest == scheme.mgf_digest
    if not same or scheme.salt_size < key.salt_size:
        raise MalformedError(
            "the PSS parameters of the signature are not those that the signer's key demands"
        )


def _inherited_parameters(certificate: Certificate, issuers: Sequence[Certificate]) -> bytes:
    """Dss-Parms of the nearest issuer that has them."""
    above = certificate
    for _ in range(_MAX_INHERITANCE):
        issuer = next((one for one in issuers if one.encoded_subject == above.encoded_issuer), None)
        if issuer is None:
            break
        name, parameters, _ = _parts(issuer.public_key_info)
        if name in DSA_KEY_OIDS and parameters:
            return parameters[0]
        above = issuer
    raise MessageError(
        f"the DSA key of {certificate.subject} has its issuer's parameters, whose certificate is not given",
        hint=f"give the certificate of {above.issuer} with --untrusted FILE",
    )
