"""Which signature a SignerInfo claims to be, and whether it is one: the public-key side of RFC 5652."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from asn1crypto import algos
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tokensign import der
from tokensign.algorithms import (
    DIGESTS,
    DSA_MAXIMUM_BITS,
    DSA_OIDS,
    ECDSA_OIDS,
    ED448_OID,
    ED25519_OID,
    MGF1_OID,
    ML_DSA,
    PREHASHED_OIDS,
    PURE_FAMILIES,
    READ_DIGESTS,
    RSA_ENCRYPTION_OID,
    RSA_MAXIMUM_BITS,
    RSA_MINIMUM_BITS,
    RSA_PKCS1_OIDS,
    RSASSA_PSS_OID,
    RSASSA_PSS_SHAKE_OIDS,
    SLH_DSA,
    Digest,
    ReceivedFamily,
    SignatureScheme,
    Strength,
    digest_by_oid,
    ml_dsa_of,
    require_strength,
)
from tokensign.cms.content_info import parsing
from tokensign.cms.slh_dsa import SlhDsaPublicKey
from tokensign.errors import BadSignatureError, MalformedError, UnsupportedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = [
    "PssParameters",
    "ReceivedScheme",
    "read_signature_algorithm",
    "verify_fresh",
    "verify_signature",
]

_MAX_SALT_SIZE: Final = 512  # octets; larger than any salt that fits a 4096-bit modulus is a mistake
_TRAILER_FIELD_BC: Final = 1  # the only trailer that RFC 8017 appendix A.2.3 has
_SEQUENCE: Final = 0x30
_EDDSA: Final = {ED25519_OID: DIGESTS["sha512"], ED448_OID: READ_DIGESTS["shake256"]}


@dataclass(frozen=True, slots=True)
class ReceivedScheme:
    """A signature algorithm as a message names it.

    Attributes:
        family: "rsa-pkcs1", "rsa-pss", "ecdsa", "eddsa", "ml-dsa", "slh-dsa" or "dsa".
        digest: Hashes the content, and what is signed too unless the family signs the message itself.
        mgf_digest: The hash inside MGF1; for rsa-pss only, elsewhere the same as `digest`.
        salt_size: Octets of the PSS salt.
        parameter_set: "ml-dsa-65", "slh-dsa-sha2-128s"; of the other families "".
    """

    family: ReceivedFamily
    digest: Digest
    mgf_digest: Digest
    salt_size: int = 0
    parameter_set: str = ""

    @property
    def pure(self) -> bool:
        """Whether the message itself is signed and not a hash value of it."""
        return self.family in PURE_FAMILIES

    def __str__(self) -> str:
        return f"{self.parameter_set or self.family} with {self.digest.name}"


@dataclass(frozen=True, slots=True)
class PssParameters:
    """RSASSA-PSS-params, of a signature or of a key (RFC 4055 section 3.1).

    Attributes:
        digest: hashAlgorithm.
        mgf_digest: The hash inside MGF1.
        salt_size: saltLength in octets.
    """

    digest: Digest = DIGESTS["sha1"]
    mgf_digest: Digest = DIGESTS["sha1"]
    salt_size: int = 20

    @classmethod
    def load(cls, encoded: bytes) -> PssParameters:
        """Read them; a field that is left out has its default.

        Args:
            encoded: DER.

        Raises:
            MalformedError: They are broken or impossible.
            UnsupportedError: A hash or mask generation function that is not known here.
        """
        with parsing("RSASSA-PSS-params"):
            fields = algos.RSASSAPSSParams.load(encoded, strict=True)
            hash_oid: str = fields["hash_algorithm"]["algorithm"].dotted
            mask_generation = fields["mask_gen_algorithm"]
            mgf_oid: str = mask_generation["algorithm"].dotted
            if mgf_oid != MGF1_OID:
                raise UnsupportedError(f"mask generation function {mgf_oid} is not supported")
            mgf_hash_oid: str = mask_generation["parameters"]["algorithm"].dotted
            salt_size = int(fields["salt_length"].native)
            trailer = int(fields["trailer_field"])
        if trailer != _TRAILER_FIELD_BC or not 0 <= salt_size <= _MAX_SALT_SIZE:
            raise MalformedError("the RSASSA-PSS parameters are impossible")
        return cls(digest_by_oid(hash_oid), digest_by_oid(mgf_hash_oid), salt_size)


def read_signature_algorithm(encoded: bytes, digest: Digest) -> ReceivedScheme:
    """The scheme that a signatureAlgorithm names.

    Args:
        encoded: The AlgorithmIdentifier, DER.
        digest: The digestAlgorithm of the same SignerInfo.

    Raises:
        MalformedError: Broken parameters, or a digest other than `digest`.
        UnsupportedError: An algorithm that is not known here.
    """
    match der.elements(encoded):
        case [algorithm, *parameters] if encoded[0] == _SEQUENCE:
            oid = der.dotted(algorithm)
        case _:
            raise MalformedError("signatureAlgorithm cannot be read")
    if oid == RSASSA_PSS_OID:  # absent parameters are all defaults (RFC 4055 section 3.1)
        pss = PssParameters.load(parameters[0]) if parameters else PssParameters()
        _require_same(pss.digest, digest, "the PSS signature")
        return ReceivedScheme("rsa-pss", pss.digest, pss.mgf_digest, pss.salt_size)
    if oid in ML_DSA or oid in SLH_DSA:
        return _read_parameter_set(oid, parameters, digest)
    family, named = _hashed(oid, digest)
    if oid in _EDDSA and parameters:
        raise MalformedError("an EdDSA signature has parameters")  # RFC 8410 section 3
    _require_same(named, digest, "the signature")
    return ReceivedScheme(family, named, named)


def _hashed(oid: str, digest: Digest) -> tuple[ReceivedFamily, Digest]:
    """The family of a signature algorithm and the digest that goes with it."""
    if oid == RSA_ENCRYPTION_OID:
        return "rsa-pkcs1", digest
    if oid in RSA_PKCS1_OIDS:
        return "rsa-pkcs1", RSA_PKCS1_OIDS[oid]
    if oid in ECDSA_OIDS:
        return "ecdsa", ECDSA_OIDS[oid]
    if oid in _EDDSA:  # RFC 8419 section 2.3: the only digest for each
        return "eddsa", _EDDSA[oid]
    if oid in DSA_OIDS:
        return "dsa", DSA_OIDS[oid]
    if oid in RSASSA_PSS_SHAKE_OIDS:
        raise UnsupportedError(f"{RSASSA_PSS_SHAKE_OIDS[oid]} is not supported")
    if oid in PREHASHED_OIDS:
        raise UnsupportedError(
            f"{PREHASHED_OIDS[oid]} ({oid}) is not used in CMS, which has the pure form only",
            hint="ask the signer for a signature as RFC 9882 or RFC 9814 describes it",
        )
    raise UnsupportedError(f"signature algorithm {oid} is not supported")


def _require_same(named: Digest, digest: Digest, what: str) -> None:
    if named != digest:
        raise MalformedError(
            f"{what} is made with {named.name}, but the content is digested with {digest.name}"
        )


def _read_parameter_set(oid: str, parameters: list[bytes], digest: Digest) -> ReceivedScheme:
    """ML-DSA (RFC 9882 section 3) or SLH-DSA (RFC 9814 section 3): no parameters, a digest as strong."""
    family: ReceivedFamily = "ml-dsa" if oid in ML_DSA else "slh-dsa"
    found = ML_DSA.get(oid) or SLH_DSA[oid]
    if parameters:
        raise MalformedError(f"the {found.name} signature has parameters")
    if digest.size < found.digest_size:
        raise MalformedError(
            f"the content is digested with {digest.name}, which is too weak for {found.name}"
        )
    return ReceivedScheme(family, digest, digest, parameter_set=found.name)


def verify_signature(
    public_key: PublicKeyTypes | SlhDsaPublicKey,
    scheme: ReceivedScheme,
    signature: bytes,
    *,
    message: bytes | None = None,
    digest: bytes | None = None,
    legacy: bool = False,
) -> None:
    """Check one signature with a public key.

    Args:
        public_key: The signer's; `tokensign.cms.verification_key` finds it.
        scheme: How the signature claims to be made.
        signature: Its octets.
        message: What was signed; or else
        digest: the hash value of what was signed, which pure schemes cannot use.
        legacy: Whether SHA-1, MD5, DSA and RSA keys below 2048 bits are accepted.

    Raises:
        BadSignatureError: It is not the signature of this message by this key.
        LegacyAlgorithmError: A digest or a key is too weak and `legacy` is false.
        UnsupportedError: The key does not fit the scheme, or it is too large.
    """
    require_strength(scheme.digest.name.upper(), scheme.digest.strength, legacy=legacy)
    if scheme.mgf_digest is not scheme.digest:
        name = f"MGF1 with {scheme.mgf_digest.name.upper()}"
        require_strength(name, scheme.mgf_digest.strength, legacy=legacy)
    if digest is None and message is not None and not scheme.pure:
        digest = scheme.digest.new(message).digest()
    try:
        _verify(public_key, scheme, signature, message, digest, legacy=legacy)
    except InvalidSignature:
        raise BadSignatureError(
            "the signature is wrong: the message was changed, or another key made it"
        ) from None


def _verify(
    public_key: PublicKeyTypes | SlhDsaPublicKey,
    scheme: ReceivedScheme,
    signature: bytes,
    message: bytes | None,
    digest: bytes | None,
    *,
    legacy: bool,
) -> None:
    if scheme.pure and message is not None:
        _verify_pure(public_key, scheme, signature, message)
        return
    hashed = _prehashed(scheme.digest)
    match public_key, scheme.family:
        case rsa.RSAPublicKey(), "rsa-pkcs1" | "rsa-pss" if digest is not None:
            _require_rsa_size(public_key, legacy=legacy)
            public_key.verify(signature, digest, _padding(scheme), hashed)
        case ec.EllipticCurvePublicKey(), "ecdsa" if digest is not None:
            public_key.verify(signature, digest, _ecdsa(scheme.digest))
        case dsa.DSAPublicKey(), "dsa" if digest is not None:
            require_strength("DSA", Strength.LEGACY, legacy=legacy)
            if public_key.key_size > DSA_MAXIMUM_BITS:
                raise UnsupportedError(f"a DSA key of {public_key.key_size} bits is too large")
            public_key.verify(signature, digest, hashed)
        case _:
            raise _unfit(scheme)


def _verify_pure(
    public_key: PublicKeyTypes | SlhDsaPublicKey, scheme: ReceivedScheme, signature: bytes, message: bytes
) -> None:
    """The schemes that sign the message itself."""
    fits: bool
    match public_key:
        case ed25519.Ed25519PublicKey():
            fits = scheme.family == "eddsa" and scheme.digest == _EDDSA[ED25519_OID]
        case ed448.Ed448PublicKey():
            fits = scheme.family == "eddsa" and scheme.digest == _EDDSA[ED448_OID]
        case mldsa.MLDSA44PublicKey() | mldsa.MLDSA65PublicKey() | mldsa.MLDSA87PublicKey():
            fits = scheme.parameter_set == ml_dsa_of(public_key)
        case SlhDsaPublicKey():
            fits = scheme.parameter_set == public_key.parameters.name
        case _:
            raise _unfit(scheme)
    if not fits:
        raise _unfit(scheme)
    public_key.verify(signature, message)


def _unfit(scheme: ReceivedScheme) -> UnsupportedError:
    return UnsupportedError(f"the signer's key does not fit a signature {scheme}")


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
    received = ReceivedScheme(
        scheme.family, scheme.digest, scheme.digest, scheme.salt_size, scheme.parameter_set
    )
    verify_signature(public_key, received, signature, message=message, digest=digest)


@lru_cache(maxsize=16)
def _prehashed(digest: Digest) -> Prehashed:
    return Prehashed(digest.primitive())


@lru_cache(maxsize=16)
def _ecdsa(digest: Digest) -> ec.ECDSA:
    return ec.ECDSA(_prehashed(digest))


def _padding(scheme: ReceivedScheme) -> padding.PKCS1v15 | padding.PSS:
    if scheme.family == "rsa-pkcs1":
        return padding.PKCS1v15()
    return padding.PSS(padding.MGF1(scheme.mgf_digest.primitive()), scheme.salt_size)


def _require_rsa_size(public_key: rsa.RSAPublicKey, *, legacy: bool) -> None:
    if public_key.key_size > RSA_MAXIMUM_BITS:
        raise UnsupportedError(f"an RSA key of {public_key.key_size} bits is larger than {RSA_MAXIMUM_BITS}")
    if public_key.key_size < RSA_MINIMUM_BITS:
        require_strength(f"RSA with {public_key.key_size} bits", Strength.LEGACY, legacy=legacy)
