"""Signature schemes: those that are made, and the object identifiers of those that are verified."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa

from tokensign import der
from tokensign.algorithms.digests import DIGESTS, MGF1_OID, READ_DIGESTS, Digest
from tokensign.algorithms.key_types import CURVES, ED448_OID, ED25519_OID, RSA_ENCRYPTION_OID
from tokensign.algorithms.strength import Strength
from tokensign.errors import UnsupportedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = [
    "DSA_OIDS",
    "ECDSA_OIDS",
    "ML_DSA",
    "PREHASHED_OIDS",
    "PURE_FAMILIES",
    "RSASSA_PSS_OID",
    "RSASSA_PSS_SHAKE_OIDS",
    "RSA_PKCS1_OIDS",
    "SCHEMES",
    "SIGNATURE_FAMILIES",
    "SLH_DSA",
    "ParameterSet",
    "ReceivedFamily",
    "SignatureFamily",
    "SignatureScheme",
    "default_scheme",
    "ml_dsa_of",
    "signature_scheme",
]

SignatureFamily = Literal["rsa-pkcs1", "rsa-pss", "ecdsa", "eddsa", "ml-dsa"]
SIGNATURE_FAMILIES: Final[tuple[SignatureFamily, ...]] = ("rsa-pkcs1", "rsa-pss", "ecdsa", "eddsa", "ml-dsa")
PURE_FAMILIES: Final = ("eddsa", "ml-dsa", "slh-dsa")  # they sign the message itself, not a hash value of it
ReceivedFamily = SignatureFamily | Literal["dsa", "slh-dsa"]  # the last two are verified and not made

RSASSA_PSS_OID: Final = "1.2.840.113549.1.1.10"
RSA_PKCS1_OIDS: Final[dict[str, Digest]] = {  # RFC 8017, RFC 5754, RFC 8702: OIDs that name the digest too
    "1.2.840.113549.1.1.4": DIGESTS["md5"],
    "1.2.840.113549.1.1.5": DIGESTS["sha1"],
    "1.2.840.113549.1.1.14": DIGESTS["sha224"],
    "1.2.840.113549.1.1.11": DIGESTS["sha256"],
    "1.2.840.113549.1.1.12": DIGESTS["sha384"],
    "1.2.840.113549.1.1.13": DIGESTS["sha512"],
    "1.2.840.113549.1.1.15": READ_DIGESTS["sha512_224"],
    "1.2.840.113549.1.1.16": READ_DIGESTS["sha512_256"],
    "2.16.840.1.101.3.4.3.13": DIGESTS["sha3_224"],
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
    "1.3.6.1.5.5.7.6.32": READ_DIGESTS["shake128"],
    "1.3.6.1.5.5.7.6.33": READ_DIGESTS["shake256"],
    "2.16.840.1.101.3.4.3.9": DIGESTS["sha3_224"],
    "2.16.840.1.101.3.4.3.10": DIGESTS["sha3_256"],
    "2.16.840.1.101.3.4.3.11": DIGESTS["sha3_384"],
    "2.16.840.1.101.3.4.3.12": DIGESTS["sha3_512"],
}
DSA_OIDS: Final[dict[str, Digest]] = {  # RFC 3370, RFC 5758; FIPS 186-5 has no DSA any more: read only
    "1.2.840.10040.4.3": DIGESTS["sha1"],
    "2.16.840.1.101.3.4.3.1": DIGESTS["sha224"],
    "2.16.840.1.101.3.4.3.2": DIGESTS["sha256"],
}
RSASSA_PSS_SHAKE_OIDS: Final = {  # RFC 8702; no library that is used here computes them
    "1.3.6.1.5.5.7.6.30": "RSASSA-PSS with SHAKE128",
    "1.3.6.1.5.5.7.6.31": "RSASSA-PSS with SHAKE256",
}


@dataclass(frozen=True, slots=True)
class ParameterSet:
    """A parameter set of ML-DSA (FIPS 204) or SLH-DSA (FIPS 205).

    Attributes:
        name: "ml-dsa-65", "slh-dsa-sha2-128s".
        oid: Of the key and of the signature in its pure form (RFC 9881, RFC 9909).
        digest_size: The fewest octets of a digest of content that is as strong (RFC 9882 section 3.3, RFC
            9814 section 4).
    """

    name: str
    oid: str
    digest_size: int


ML_DSA: Final[dict[str, ParameterSet]] = {
    entry.oid: entry
    for entry in (
        ParameterSet("ml-dsa-44", "2.16.840.1.101.3.4.3.17", 32),
        ParameterSet("ml-dsa-65", "2.16.840.1.101.3.4.3.18", 48),
        ParameterSet("ml-dsa-87", "2.16.840.1.101.3.4.3.19", 64),
    )
}
SLH_DSA: Final[dict[str, ParameterSet]] = {
    entry.oid: entry
    for entry in (
        ParameterSet(f"slh-dsa-{kind}-{bits}{size}", f"2.16.840.1.101.3.4.3.{arc}", bits // 4)
        for arc, (kind, bits, size) in enumerate(
            itertools.product(("sha2", "shake"), (128, 192, 256), ("s", "f")), start=20
        )
    )
}
PREHASHED_OIDS: Final = {  # which have no place in CMS (RFC 9882 section 1, RFC 9814 section 1)
    **{f"2.16.840.1.101.3.4.3.{arc}": "HashML-DSA" for arc in range(32, 35)},
    **{f"2.16.840.1.101.3.4.3.{arc}": "HashSLH-DSA" for arc in range(35, 47)},
}
_ML_DSA_OF_KEY: Final = {
    mldsa.MLDSA44PublicKey: "2.16.840.1.101.3.4.3.17",
    mldsa.MLDSA65PublicKey: "2.16.840.1.101.3.4.3.18",
    mldsa.MLDSA87PublicKey: "2.16.840.1.101.3.4.3.19",
}
_ECDSA_OID_OF: Final = {entry.name: oid for oid, entry in ECDSA_OIDS.items()}


@dataclass(frozen=True, slots=True)
class SignatureScheme:
    """A way to sign: the family, and the digest that goes with it.

    Attributes:
        family: "rsa-pkcs1", "rsa-pss", "ecdsa", "eddsa" or "ml-dsa".
        digest: Hashes the content; for all but eddsa and ml-dsa also what is signed.
        algorithm_identifier: The SignerInfo signatureAlgorithm, DER.
        mechanism: The PKCS#11 mechanism that makes the signature from a hash value; for eddsa and ml-dsa from
            the message itself.
        salt_size: Octets of the PSS salt, which is the digest's size (RFC 8017 section 9.1); otherwise 0.
        parameter_set: "ml-dsa-44", "ml-dsa-65" or "ml-dsa-87"; of the other families "".
    """

    family: SignatureFamily
    digest: Digest
    algorithm_identifier: bytes = field(compare=False, repr=False)
    mechanism: str = field(compare=False, repr=False)
    salt_size: int = field(default=0, compare=False, repr=False)
    parameter_set: str = ""

    @property
    def name(self) -> str:
        """Names it where it is one word: "rsa-pkcs1-sha256", "eddsa-sha512", "ml-dsa-65-sha512"."""
        return f"{self.parameter_set or self.family}-{self.digest.name}"

    @property
    def prehashed(self) -> bool:
        """Whether the token signs a hash value made on the host, not the message itself."""
        return self.family not in PURE_FAMILIES

    def __str__(self) -> str:
        return f"{self.parameter_set or self.family} with {self.digest.name}"


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


def _scheme(
    family: SignatureFamily, entry: Digest, parameters: ParameterSet | None = None
) -> SignatureScheme:
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
        case "eddsa":  # RFC 8419 section 2.3: SHA-512 digests the content for Ed25519, SHAKE256 for Ed448
            oid = ED25519_OID if entry.name == "sha512" else ED448_OID
            return SignatureScheme(family, entry, der.sequence(der.object_identifier(oid)), "EDDSA")
        case "ml-dsa":  # RFC 9882 section 3.3: the parameters are absent
            oid, name = (parameters.oid, parameters.name) if parameters else ("", "")
            identifier = der.sequence(der.object_identifier(oid))
            return SignatureScheme(family, entry, identifier, "ML_DSA", parameter_set=name)


_EDDSA_DIGESTS: Final = (DIGESTS["sha512"], READ_DIGESTS["shake256"])
_STRONG_DIGESTS: Final = [entry for entry in DIGESTS.values() if entry.strength is Strength.STRONG]
_HASHED_FAMILIES: Final[tuple[SignatureFamily, ...]] = ("rsa-pkcs1", "rsa-pss", "ecdsa")
_SCHEMES: Final[dict[tuple[str, str, str], SignatureScheme]] = {
    (scheme.family, scheme.digest.name, scheme.parameter_set): scheme
    for scheme in (
        *(_scheme(family, entry) for family in _HASHED_FAMILIES for entry in _STRONG_DIGESTS),
        *(_scheme("eddsa", entry) for entry in _EDDSA_DIGESTS),
        *(
            _scheme("ml-dsa", entry, parameters)
            for parameters in ML_DSA.values()
            for entry in _STRONG_DIGESTS
            if entry.size >= parameters.digest_size
        ),
    )
}
SCHEMES: Final[dict[str, SignatureScheme]] = {scheme.name: scheme for scheme in _SCHEMES.values()}
"""Every scheme in which signatures are made, by `SignatureScheme.name`."""

_DIGEST_HINTS: Final = {
    "eddsa": "Ed25519 goes with sha512, Ed448 with shake256 (RFC 8419)",
    "ml-dsa": "choose sha512, which every parameter set takes (RFC 9882)",
}


def signature_scheme(family: str, entry: Digest, parameter_set: str = "") -> SignatureScheme:
    """The scheme of a family with a digest, for making signatures.

    Args:
        family: One of `SIGNATURE_FAMILIES`.
        entry: The digest.
        parameter_set: For "ml-dsa" its name, such as "ml-dsa-65".

    Raises:
        UnsupportedError: There is no such scheme, or it is too weak to be written.
    """
    scheme = _SCHEMES.get((family, entry.name, parameter_set))
    if scheme is None:
        raise UnsupportedError(
            f"signatures {parameter_set or family} with {entry.name} are not made",
            hint=_DIGEST_HINTS.get(family, "choose sha256 or stronger"),
        )
    return scheme


def default_scheme(
    public_key: PublicKeyTypes, *, family: str | None = None, digest: Digest | None = None
) -> SignatureScheme:
    """The scheme that a key signs with when the caller does not choose everything.

    Args:
        public_key: The public half of the key that will sign.
        family: The family asked for, or None for the key type's usual one.
        digest: The digest asked for, or None for SHA-256 with RSA, the curve's match with EC, SHA-512 with
            ML-DSA, and the only one there is with EdDSA.

    Raises:
        UnsupportedError: The key cannot sign in that family, or its type is not known.
    """
    families: tuple[str, ...]
    parameter_set = ""
    match public_key:
        case rsa.RSAPublicKey():
            families, usual = ("rsa-pkcs1", "rsa-pss"), DIGESTS["sha256"]
        case ec.EllipticCurvePublicKey():
            sizes = {curve.bits: curve.digest for curve in CURVES.values()}
            families, usual = ("ecdsa",), sizes.get(public_key.key_size, DIGESTS["sha256"])
        case ed25519.Ed25519PublicKey():
            families, usual = ("eddsa",), DIGESTS["sha512"]
        case ed448.Ed448PublicKey():
            families, usual = ("eddsa",), READ_DIGESTS["shake256"]
        case mldsa.MLDSA44PublicKey() | mldsa.MLDSA65PublicKey() | mldsa.MLDSA87PublicKey():
            families, usual = ("ml-dsa",), DIGESTS["sha512"]
            parameter_set = ml_dsa_of(public_key)
        case _:
            raise UnsupportedError(f"keys of type {type(public_key).__name__} do not sign here")
    if family is not None and family not in families:
        raise UnsupportedError(
            f"this key does not sign with {family}", hint=f"it signs with {' or '.join(families)}"
        )
    return signature_scheme(family or families[0], digest or usual, parameter_set)


def ml_dsa_of(public_key: PublicKeyTypes) -> str:
    """The ML-DSA parameter set of a public key by name, such as "ml-dsa-65"; "" for keys of other kinds."""
    found = (oid for kind, oid in _ML_DSA_OF_KEY.items() if isinstance(public_key, kind))
    return next((ML_DSA[oid].name for oid in found), "")
