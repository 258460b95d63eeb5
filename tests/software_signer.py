"""A key in memory that signs as one on a token does."""

# ruff: noqa: ANN401 - keys of every type pass through here

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.algorithms import SignatureScheme
    from tokensign.certificates import Certificate

__all__ = ["SoftwareSigner"]


@dataclass(eq=False)
class SoftwareSigner:
    """A private key in memory: a `Signer`."""

    key: Any
    certificate: Certificate | None = None
    chain: Sequence[Certificate] = ()

    @property
    def public_key(self) -> Any:
        return self.key.public_key()

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        algorithm = scheme.digest.primitive()
        match scheme.family:
            case "rsa-pkcs1":
                return self.key.sign(message, padding.PKCS1v15(), algorithm)
            case "rsa-pss":
                pss = padding.PSS(padding.MGF1(algorithm), scheme.salt_size)
                return self.key.sign(message, pss, algorithm)
            case "ecdsa":
                return self.key.sign(message, ec.ECDSA(algorithm))
            case _:
                return self.key.sign(message)

    def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        hashed = utils.Prehashed(scheme.digest.primitive())
        if scheme.family == "ecdsa":
            return self.key.sign(digest, ec.ECDSA(hashed))
        return self.key.sign(digest, padding.PKCS1v15(), hashed)
