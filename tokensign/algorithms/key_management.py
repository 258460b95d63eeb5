"""How a content key reaches its recipient: key transport, wrap, agreement, derivation and encapsulation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric import mlkem

from tokensign import der
from tokensign.algorithms.digests import DIGESTS, Digest
from tokensign.algorithms.strength import Strength
from tokensign.errors import UnsupportedError

__all__ = [
    "HKDF_OIDS",
    "HKDF_SHA256_OID",
    "KEMS",
    "KEM_SECRET_SIZE",
    "KEY_AGREEMENT_SCHEMES",
    "KEY_WRAPS",
    "PADDED_KEY_WRAPS",
    "PBKDF2_OID",
    "PWRI_KEK_OID",
    "P_SPECIFIED_OID",
    "RSAES_OAEP_OID",
    "SCRYPT_OID",
    "Kem",
    "KeyAgreementScheme",
    "KeyWrap",
    "kem_by_oid",
    "key_agreement_scheme_by_oid",
    "key_wrap_by_oid",
    "key_wrap_for",
]

RSAES_OAEP_OID: Final = "1.2.840.113549.1.1.7"
P_SPECIFIED_OID: Final = "1.2.840.113549.1.1.9"
PBKDF2_OID: Final = "1.2.840.113549.1.5.12"  # RFC 8018 appendix A.2
SCRYPT_OID: Final = "1.3.6.1.4.1.11591.4.11"  # RFC 7914 section 7.1
PWRI_KEK_OID: Final = "1.2.840.113549.1.9.16.3.9"  # RFC 3211 section 2.3
HKDF_OIDS: Final[dict[str, Digest]] = {  # RFC 8619: key derivation functions of their own
    "1.2.840.113549.1.9.16.3.28": DIGESTS["sha256"],
    "1.2.840.113549.1.9.16.3.29": DIGESTS["sha384"],
    "1.2.840.113549.1.9.16.3.30": DIGESTS["sha512"],
}
HKDF_SHA256_OID: Final = "1.2.840.113549.1.9.16.3.28"


@dataclass(frozen=True, slots=True)
class KeyWrap:
    """An algorithm with which one symmetric key encrypts another.

    Attributes:
        name: As messages to people have it, "aes-256-wrap".
        oid: Its object identifier (RFC 3565, RFC 3370).
        key_size: Octets of the key-encryption key.
        strength: How far it is trusted.
    """

    name: str
    oid: str
    key_size: int
    strength: Strength = Strength.STRONG

    @property
    def algorithm_identifier(self) -> bytes:
        """AlgorithmIdentifier with parameters absent (RFC 3565 section 2.3.2), DER."""
        return der.sequence(der.object_identifier(self.oid))


KEY_WRAPS: Final[dict[str, KeyWrap]] = {
    entry.name: entry
    for entry in (
        KeyWrap("aes-128-wrap", "2.16.840.1.101.3.4.1.5", 16),
        KeyWrap("aes-192-wrap", "2.16.840.1.101.3.4.1.25", 24),
        KeyWrap("aes-256-wrap", "2.16.840.1.101.3.4.1.45", 32),
        KeyWrap("3des-wrap", "1.2.840.113549.1.9.16.3.6", 24, Strength.LEGACY),
    )
}
_KEY_WRAPS_BY_OID: Final = {entry.oid: entry for entry in KEY_WRAPS.values()}


def key_wrap_by_oid(oid: str) -> KeyWrap:
    """The key wrap with an object identifier.

    Raises:
        UnsupportedError: No such key wrap.
    """
    if oid not in _KEY_WRAPS_BY_OID:
        raise UnsupportedError(f"key wrap algorithm {oid} is not supported")
    return _KEY_WRAPS_BY_OID[oid]


PADDED_KEY_WRAPS: Final[dict[str, KeyWrap]] = {  # RFC 5649: for keys of any size; only read
    entry.oid: entry
    for entry in (
        KeyWrap("aes-128-wrap-pad", "2.16.840.1.101.3.4.1.8", 16),
        KeyWrap("aes-192-wrap-pad", "2.16.840.1.101.3.4.1.28", 24),
        KeyWrap("aes-256-wrap-pad", "2.16.840.1.101.3.4.1.48", 32),
    )
}


def key_wrap_for(size: int) -> KeyWrap:
    """The AES key wrap for a key of `size` octets: the smallest that is not shorter, at most AES-256."""
    aes = [entry for entry in KEY_WRAPS.values() if entry.strength is Strength.STRONG]
    return next((entry for entry in aes if entry.key_size >= size), aes[-1])


@dataclass(frozen=True, slots=True)
class KeyAgreementScheme:
    """How a shared secret becomes a key-encryption key (keyEncryptionAlgorithm of KeyAgreeRecipientInfo).

    Attributes:
        name: As its RFC has it.
        oid: Its object identifier (RFC 5753, RFC 8418, RFC 3370).
        kdf: The key derivation: "x963" (ANSI X9.63), "hkdf", or "x942" (ANSI X9.42, RFC 2631).
        digest: Its hash. It needs no collision resistance, so that SHA-1 is read; it is never written.
    """

    name: str
    oid: str
    kdf: Literal["x963", "hkdf", "x942"]
    digest: Digest


KEY_AGREEMENT_SCHEMES: Final[dict[str, KeyAgreementScheme]] = {
    entry.name: entry
    for entry in (
        *(
            KeyAgreementScheme(f"dhSinglePass-{kind}-{name}kdf", oid, "x963", DIGESTS[name])
            for kind, name, oid in (
                ("stdDH", "sha1", "1.3.133.16.840.63.0.2"),
                ("stdDH", "sha224", "1.3.132.1.11.0"),
                ("stdDH", "sha256", "1.3.132.1.11.1"),
                ("stdDH", "sha384", "1.3.132.1.11.2"),
                ("stdDH", "sha512", "1.3.132.1.11.3"),
                # the cofactor of every curve here is 1, so that cofactor DH computes the same
                ("cofactorDH", "sha1", "1.3.133.16.840.63.0.3"),
                ("cofactorDH", "sha224", "1.3.132.1.14.0"),
                ("cofactorDH", "sha256", "1.3.132.1.14.1"),
                ("cofactorDH", "sha384", "1.3.132.1.14.2"),
                ("cofactorDH", "sha512", "1.3.132.1.14.3"),
            )
        ),
        *(
            KeyAgreementScheme(f"dhSinglePass-stdDH-hkdf-{name}", oid, "hkdf", DIGESTS[name])
            for name, oid in (
                ("sha256", "1.2.840.113549.1.9.16.3.19"),
                ("sha384", "1.2.840.113549.1.9.16.3.20"),
                ("sha512", "1.2.840.113549.1.9.16.3.21"),
            )
        ),
        KeyAgreementScheme("ESDH", "1.2.840.113549.1.9.16.3.5", "x942", DIGESTS["sha1"]),
    )
}
_KEY_AGREEMENT_BY_OID: Final = {entry.oid: entry for entry in KEY_AGREEMENT_SCHEMES.values()}


def key_agreement_scheme_by_oid(oid: str) -> KeyAgreementScheme:
    """The key agreement scheme with an object identifier.

    Raises:
        UnsupportedError: No such scheme.
    """
    if oid not in _KEY_AGREEMENT_BY_OID:
        raise UnsupportedError(f"key agreement algorithm {oid} is not supported")
    return _KEY_AGREEMENT_BY_OID[oid]


@dataclass(frozen=True, slots=True)
class Kem:
    """A key encapsulation mechanism (FIPS 203).

    Attributes:
        name: As on the command line, "ml-kem-768".
        oid: Its object identifier (RFC 9936).
        ciphertext_size: Octets of a ciphertext.
        primitive: The class of its public keys in cryptography, or None where that does not have it.
    """

    name: str
    oid: str
    ciphertext_size: int
    primitive: type[mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey] | None = field(compare=False)


KEM_SECRET_SIZE: Final = 32  # octets of the shared secret of every ML-KEM (FIPS 203 section 8)
KEMS: Final[dict[str, Kem]] = {
    entry.name: entry
    for entry in (
        Kem("ml-kem-512", "2.16.840.1.101.3.4.4.1", 768, None),
        Kem("ml-kem-768", "2.16.840.1.101.3.4.4.2", 1088, mlkem.MLKEM768PublicKey),
        Kem("ml-kem-1024", "2.16.840.1.101.3.4.4.3", 1568, mlkem.MLKEM1024PublicKey),
    )
}
_KEMS_BY_OID: Final = {entry.oid: entry for entry in KEMS.values()}


def kem_by_oid(oid: str) -> Kem:
    """The key encapsulation mechanism with an object identifier.

    Raises:
        UnsupportedError: No such mechanism.
    """
    if oid not in _KEMS_BY_OID:
        raise UnsupportedError(f"key encapsulation mechanism {oid} is not supported")
    return _KEMS_BY_OID[oid]
