"""Which signature algorithms and key sizes are good enough in certificates, CRLs and OCSP responses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, mlkem, rsa, x448, x25519
from pyhanko_certvalidator.policy_decl import AlgorithmUsageConstraint, AlgorithmUsagePolicy

from tokensign.algorithms import (
    DIGESTS,
    RSA_MAXIMUM_BITS,
    RSA_MINIMUM_BITS,
    Strength,
    require_strength,
)
from tokensign.errors import MessageError, UnsupportedError

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = ["EC_MINIMUM_BITS", "AlgorithmPolicy", "require_key_strength", "require_signature_strength"]

EC_MINIMUM_BITS: Final = 224  # NIST SP 800-131A: 112 bits of security, as RSA_MINIMUM_BITS

# The names are asn1crypto's and, of ML-DSA, pyhanko-certvalidator's. RFC 8410 fixes the hash of the Edwards
# curves, and ML-DSA signs without one (RFC 9881).
_HASHED_FAMILIES: Final = frozenset({"rsassa_pkcs1v15", "rsassa_pss", "ecdsa", "dsa"})
_PURE: Final = frozenset({"ed25519", "ed448", "mldsa44", "mldsa65", "mldsa87"})


def require_signature_strength(algorithm: Any, *, legacy: bool) -> None:  # noqa: ANN401 - asn1crypto has no types
    """Refuse a signature algorithm that is too weak.

    Args:
        algorithm: An asn1crypto SignedDigestAlgorithm.
        legacy: Whether MD5, SHA-1 and DSA are accepted.

    Raises:
        LegacyAlgorithmError: It is accepted with `legacy` only.
        UnsupportedError: It is not known, or broken.
    """
    name = algorithm["algorithm"].native
    if name in _PURE:
        return
    try:
        family = algorithm.signature_algo
        digest = DIGESTS.get(algorithm.hash_algo) if family in _HASHED_FAMILIES else None
    except (ValueError, KeyError, TypeError):
        digest = None
    if digest is None:
        raise UnsupportedError(f"signature algorithm {name} is not supported")
    strength = Strength.LEGACY if family == "dsa" else digest.strength  # FIPS 186-5 withdrew DSA
    require_strength(f"a signature with {name}", strength, legacy=legacy)


def require_key_strength(public_key: PublicKeyTypes, *, legacy: bool) -> None:
    """Refuse a public key that is too short, or one whose size is an attack.

    Args:
        public_key: The key, as cryptography has it.
        legacy: Whether short keys, DSA and finite-field DH are accepted.

    Raises:
        LegacyAlgorithmError: It is accepted with `legacy` only.
        UnsupportedError: It is larger than RSA_MAXIMUM_BITS.
    """
    match public_key:
        case rsa.RSAPublicKey():
            if public_key.key_size > RSA_MAXIMUM_BITS:
                raise UnsupportedError(f"an RSA key of {public_key.key_size} bits is too large")
            weak, name = public_key.key_size < RSA_MINIMUM_BITS, f"an RSA key of {public_key.key_size} bits"
        case ec.EllipticCurvePublicKey():
            weak, name = public_key.key_size < EC_MINIMUM_BITS, f"a key on curve {public_key.curve.name}"
        case (
            ed25519.Ed25519PublicKey()
            | ed448.Ed448PublicKey()
            | x25519.X25519PublicKey()
            | x448.X448PublicKey()
            | mldsa.MLDSA44PublicKey()
            | mldsa.MLDSA65PublicKey()
            | mldsa.MLDSA87PublicKey()
            | mlkem.MLKEM768PublicKey()
            | mlkem.MLKEM1024PublicKey()
        ):
            return
        case _:
            weak, name = True, "a key of this type"
    require_strength(name, Strength.LEGACY if weak else Strength.STRONG, legacy=legacy)


class AlgorithmPolicy(AlgorithmUsagePolicy):
    """The two rules as pyhanko-certvalidator asks for them, which it does for every certificate of a path.

    It does not ask for the signatures of CRLs and OCSP responses; `tokensign.pki.revocation` does.

    Args:
        legacy: Whether old algorithms and short keys are accepted.
    """

    def __init__(self, *, legacy: bool) -> None:
        self._legacy = legacy

    def signature_algorithm_allowed(
        self,
        algo: Any,  # noqa: ANN401 - asn1crypto has no types
        moment: datetime | None,  # noqa: ARG002 - the inherited signature
        public_key: Any,  # noqa: ANN401 - asn1crypto has no types
    ) -> AlgorithmUsageConstraint:
        """Whether a signature algorithm may be used with a key."""
        try:
            require_signature_strength(algo, legacy=self._legacy)
        except MessageError as error:
            return AlgorithmUsageConstraint(allowed=False, failure_reason=error.message)
        minimum = 0 if self._legacy else RSA_MINIMUM_BITS
        if (
            public_key is not None
            and public_key.algorithm.startswith("rsa")
            and not minimum <= public_key.bit_size <= RSA_MAXIMUM_BITS
        ):
            return AlgorithmUsageConstraint(
                allowed=False, failure_reason=f"an RSA key of {public_key.bit_size} bits is refused"
            )
        return AlgorithmUsageConstraint(allowed=True)
