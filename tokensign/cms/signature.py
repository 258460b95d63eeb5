"""Which signature a SignerInfo claims to be, and whether it is one: the public-key side of RFC 5652."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from asn1crypto import algos
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tokensign.algorithms import (
    DIGESTS,
    ECDSA_OIDS,
    ED25519_OID,
    MGF1_OID,
    RSA_ENCRYPTION_OID,
    RSA_MAXIMUM_BITS,
    RSA_MINIMUM_BITS,
    RSA_PKCS1_OIDS,
    RSASSA_PSS_OID,
    Digest,
    SignatureFamily,
    SignatureScheme,
    Strength,
    digest_by_oid,
    require_strength,
)
from tokensign.cms.content_info import parsing
from tokensign.errors import BadSignatureError, MalformedError, UnsupportedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = ["ReceivedScheme", "read_signature_algorithm", "verify_fresh", "verify_signature"]

_MAX_SALT_SIZE: Final = 512  # octets; larger than any salt that fits a 4096-bit modulus is a mistake
_TRAILER_FIELD_BC: Final = 1  # the only trailer that RFC 8017 appendix A.2.3 has


@dataclass(frozen=True, slots=True)
class ReceivedScheme:
    """A signature algorithm as a message names it.

    Attributes:
        family: "rsa-pkcs1", "rsa-pss", "ecdsa" or "eddsa".
        digest: Hashes what is signed.
        mgf_digest: The hash inside MGF1; for rsa-pss only, elsewhere the same as `digest`.
        salt_size: Octets of the PSS salt.
    """

    family: SignatureFamily
    digest: Digest
    mgf_digest: Digest
    salt_size: int = 0

    def __str__(self) -> str:
        return f"{self.family} with {self.digest.name}"


def read_signature_algorithm(encoded: bytes, digest: Digest) -> ReceivedScheme:
    """The scheme that a signatureAlgorithm names.

    Args:
        encoded: The AlgorithmIdentifier, DER.
        digest: The digestAlgorithm of the same SignerInfo.

    Raises:
        MalformedError: Broken parameters, or a digest other than `digest`.
        UnsupportedError: An algorithm that is not known here.
    """
    with parsing("signatureAlgorithm"):
        identifier = algos.SignedDigestAlgorithm.load(encoded, strict=True)
        oid: str = identifier["algorithm"].dotted
        parameters = identifier["parameters"]
    if oid == RSASSA_PSS_OID:
        return _read_pss(parameters, digest)
    named: Digest
    family: SignatureFamily
    if oid == RSA_ENCRYPTION_OID:
        family, named = "rsa-pkcs1", digest
    elif oid in RSA_PKCS1_OIDS:
        family, named = "rsa-pkcs1", RSA_PKCS1_OIDS[oid]
    elif oid in ECDSA_OIDS:
        family, named = "ecdsa", ECDSA_OIDS[oid]
    elif oid == ED25519_OID:  # RFC 8419 section 3.1: SHA-512 is the only digest for Ed25519
        family, named = "eddsa", DIGESTS["sha512"]
    else:
        raise UnsupportedError(f"signature algorithm {oid} is not supported")
    if named != digest:
        raise MalformedError(
            f"the signature is made with {named.name}, but the content is digested with {digest.name}"
        )
    return ReceivedScheme(family, named, named)


def _read_pss(parameters: Any, digest: Digest) -> ReceivedScheme:  # noqa: ANN401 - asn1crypto has no types
    """RSASSA-PSS-params; absent fields mean SHA-1 and a salt of 20 octets (RFC 4055 section 3.1)."""
    with parsing("RSASSA-PSS-params"):
        hash_oid: str = parameters["hash_algorithm"]["algorithm"].dotted
        mask_generation = parameters["mask_gen_algorithm"]
        mgf_oid: str = mask_generation["algorithm"].dotted
        if mgf_oid != MGF1_OID:
            raise UnsupportedError(f"mask generation function {mgf_oid} is not supported")
        mgf_hash_oid: str = mask_generation["parameters"]["algorithm"].dotted
        salt_size = int(parameters["salt_length"].native)
        trailer = int(parameters["trailer_field"])
    if trailer != _TRAILER_FIELD_BC or not 0 <= salt_size <= _MAX_SALT_SIZE:
        raise MalformedError("the RSASSA-PSS parameters are impossible")
    named = digest_by_oid(hash_oid)
    if named != digest:
        raise MalformedError(
            f"the PSS signature is made with {named.name}, but the content is digested with {digest.name}"
        )
    return ReceivedScheme("rsa-pss", named, digest_by_oid(mgf_hash_oid), salt_size)


def verify_signature(
    public_key: PublicKeyTypes,
    scheme: ReceivedScheme,
    signature: bytes,
    *,
    message: bytes | None = None,
    digest: bytes | None = None,
    legacy: bool = False,
) -> None:
    """Check one signature with a public key.

    Args:
        public_key: The signer's.
        scheme: How the signature claims to be made.
        signature: Its octets.
        message: What was signed; or else
        digest: the hash value of what was signed, which EdDSA cannot use.
        legacy: Whether SHA-1, MD5 and RSA keys below 2048 bits are accepted.

    Raises:
        BadSignatureError: It is not the signature of this message by this key.
        LegacyAlgorithmError: A digest or a key is too weak and `legacy` is false.
        UnsupportedError: The key does not fit the scheme, or it is too large.
    """
    require_strength(scheme.digest.name.upper(), scheme.digest.strength, legacy=legacy)
    require_strength(f"MGF1 with {scheme.mgf_digest.name.upper()}", scheme.mgf_digest.strength, legacy=legacy)
    if digest is None and message is not None and scheme.family != "eddsa":
        hasher = scheme.digest.new()
        hasher.update(message)
        digest = hasher.digest()
    try:
        _verify(public_key, scheme, signature, message, digest, legacy=legacy)
    except InvalidSignature:
        raise BadSignatureError(
            "the signature is wrong: the message was changed, or another key made it"
        ) from None


def _verify(
    public_key: PublicKeyTypes,
    scheme: ReceivedScheme,
    signature: bytes,
    message: bytes | None,
    digest: bytes | None,
    *,
    legacy: bool,
) -> None:
    hashed = Prehashed(scheme.digest.primitive())
    match public_key, scheme.family:
        case rsa.RSAPublicKey(), "rsa-pkcs1" | "rsa-pss" if digest is not None:
            _require_rsa_size(public_key, legacy=legacy)
            public_key.verify(signature, digest, _padding(scheme), hashed)
        case ec.EllipticCurvePublicKey(), "ecdsa" if digest is not None:
            public_key.verify(signature, digest, ec.ECDSA(hashed))
        case ed25519.Ed25519PublicKey(), "eddsa" if message is not None:
            public_key.verify(signature, message)
        case _:
            raise UnsupportedError(f"the signer's key does not fit a signature {scheme}")


def verify_fresh(
    public_key: PublicKeyTypes,
    scheme: SignatureScheme,
    signature: bytes,
    *,
    message: bytes | None = None,
    digest: bytes | None = None,
) -> None:
    """Check a signature that a token has just made, with the arguments of `verify_signature`.

    Raises:
        BadSignatureError: The token made something else.
    """
    received = ReceivedScheme(scheme.family, scheme.digest, scheme.digest, scheme.salt_size)
    verify_signature(public_key, received, signature, message=message, digest=digest)


def _padding(scheme: ReceivedScheme) -> padding.PKCS1v15 | padding.PSS:
    if scheme.family == "rsa-pkcs1":
        return padding.PKCS1v15()
    return padding.PSS(padding.MGF1(scheme.mgf_digest.primitive()), scheme.salt_size)


def _require_rsa_size(public_key: rsa.RSAPublicKey, *, legacy: bool) -> None:
    if public_key.key_size > RSA_MAXIMUM_BITS:
        raise UnsupportedError(f"an RSA key of {public_key.key_size} bits is larger than {RSA_MAXIMUM_BITS}")
    if public_key.key_size < RSA_MINIMUM_BITS:
        require_strength(f"RSA with {public_key.key_size} bits", Strength.LEGACY, legacy=legacy)
