"""RecipientInfos: who can decrypt a message, and how the content key reaches them (RFC 5652 section 6.2)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

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
from tokensign.cms.ber import OCTET_STRING, SEQUENCE
from tokensign.cms.content_info import parsing
from tokensign.cms.signed_data import SignerIdentifier as RecipientIdentifier
from tokensign.errors import MalformedError, UnsupportedError
from tokensign.keys import OaepTransport, Pkcs1Transport

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.keys import Decrypter, KeyTransport

__all__ = [
    "MAX_RECIPIENTS",
    "KeyTransRecipientInfo",
    "OtherRecipient",
    "RecipientIdentifier",
    "RecipientInfo",
    "encode_key_trans",
    "load_recipient_info",
    "require_transport_strength",
]

MAX_RECIPIENTS: Final = 10_000  # a large mailing list; each is compared with each key
_OTHER_KINDS: Final = {0xA1: "key agreement", 0xA2: "key encryption key", 0xA3: "password", 0xA4: "other"}


@dataclass(frozen=True, slots=True)
class KeyTransRecipientInfo:
    """A recipient whose RSA key encrypts the content key (section 6.2.1).

    Attributes:
        identifier: Names the recipient's certificate.
        key_encryption_algorithm: AlgorithmIdentifier, DER.
        encrypted_key: The encrypted content-encryption key.
    """

    identifier: RecipientIdentifier
    key_encryption_algorithm: bytes
    encrypted_key: bytes

    def is_for(self, decrypter: Decrypter) -> bool:
        """Whether it names a key: one of its certificates, or the key by its identifier."""
        if any(self.identifier.names(certificate) for certificate in decrypter.certificates):
            return True
        identifier = self.identifier.subject_key_identifier
        return identifier is not None and identifier == _method_1_identifier(decrypter)

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


@dataclass(frozen=True, slots=True)
class OtherRecipient:
    """A recipient of a kind that is not opened here.

    Attributes:
        kind: What it is, for people.
    """

    kind: str

    def __str__(self) -> str:
        return f"a recipient by {self.kind}"


RecipientInfo = KeyTransRecipientInfo | OtherRecipient


def load_recipient_info(encoded: bytes) -> RecipientInfo:
    """Read a RecipientInfo, in definite form.

    Raises:
        MalformedError: It is a broken KeyTransRecipientInfo; other kinds are not looked into.
    """
    if encoded[0] != SEQUENCE:
        return OtherRecipient(_OTHER_KINDS.get(encoded[0], f"unknown means ({encoded[0]:02x})"))
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


def require_transport_strength(transport: KeyTransport, *, legacy: bool) -> None:
    """Refuse a transport that is too weak to be read.

    Args:
        transport: How a key was encrypted.
        legacy: Whether the caller reads old messages.

    Raises:
        LegacyAlgorithmError: It is read only with the legacy switch, and `legacy` is false.
    """
    for digest in _weak_digests(transport):
        require_strength(f"OAEP with {digest.name.upper()}", digest.strength, legacy=legacy)


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
    return OaepTransport(
        digest=digest_by_oid(parameters["hash_algorithm"]["algorithm"].dotted),
        mgf_digest=digest_by_oid(mask_generation["parameters"]["algorithm"].dotted),
        label=source["parameters"].native or b"",
    )


def _method_1_identifier(decrypter: Decrypter) -> bytes | None:
    """The key identifier of RFC 5280 section 4.2.1.2 method 1, for a key whose certificate is not at hand."""
    if not isinstance(decrypter.public_key, rsa.RSAPublicKey):
        return None
    numbers = decrypter.public_key.public_numbers()
    encoded = der.sequence(der.integer(numbers.n), der.integer(numbers.e))
    return hashlib.sha1(encoded, usedforsecurity=False).digest()
