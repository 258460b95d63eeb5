"""KEMRecipientInfo: a key encapsulation mechanism gives the key (RFC 9629), ML-KEM by RFC 9936."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import mlkem

from tokensign import der
from tokensign.algorithms import (
    HKDF_OIDS,
    HKDF_SHA256_OID,
    KEMS,
    KEY_WRAPS,
    Digest,
    Kem,
    KeyWrap,
    kem_by_oid,
    require_strength,
)
from tokensign.cms.ber import OCTET_STRING, SEQUENCE, context
from tokensign.cms.content_cipher import CANNOT_DECRYPT
from tokensign.cms.recipients.identifier import RecipientIdentifier
from tokensign.cms.recipients.kdf import hkdf
from tokensign.cms.recipients.key_wrap import read_key_wrap, unwrap, wrap
from tokensign.cms.signed_data import algorithm_of
from tokensign.errors import DecryptionError, MalformedError, UnsupportedError
from tokensign.keys import Decapsulator

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.keys import DecryptionKey

__all__ = ["KEM_RECIPIENT_OID", "KemRecipientInfo", "encode_kem", "load_kem"]

KEM_RECIPIENT_OID: Final = "1.2.840.113549.1.9.16.13.3"  # id-ori-kem
_INTEGER: Final = 0x02


@dataclass(frozen=True, slots=True)
class KemRecipientInfo:
    """A recipient with a key of a key encapsulation mechanism.

    Attributes:
        identifier: Names the recipient's certificate.
        kem_algorithm: The mechanism, AlgorithmIdentifier, DER.
        ciphertext: kemct.
        key_derivation_algorithm: AlgorithmIdentifier, DER.
        key_size: kekLength: octets of the key-encryption key.
        ukm: The user keying material, or None.
        key_wrap_algorithm: AlgorithmIdentifier, DER.
        encrypted_key: The wrapped content-encryption key.
        hides_failure: False: the key wrap has an integrity check that nobody passes without the secret.
    """

    identifier: RecipientIdentifier
    kem_algorithm: bytes
    ciphertext: bytes
    key_derivation_algorithm: bytes
    key_size: int
    ukm: bytes | None
    key_wrap_algorithm: bytes
    encrypted_key: bytes
    hides_failure: bool = False

    def is_for(self, key: DecryptionKey) -> bool:
        """Whether a key may open it; one without any certificate may be the one if its type fits."""
        if not isinstance(key, Decapsulator) or key.kem is None:
            return False
        if key.certificates:
            return self.identifier.names_key(key)
        return key.kem.oid == algorithm_of(self.kem_algorithm)

    def require_strength(self, *, legacy: bool) -> None:
        """Refuse what is weak or not known.

        Raises:
            LegacyAlgorithmError: The key wrap is 3DES, without the legacy switch.
            UnsupportedError: An algorithm that is not known.
            MalformedError: The key size is not that of the key wrap.
        """
        _ = self.kem, self.digest
        require_strength(self.key_wrap.name, self.key_wrap.strength, legacy=legacy)

    def content_key(self, key: DecryptionKey) -> bytes:
        """The content-encryption key, by one operation of the recipient's key.

        Raises:
            DecryptionError: The ciphertext is refused, or the integrity check of the key wrap fails.
            TokenError: The token failed.
        """
        if not isinstance(key, Decapsulator):
            raise TypeError("is_for comes first")
        if key.kem != self.kem or len(self.ciphertext) != self.kem.ciphertext_size:
            raise DecryptionError(CANNOT_DECRYPT)
        secret = key.decapsulate(self.ciphertext)
        info = _other_info(self.key_wrap_algorithm, self.key_size, self.ukm)
        key_encryption_key = hkdf(secret, self.digest, info, self.key_size)
        return unwrap(self.key_wrap, key_encryption_key, self.encrypted_key)

    @property
    def kem(self) -> Kem:
        """The mechanism."""
        return kem_by_oid(algorithm_of(self.kem_algorithm))

    @property
    def digest(self) -> Digest:
        """The hash of HKDF, which is the only key derivation function that RFC 9936 knows."""
        oid = algorithm_of(self.key_derivation_algorithm)
        if oid not in HKDF_OIDS:
            raise UnsupportedError(f"key derivation function {oid} is not supported")
        return HKDF_OIDS[oid]

    @property
    def key_wrap(self) -> KeyWrap:
        """The key wrap, whose key has the size that the message tells."""
        found = read_key_wrap(self.key_wrap_algorithm)
        if found.key_size != self.key_size:
            raise MalformedError(f"the key of {found.name} has {found.key_size} bytes, not {self.key_size}")
        return found

    def __str__(self) -> str:
        return str(self.identifier)


def load_kem(encoded: bytes) -> KemRecipientInfo:
    """Read a KEMRecipientInfo, the oriValue of an OtherRecipientInfo, in definite form.

    Raises:
        MalformedError: It is none.
    """
    fields = der.elements(encoded)
    ukm: bytes | None = None
    if len(fields) == 9 and fields[6][0] == context(0):  # noqa: PLR2004 - with ukm
        ukm = _ukm(fields.pop(6))
    match fields:
        case [_, identifier, kem, ciphertext, derivation, size, wrapping, encrypted_key] if (
            ciphertext[0] == encrypted_key[0] == OCTET_STRING
            and kem[0] == derivation[0] == wrapping[0] == SEQUENCE
            and size[0] == _INTEGER
        ):
            return KemRecipientInfo(
                identifier=RecipientIdentifier.load(identifier),
                kem_algorithm=kem,
                ciphertext=der.content(ciphertext),
                key_derivation_algorithm=derivation,
                key_size=int.from_bytes(der.content(size), signed=True),
                ukm=ukm,
                key_wrap_algorithm=wrapping,
                encrypted_key=der.content(encrypted_key),
            )
        case _:
            raise MalformedError("a KEMRecipientInfo is broken")


def encode_kem(certificate: Certificate, key: bytes) -> bytes:
    """A KEMRecipientInfo for the ML-KEM key of a certificate, as OtherRecipientInfo.

    Args:
        certificate: The recipient's, with a key of ML-KEM-768 or ML-KEM-1024.
        key: The content-encryption key.

    Returns:
        DER.

    Raises:
        UnsupportedError: The certificate has another key.
    """
    public_key = certificate.public_key
    if not isinstance(public_key, mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey):
        raise UnsupportedError(f"the certificate of {certificate.subject} has no ML-KEM key")
    kem = next(one for one in KEMS.values() if one.primitive and isinstance(public_key, one.primitive))
    secret, ciphertext = public_key.encapsulate()
    key_wrap = KEY_WRAPS["aes-256-wrap"]  # RFC 9936 section 2.2.1: for each strength of ML-KEM
    wrapping = key_wrap.algorithm_identifier
    info = _other_info(wrapping, key_wrap.key_size, None)
    key_encryption_key = hkdf(secret, HKDF_OIDS[HKDF_SHA256_OID], info, key_wrap.key_size)
    recipient = der.sequence(
        der.integer(0),
        certificate.issuer_and_serial_number,
        der.sequence(der.object_identifier(kem.oid)),
        der.octet_string(ciphertext),
        der.sequence(der.object_identifier(HKDF_SHA256_OID)),
        der.integer(key_wrap.key_size),
        wrapping,
        der.octet_string(wrap(key_wrap, key_encryption_key, key)),
    )
    return der.constructed(context(4), der.object_identifier(KEM_RECIPIENT_OID), recipient)


def _other_info(wrapping: bytes, size: int, ukm: bytes | None) -> bytes:
    """CMSORIforKEMOtherInfo (RFC 9629 section 5), DER."""
    material = der.explicit(0, der.octet_string(ukm)) if ukm is not None else b""
    return der.sequence(wrapping, der.integer(size), material)


def _ukm(encoded: bytes) -> bytes:
    match der.elements(encoded):
        case [octets] if octets[0] == OCTET_STRING:
            return der.content(octets)
        case _:
            raise MalformedError("the ukm of a KEMRecipientInfo is broken")
