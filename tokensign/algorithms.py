"""The one table of algorithms: names, OIDs, PKCS#11 mechanisms and primitives, and how far each is trusted.

No OID and no mechanism of a cryptographic algorithm is written anywhere else. PKCS#11 mechanisms are
named as PKCS#11 has them without the CKM_ prefix, because only `tokensign.token` knows the binding.
"""

from __future__ import annotations

import enum
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tokensign import der
from tokensign.errors import LegacyAlgorithmError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = [
    "CONTENT_CIPHERS",
    "CURVES",
    "DEFAULT_CONTENT_CIPHER",
    "DIGESTS",
    "GENERATED_RSA_MAXIMUM_BITS",
    "RSA_MAXIMUM_BITS",
    "RSA_MINIMUM_BITS",
    "SIGNATURE_FAMILIES",
    "ContentCipher",
    "Curve",
    "Digest",
    "KeySpec",
    "KeyUsage",
    "SignatureFamily",
    "SignatureScheme",
    "Strength",
    "content_cipher",
    "default_scheme",
    "digest",
    "digest_by_oid",
    "require_strength",
    "signature_scheme",
]

RSA_MINIMUM_BITS: Final = 2048  # NIST SP 800-131A: shorter keys no longer protect
RSA_MAXIMUM_BITS: Final = 16384  # verification cost grows with the cube of a stranger's key size
GENERATED_RSA_MAXIMUM_BITS: Final = 8192  # a token takes minutes for more


class Strength(enum.Enum):
    """How far an algorithm is trusted."""

    STRONG = "strong"
    """Read and written."""
    LEGACY = "legacy"
    """Read only, and only where the caller asks for it; never written."""
    REFUSED = "refused"
    """Neither read nor written."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A hash function.

    Attributes:
        name: As hashlib and OpenSSL name it, "sha256".
        oid: Its object identifier (RFC 5754, RFC 8702).
        size: Octets of a hash value.
        mechanism: The PKCS#11 hash mechanism; with "CKG_MGF1_" before it, the mask generation function.
        primitive: Its class in cryptography.
        strength: How far it is trusted.
    """

    name: str
    oid: str
    size: int
    mechanism: str
    primitive: type[hashes.HashAlgorithm] = field(compare=False)
    strength: Strength = Strength.STRONG

    def new(self) -> hashlib._Hash:
        """A fresh hash object with update() and digest()."""
        return hashlib.new(self.name, usedforsecurity=self.strength is Strength.STRONG)

    @property
    def algorithm_identifier(self) -> bytes:
        """AlgorithmIdentifier with parameters absent (RFC 5754 section 2), DER."""
        return der.sequence(der.object_identifier(self.oid))


DIGESTS: Final[dict[str, Digest]] = {
    entry.name: entry
    for entry in (
        Digest("sha256", "2.16.840.1.101.3.4.2.1", 32, "SHA256", hashes.SHA256),
        Digest("sha384", "2.16.840.1.101.3.4.2.2", 48, "SHA384", hashes.SHA384),
        Digest("sha512", "2.16.840.1.101.3.4.2.3", 64, "SHA512", hashes.SHA512),
        Digest("sha224", "2.16.840.1.101.3.4.2.4", 28, "SHA224", hashes.SHA224),
        Digest("sha3_256", "2.16.840.1.101.3.4.2.8", 32, "SHA3_256", hashes.SHA3_256),
        Digest("sha3_384", "2.16.840.1.101.3.4.2.9", 48, "SHA3_384", hashes.SHA3_384),
        Digest("sha3_512", "2.16.840.1.101.3.4.2.10", 64, "SHA3_512", hashes.SHA3_512),
        Digest("sha1", "1.3.14.3.2.26", 20, "SHA_1", hashes.SHA1, Strength.LEGACY),
        Digest("md5", "1.2.840.113549.2.5", 16, "MD5", hashes.MD5, Strength.LEGACY),
    )
}
_DIGESTS_BY_OID: Final = {entry.oid: entry for entry in DIGESTS.values()}


def digest(name: str) -> Digest:
    """The digest with a name such as "sha256" or "SHA-256".

    Raises:
        UnsupportedError: No such digest.
    """
    normal = name.lower().replace("sha-", "sha").replace("sha3-", "sha3_")
    if normal not in DIGESTS:
        raise UnsupportedError(f"digest {name!r} is not supported", hint=f"use one of: {', '.join(DIGESTS)}")
    return DIGESTS[normal]


def digest_by_oid(oid: str) -> Digest:
    """The digest with an object identifier.

    Raises:
        UnsupportedError: No such digest.
    """
    if oid not in _DIGESTS_BY_OID:
        raise UnsupportedError(f"digest algorithm {oid} is not supported")
    return _DIGESTS_BY_OID[oid]


def require_strength(name: str, strength: Strength, *, legacy: bool) -> None:
    """Refuse an algorithm that is too weak for the caller.

    Args:
        name: What to call it in the message.
        strength: Its entry in the table.
        legacy: Whether the caller reads old messages.

    Raises:
        LegacyAlgorithmError: It is read only with the legacy switch, and `legacy` is false.
        UnsupportedError: It is refused in any case.
    """
    if strength is Strength.REFUSED:
        raise UnsupportedError(f"{name} is broken and is refused")
    if strength is Strength.LEGACY and not legacy:
        raise LegacyAlgorithmError(
            f"{name} is no longer secure and is refused by default",
            hint="pass --legacy (in the library: legacy=True) to read an old message all the same",
        )


@dataclass(frozen=True, slots=True)
class Curve:
    """An elliptic curve in the names of all who speak of it.

    Attributes:
        name: NIST's, as on the command line: "p256".
        oid: Its object identifier (RFC 5480).
        bits: Size of the field in bits.
        primitive: Its class in cryptography.
        digest: The digest of matching strength (RFC 5753 section 2.1.1).
    """

    name: str
    oid: str
    bits: int
    primitive: type[ec.EllipticCurve] = field(compare=False)
    digest: Digest


CURVES: Final[dict[str, Curve]] = {
    entry.name: entry
    for entry in (
        Curve("p256", "1.2.840.10045.3.1.7", 256, ec.SECP256R1, DIGESTS["sha256"]),
        Curve("p384", "1.3.132.0.34", 384, ec.SECP384R1, DIGESTS["sha384"]),
        Curve("p521", "1.3.132.0.35", 521, ec.SECP521R1, DIGESTS["sha512"]),
    )
}

ED25519_OID: Final = "1.3.101.112"  # RFC 8410


class KeyUsage(enum.Enum):
    """What a key is generated for."""

    SIGN = "sign"
    DECRYPT = "decrypt"
    BOTH = "both"

    @property
    def signs(self) -> bool:
        """Whether signatures are asked for."""
        return self is not KeyUsage.DECRYPT

    @property
    def decrypts(self) -> bool:
        """Whether decryption or key agreement is asked for."""
        return self is not KeyUsage.SIGN


@dataclass(frozen=True, slots=True)
class KeySpec:
    """A type of key to generate.

    Attributes:
        algorithm: "rsa", "ec" or "ed25519".
        bits: RSA modulus size in bits; 0 for the others.
        curve: The curve of an EC key, else None.
    """

    algorithm: Literal["rsa", "ec", "ed25519"]
    bits: int = 0
    curve: Curve | None = None

    @classmethod
    def parse(cls, text: str) -> KeySpec:
        """Read "rsa:3072", "ec:p256" or "ed25519".

        Raises:
            UsageError: Not a key type, or a size that is not offered.
        """
        algorithm, _, parameter = text.lower().partition(":")
        match algorithm:
            case "rsa" if re.fullmatch(r"[0-9]{1,5}", parameter or "3072"):
                bits = int(parameter or "3072")
                if not RSA_MINIMUM_BITS <= bits <= GENERATED_RSA_MAXIMUM_BITS or bits % 8:
                    raise UsageError(
                        f"RSA keys of {bits} bits are not generated",
                        hint=f"use a multiple of 8 from {RSA_MINIMUM_BITS} to {GENERATED_RSA_MAXIMUM_BITS}",
                    )
                return cls("rsa", bits=bits)
            case "ec" if (parameter or "p256").replace("-", "") in CURVES:
                return cls("ec", curve=CURVES[(parameter or "p256").replace("-", "")])
            case "ed25519" if not parameter:
                return cls("ed25519")
            case _:
                raise UsageError(
                    f"{text!r} is not a key type that can be generated",
                    hint="use rsa:3072, rsa:4096, ec:p256, ec:p384, ec:p521 or ed25519",
                )

    def __str__(self) -> str:
        if self.algorithm == "rsa":
            return f"rsa:{self.bits}"
        return f"ec:{self.curve.name}" if self.curve else self.algorithm


SignatureFamily = Literal["rsa-pkcs1", "rsa-pss", "ecdsa", "eddsa"]
SIGNATURE_FAMILIES: Final[tuple[SignatureFamily, ...]] = ("rsa-pkcs1", "rsa-pss", "ecdsa", "eddsa")

RSA_ENCRYPTION_OID: Final = "1.2.840.113549.1.1.1"
RSASSA_PSS_OID: Final = "1.2.840.113549.1.1.10"
RSAES_OAEP_OID: Final = "1.2.840.113549.1.1.7"
MGF1_OID: Final = "1.2.840.113549.1.1.8"
P_SPECIFIED_OID: Final = "1.2.840.113549.1.1.9"

RSA_PKCS1_OIDS: Final[dict[str, Digest]] = {  # RFC 8017, RFC 5754, RFC 8702: OIDs that name the digest too
    "1.2.840.113549.1.1.4": DIGESTS["md5"],
    "1.2.840.113549.1.1.5": DIGESTS["sha1"],
    "1.2.840.113549.1.1.14": DIGESTS["sha224"],
    "1.2.840.113549.1.1.11": DIGESTS["sha256"],
    "1.2.840.113549.1.1.12": DIGESTS["sha384"],
    "1.2.840.113549.1.1.13": DIGESTS["sha512"],
    "2.16.840.1.101.3.4.3.14": DIGESTS["sha3_256"],
    "2.16.840.1.101.3.4.3.15": DIGESTS["sha3_384"],
    "2.16.840.1.101.3.4.3.16": DIGESTS["sha3_512"],
}
ECDSA_OIDS: Final[dict[str, Digest]] = {  # RFC 5753, RFC 5758, RFC 8702
    "1.2.840.10045.4.1": DIGESTS["sha1"],
    "1.2.840.10045.4.3.1": DIGESTS["sha224"],
    "1.2.840.10045.4.3.2": DIGESTS["sha256"],
    "1.2.840.10045.4.3.3": DIGESTS["sha384"],
    "1.2.840.10045.4.3.4": DIGESTS["sha512"],
    "2.16.840.1.101.3.4.3.10": DIGESTS["sha3_256"],
    "2.16.840.1.101.3.4.3.11": DIGESTS["sha3_384"],
    "2.16.840.1.101.3.4.3.12": DIGESTS["sha3_512"],
}
_ECDSA_OID_OF: Final = {entry.name: oid for oid, entry in ECDSA_OIDS.items()}


@dataclass(frozen=True, slots=True)
class SignatureScheme:
    """A way to sign: the family, and the digest that goes with it.

    Attributes:
        family: "rsa-pkcs1", "rsa-pss", "ecdsa" or "eddsa".
        digest: Hashes the content; for all but eddsa also what is signed.
        algorithm_identifier: The SignerInfo signatureAlgorithm, DER.
        mechanism: The PKCS#11 mechanism that makes the signature from a hash value (eddsa: from the message).
        salt_size: Octets of the PSS salt, which is the digest's size (RFC 8017 section 9.1); otherwise 0.
    """

    family: SignatureFamily
    digest: Digest
    algorithm_identifier: bytes = field(compare=False, repr=False)
    mechanism: str = field(compare=False, repr=False)
    salt_size: int = field(default=0, compare=False, repr=False)

    @property
    def prehashed(self) -> bool:
        """Whether the token signs a hash value made on the host, not the message itself."""
        return self.family != "eddsa"

    def __str__(self) -> str:
        return f"{self.family} with {self.digest.name}"


def _pss_parameters(entry: Digest) -> bytes:
    """RSASSA-PSS-params, every field explicit (RFC 4055 section 3.1).

    The hash's parameters are NULL there, other than in digestAlgorithm (RFC 4055 section 2.1).
    """
    hash_algorithm = der.sequence(der.object_identifier(entry.oid), der.NULL)
    mask_generation = der.sequence(der.object_identifier(MGF1_OID), hash_algorithm)
    return der.sequence(
        der.explicit(0, hash_algorithm),
        der.explicit(1, mask_generation),
        der.explicit(2, der.integer(entry.size)),
    )


def _scheme(family: SignatureFamily, entry: Digest) -> SignatureScheme:
    match family:
        case "rsa-pkcs1":  # RFC 3370 section 3.2: rsaEncryption is what every implementation must know
            identifier = der.sequence(der.object_identifier(RSA_ENCRYPTION_OID), der.NULL)
            return SignatureScheme(family, entry, identifier, "RSA_PKCS")
        case "rsa-pss":
            identifier = der.sequence(der.object_identifier(RSASSA_PSS_OID), _pss_parameters(entry))
            return SignatureScheme(family, entry, identifier, "RSA_PKCS_PSS", salt_size=entry.size)
        case "ecdsa":
            identifier = der.sequence(der.object_identifier(_ECDSA_OID_OF[entry.name]))
            return SignatureScheme(family, entry, identifier, "ECDSA")
        case "eddsa":  # RFC 8419 section 2.3: SHA-512 digests the content for Ed25519
            identifier = der.sequence(der.object_identifier(ED25519_OID))
            return SignatureScheme(family, entry, identifier, "EDDSA")


_SCHEMES: Final[dict[tuple[str, str], SignatureScheme]] = {
    (family, entry.name): _scheme(family, entry)
    for family in SIGNATURE_FAMILIES
    for entry in DIGESTS.values()
    if entry.strength is Strength.STRONG and (family != "eddsa" or entry.name == "sha512")
}


def signature_scheme(family: str, entry: Digest) -> SignatureScheme:
    """The scheme of a family with a digest, for making signatures.

    Raises:
        UnsupportedError: The pair does not exist, or is too weak to be written.
    """
    scheme = _SCHEMES.get((family, entry.name))
    if scheme is None:
        reason = "Ed25519 goes with sha512 (RFC 8419)" if family == "eddsa" else "choose sha256 or stronger"
        raise UnsupportedError(f"signatures {family} with {entry.name} are not made", hint=reason)
    return scheme


def default_scheme(
    public_key: PublicKeyTypes, *, family: str | None = None, digest: Digest | None = None
) -> SignatureScheme:
    """The scheme that a key signs with when the caller does not choose everything.

    Args:
        public_key: The public half of the key that will sign.
        family: The family asked for, or None for the key type's usual one.
        digest: The digest asked for, or None for SHA-256 with RSA and the curve's match with EC.

    Raises:
        UnsupportedError: The key cannot sign in that family, or its type is not known.
    """
    families: tuple[str, ...]
    match public_key:
        case rsa.RSAPublicKey():
            families, usual = ("rsa-pkcs1", "rsa-pss"), DIGESTS["sha256"]
        case ec.EllipticCurvePublicKey():
            sizes = {curve.bits: curve.digest for curve in CURVES.values()}
            families, usual = ("ecdsa",), sizes.get(public_key.key_size, DIGESTS["sha256"])
        case ed25519.Ed25519PublicKey():
            families, usual = ("eddsa",), DIGESTS["sha512"]
        case _:
            raise UnsupportedError(f"keys of type {type(public_key).__name__} do not sign here")
    if family is not None and family not in families:
        raise UnsupportedError(
            f"this key does not sign with {family}", hint=f"it signs with {' or '.join(families)}"
        )
    return signature_scheme(family or families[0], digest or usual)


@dataclass(frozen=True, slots=True)
class ContentCipher:
    """A content-encryption algorithm.

    Attributes:
        name: As on the command line, "aes-256-gcm".
        oid: Its object identifier (RFC 3565, RFC 5084).
        key_size: Octets of the content-encryption key.
        mode: "cbc" or "gcm".
        iv_size: Octets of the initialisation vector (cbc) or nonce (gcm).
        strength: How far it is trusted.
    """

    name: str
    oid: str
    key_size: int
    mode: Literal["cbc", "gcm"]
    iv_size: int
    strength: Strength = Strength.STRONG

    @property
    def authenticated(self) -> bool:
        """Whether it is an AEAD and goes into AuthEnvelopedData (RFC 5083)."""
        return self.mode == "gcm"


CONTENT_CIPHERS: Final[dict[str, ContentCipher]] = {
    entry.name: entry
    for entry in (
        ContentCipher("aes-256-gcm", "2.16.840.1.101.3.4.1.46", 32, "gcm", 12),
        ContentCipher("aes-192-gcm", "2.16.840.1.101.3.4.1.26", 24, "gcm", 12),
        ContentCipher("aes-128-gcm", "2.16.840.1.101.3.4.1.6", 16, "gcm", 12),
        ContentCipher("aes-256-cbc", "2.16.840.1.101.3.4.1.42", 32, "cbc", 16),
        ContentCipher("aes-192-cbc", "2.16.840.1.101.3.4.1.22", 24, "cbc", 16),
        ContentCipher("aes-128-cbc", "2.16.840.1.101.3.4.1.2", 16, "cbc", 16),
    )
}
_CONTENT_CIPHERS_BY_OID: Final = {entry.oid: entry for entry in CONTENT_CIPHERS.values()}
DEFAULT_CONTENT_CIPHER: Final = CONTENT_CIPHERS["aes-256-gcm"]


def content_cipher(name_or_oid: str) -> ContentCipher:
    """The content cipher with a name such as "aes-256-gcm", or with an object identifier.

    Raises:
        UnsupportedError: No such cipher.
    """
    entry = CONTENT_CIPHERS.get(name_or_oid.lower()) or _CONTENT_CIPHERS_BY_OID.get(name_or_oid)
    if entry is None:
        raise UnsupportedError(
            f"content encryption {name_or_oid} is not supported",
            hint=f"supported are: {', '.join(CONTENT_CIPHERS)}",
        )
    return entry
