"""KeyTransRecipientInfo: an RSA key encrypts the content-encryption key (RFC 5652 section 6.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asn1crypto import algos, cms
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tokensign import der
from tokensign.algorithms import (
    MGF1_OID,
    P_SPECIFIED_OID,
    RSA_ENCRYPTION_OID,
    RSA_MAXIMUM_BITS,
    RSA_MINIMUM_BITS,
    RSAES_OAEP_OID,
    Digest,
    Strength,
    digest_by_oid,
    require_strength,
)
from tokensign.cms.ber import OCTET_STRING
from tokensign.cms.content_info import parsing
from tokensign.cms.recipients.identifier import RecipientIdentifier
from tokensign.errors import MalformedError, UnsupportedError
from tokensign.keys import Decrypter, OaepTransport, Pkcs1Transport

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.keys import DecryptionKey, KeyTransport

__all__ = ["KeyTransRecipientInfo", "encode_key_trans", "load_key_trans"]


@dataclass(frozen=True, slots=True)
class KeyTransRecipientInfo:
    """A recipient with an RSA key.

    Attributes:
        identifier: Names the recipient's certificate.
        key_encryption_algorithm: AlgorithmIdentifier, DER.
        encrypted_key: The encrypted content-encryption key.
    """

    identifier: RecipientIdentifier
    key_encryption_algorithm: bytes
    encrypted_key: bytes

    def is_for(self, key: DecryptionKey) -> bool:
        """Whether a key may open it; an RSA key without any certificate may be the one."""
        if not isinstance(key, Decrypter) or not isinstance(key.public_key, rsa.RSAPublicKey):
            return False
        return not key.certificates or self.identifier.names_key(key)

    def require_strength(self, *, legacy: bool) -> None:
        """Refuse weak hashes; SHA-1 inside OAEP needs no collision resistance and is its default."""
        for digest in _weak_digests(self.transport):
            require_strength(f"OAEP with {digest.name.upper()}", digest.strength, legacy=legacy)

    @property
    def hides_failure(self) -> bool:
        """Whether the padding must not decide the outcome: with PKCS #1 v1.5 an attacker can make it hold."""
        return isinstance(self.transport, Pkcs1Transport)

    def content_key(self, key: DecryptionKey) -> bytes:
        """The content-encryption key, by one operation of the recipient's key.

        Raises:
            DecryptionError: The key or the padding refuses it.
            TokenError: The token failed.
        """
        if not isinstance(key, Decrypter):
            raise TypeError("is_for comes first")
        return key.unwrap(self.encrypted_key, self.transport)

    @property
    def transport(self) -> KeyTransport:
        """How the key was encrypted.

        Raises:
            MalformedError: Broken OAEP parameters.
            UnsupportedError: An algorithm that is not known here.
        """
        return _read_transport(self.key_encryption_algorithm)

    def __str__(self) -> str:
        return str(self.identifier)


def load_key_trans(encoded: bytes) -> KeyTransRecipientInfo:
    """Read a KeyTransRecipientInfo, in definite form.

    Raises:
        MalformedError: It is none.
    """
    match der.elements(encoded):
        case [_, identifier, algorithm, encrypted_key] if encrypted_key[0] == OCTET_STRING:
            return KeyTransRecipientInfo(
                identifier=RecipientIdentifier.load(identifier),
                key_encryption_algorithm=algorithm,
                encrypted_key=der.content(encrypted_key),
            )
        case _:
            raise MalformedError("a KeyTransRecipientInfo is broken")


def encode_key_trans(certificate: Certificate, key: bytes, transport: KeyTransport) -> bytes:
    """A KeyTransRecipientInfo for the RSA key of a certificate, named by issuer and serial number.

    Args:
        certificate: The recipient's.
        key: The content-encryption key.
        transport: How to encrypt it.

    Returns:
        DER.

    Raises:
        UnsupportedError: The certificate has no RSA key, or one of a size that is not used; or the transport
            is too weak, or not to be had.
    """
    if _weak_digests(transport):
        raise UnsupportedError(f"{transport} is too weak to encrypt with")
    public_key = certificate.public_key
    if not isinstance(public_key, rsa.RSAPublicKey):
        raise UnsupportedError(
            f"the certificate of {certificate.subject} has no RSA key",
            hint="messages are encrypted to RSA certificates; ask the recipient for one",
        )
    if not RSA_MINIMUM_BITS <= public_key.key_size <= RSA_MAXIMUM_BITS:
        raise UnsupportedError(
            f"the certificate of {certificate.subject} has an RSA key of {public_key.key_size} bits",
            hint=f"sizes from {RSA_MINIMUM_BITS} to {RSA_MAXIMUM_BITS} are used",
        )
    try:
        encrypted_key = public_key.encrypt(key, _padding(transport))
    except UnsupportedAlgorithm as error:
        raise UnsupportedError(
            f"the cryptography library here does not do {transport}", hint="use OAEP with SHA-256"
        ) from error
    return der.sequence(
        der.integer(0),  # the version with issuerAndSerialNumber (RFC 5652 section 6.2.1)
        certificate.issuer_and_serial_number,
        _encode_transport(transport),
        der.octet_string(encrypted_key),
    )


def _weak_digests(transport: KeyTransport) -> list[Digest]:
    """The hashes that do not protect a key any more.

    SHA-1 is not among them: OAEP needs no collision resistance, and SHA-1 is its default (RFC 4055).
    """
    if isinstance(transport, Pkcs1Transport):
        return []
    used = (transport.digest, transport.mgf_digest)
    return [digest for digest in used if digest.strength is not Strength.STRONG and digest.name != "sha1"]


def _padding(transport: KeyTransport) -> padding.OAEP | padding.PKCS1v15:
    if isinstance(transport, Pkcs1Transport):
        return padding.PKCS1v15()
    mgf = padding.MGF1(transport.mgf_digest.primitive())
    return padding.OAEP(mgf, transport.digest.primitive(), transport.label or None)


def _encode_transport(transport: KeyTransport) -> bytes:
    """KeyEncryptionAlgorithmIdentifier; OAEP with what is not default (RFC 4055 section 4.1)."""
    if isinstance(transport, Pkcs1Transport):
        return der.sequence(der.object_identifier(RSA_ENCRYPTION_OID), der.NULL)
    fields = []
    if transport.digest.name != "sha1":
        fields.append(der.explicit(0, _hash_identifier(transport.digest.oid)))
    if transport.mgf_digest.name != "sha1":
        mgf = der.sequence(der.object_identifier(MGF1_OID), _hash_identifier(transport.mgf_digest.oid))
        fields.append(der.explicit(1, mgf))
    if transport.label:
        source = der.sequence(der.object_identifier(P_SPECIFIED_OID), der.octet_string(transport.label))
        fields.append(der.explicit(2, source))
    return der.sequence(der.object_identifier(RSAES_OAEP_OID), der.sequence(*fields))


def _hash_identifier(oid: str) -> bytes:
    return der.sequence(der.object_identifier(oid), der.NULL)  # RFC 4055 section 2.1: NULL parameters


def _read_transport(encoded: bytes) -> KeyTransport:
    with parsing("keyEncryptionAlgorithm"):
        identifier = cms.KeyEncryptionAlgorithm.load(encoded, strict=True)
        oid: str = identifier["algorithm"].dotted
        if oid == RSA_ENCRYPTION_OID:
            return Pkcs1Transport()
        if oid == RSAES_OAEP_OID:
            return _read_oaep(identifier["parameters"])
    raise UnsupportedError(f"key transport algorithm {oid} is not supported")


def _read_oaep(parameters: Any) -> OaepTransport:  # noqa: ANN401 - asn1crypto has no types
    """RSAES-OAEP-params; absent fields mean SHA-1, MGF1 with it, no label (RFC 4055 section 4.1)."""
    if not parameters:
        parameters = algos.RSAESOAEPParams({})
    mask_generation = parameters["mask_gen_algorithm"]
    source = parameters["p_source_algorithm"]
    if mask_generation["algorithm"].dotted != MGF1_OID:
        raise UnsupportedError("a mask generation function other than MGF1 is not supported")
    if source["algorithm"].dotted != P_SPECIFIED_OID:
        raise UnsupportedError("an OAEP label that is not in the message is not supported")
    label: bytes | None = source["parameters"].native
    if label is None:
        raise MalformedError("an OAEP label is announced and not there")
    return OaepTransport(
        digest=digest_by_oid(parameters["hash_algorithm"]["algorithm"].dotted),
        mgf_digest=digest_by_oid(mask_generation["parameters"]["algorithm"].dotted),
        label=label,
    )
