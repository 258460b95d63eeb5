"""Private keys as cryptography's builders want them, whose signatures are made elsewhere.

cryptography builds and encodes certificates, requests and revocation lists, and asks a private key for the
signature. The keys here stand in for its own: they hand the bytes to a `tokensign.keys.Signer` and can do
nothing else, because there is nothing else to be had from a key on a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa

from tokensign.algorithms import default_scheme, digest, ml_dsa_of, signature_scheme
from tokensign.errors import UnsupportedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives._asymmetric import AsymmetricPadding
    from cryptography.hazmat.primitives.asymmetric import utils as asym_utils
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.utils import Buffer

    from tokensign.algorithms import SignatureFamily, SignatureScheme
    from tokensign.keys import Signer

__all__ = ["SignerKey", "signer_key", "signing_hash"]


class _TokenKey:
    """What no key on a token does: hand out its private part, or serve outside the protocols of keys.py."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("the private key stays on its token; this object only signs")

    decrypt = exchange = private_numbers = private_bytes = private_bytes_raw = sign_mu = _refuse

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


class _RsaKey(_TokenKey, rsa.RSAPrivateKey):
    def __init__(self, signer: Signer, public_key: rsa.RSAPublicKey) -> None:
        self._signer = signer
        self._public_key = public_key

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public_key

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def sign(
        self,
        data: bytes,
        padding: AsymmetricPadding,
        algorithm: asym_utils.Prehashed | hashes.HashAlgorithm | asym_utils.NoDigestInfo,
    ) -> bytes:
        """RSASSA-PKCS1-v1_5, or RSASSA-PSS with a salt as long as the hash value (RFC 8017)."""
        family: SignatureFamily = "rsa-pss" if isinstance(padding, _PSS) else "rsa-pkcs1"
        return self._signer.sign(data, _scheme(family, algorithm))


class _EcKey(_TokenKey, ec.EllipticCurvePrivateKey):
    def __init__(self, signer: Signer, public_key: ec.EllipticCurvePublicKey) -> None:
        self._signer = signer
        self._public_key = public_key

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def sign(self, data: Buffer, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA; the signature is a DER Ecdsa-Sig-Value."""
        return self._signer.sign(bytes(data), _scheme("ecdsa", signature_algorithm.algorithm))


class _Ed25519Key(_TokenKey, ed25519.Ed25519PrivateKey):
    def __init__(self, signer: Signer, public_key: ed25519.Ed25519PublicKey) -> None:
        self._signer = signer
        self._public_key = public_key

    def public_key(self) -> ed25519.Ed25519PublicKey:
        return self._public_key

    def sign(self, data: Buffer) -> bytes:
        """Ed25519 (RFC 8032)."""
        return self._signer.sign(bytes(data), signature_scheme("eddsa", digest("sha512")))


class _Ed448Key(_TokenKey, ed448.Ed448PrivateKey):
    def __init__(self, signer: Signer, public_key: ed448.Ed448PublicKey) -> None:
        self._signer = signer
        self._public_key = public_key

    def public_key(self) -> ed448.Ed448PublicKey:
        return self._public_key

    def sign(self, data: Buffer) -> bytes:
        """Ed448 (RFC 8032)."""
        return self._signer.sign(bytes(data), default_scheme(self._public_key))


class _MldsaKey(_TokenKey):
    """What the keys of the three parameter sets have in common."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def public_key(self) -> Any:  # noqa: ANN401 - of the class's own parameter set
        return self._signer.public_key

    def sign(self, data: Buffer, context: Buffer | None = None) -> bytes:
        """ML-DSA in its pure form with an empty context (RFC 9881 section 3)."""
        if context:
            raise UnsupportedError("certificates and requests are signed without a context")
        return self._signer.sign(bytes(data), default_scheme(self._signer.public_key))


class _Mldsa44Key(_MldsaKey, mldsa.MLDSA44PrivateKey):
    pass


class _Mldsa65Key(_MldsaKey, mldsa.MLDSA65PrivateKey):
    pass


class _Mldsa87Key(_MldsaKey, mldsa.MLDSA87PrivateKey):
    pass


SignerKey = _RsaKey | _EcKey | _Ed25519Key | _Ed448Key | _Mldsa44Key | _Mldsa65Key | _Mldsa87Key
_MLDSA_KEYS: Final[dict[str, type[_Mldsa44Key | _Mldsa65Key | _Mldsa87Key]]] = {
    "ml-dsa-44": _Mldsa44Key,
    "ml-dsa-65": _Mldsa65Key,
    "ml-dsa-87": _Mldsa87Key,
}
_PSS = padding.PSS


def signer_key(signer: Signer) -> SignerKey:
    """A private key for cryptography's builders that signs with a signer.

    Args:
        signer: The key that will sign.

    Returns:
        An RSAPrivateKey, EllipticCurvePrivateKey, Ed25519PrivateKey, Ed448PrivateKey or MLDSA44PrivateKey
        (65, 87) whose other methods raise TypeError.

    Raises:
        UnsupportedError: The key is of another type.
    """
    match signer.public_key:
        case rsa.RSAPublicKey() as public_key:
            return _RsaKey(signer, public_key)
        case ec.EllipticCurvePublicKey() as public_key:
            return _EcKey(signer, public_key)
        case ed25519.Ed25519PublicKey() as public_key:
            return _Ed25519Key(signer, public_key)
        case ed448.Ed448PublicKey() as public_key:
            return _Ed448Key(signer, public_key)
        case mldsa.MLDSA44PublicKey() | mldsa.MLDSA65PublicKey() | mldsa.MLDSA87PublicKey() as public_key:
            return _MLDSA_KEYS[ml_dsa_of(public_key)](signer)
        case public_key:
            raise UnsupportedError(f"keys of type {type(public_key).__name__} do not sign certificates")


def signing_hash(public_key: PublicKeyTypes) -> hashes.SHA256 | None:
    """The hash that a builder is given for a key: the usual one of its type, or None for EdDSA and ML-DSA.

    Raises:
        UnsupportedError: Keys of this type do not sign.
    """
    scheme = default_scheme(public_key)
    # The builders' types list the SHA-2 and SHA-3 classes one by one; the table's is their base class.
    return cast("hashes.SHA256", scheme.digest.primitive()) if scheme.prehashed else None


def _scheme(family: SignatureFamily, algorithm: object) -> SignatureScheme:
    if not isinstance(algorithm, hashes.HashAlgorithm):
        raise UnsupportedError("certificates and requests are signed from their bytes, not from a hash value")
    return signature_scheme(family, digest(algorithm.name))
