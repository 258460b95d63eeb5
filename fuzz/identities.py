"""The keys of the fuzzing: in memory and known to everybody, so that seeds are opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tokensign.certificates import Certificate, load_certificates
from tokensign.errors import DecryptionError
from tokensign.keys import OaepTransport, Password

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.algorithms import SignatureScheme
    from tokensign.keys import DecryptionKey, KeyTransport

__all__ = ["FOLDER", "NAMES", "PASSWORD", "certified", "decryption_keys"]

FOLDER = Path(__file__).parent
NAMES = ("rsa", "ec", "ed25519")
PASSWORD = b"fuzz"
_CANNOT = "the software key refuses it"


@dataclass(frozen=True)
class _Key:
    """A private key in memory with its certificate."""

    key: Any
    certificate: Certificate
    chain: Sequence[Certificate] = ()

    @property
    def certificates(self) -> Sequence[Certificate]:
        return [self.certificate]

    @property
    def public_key(self) -> Any:  # noqa: ANN401 - of any type
        return self.key.public_key()


class RsaKey(_Key):
    """A Signer and a Decrypter."""

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        """RSA, PKCS #1 v1.5 or PSS."""
        algorithm = scheme.digest.primitive()
        padded = padding.PKCS1v15()
        if scheme.family == "rsa-pss":
            padded = padding.PSS(padding.MGF1(algorithm), scheme.salt_size)
        signature: bytes = self.key.sign(message, padded, algorithm)
        return signature

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        """RSA key transport."""
        padded: Any = padding.PKCS1v15()
        if isinstance(transport, OaepTransport):
            mask = padding.MGF1(transport.mgf_digest.primitive())
            padded = padding.OAEP(mask, transport.digest.primitive(), transport.label or None)
        try:
            found: bytes = self.key.decrypt(encrypted_key, padded)
        except ValueError:
            raise DecryptionError(_CANNOT) from None
        return found


class EcKey(_Key):
    """A Signer and a KeyAgreement."""

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        """ECDSA."""
        signature: bytes = self.key.sign(message, ec.ECDSA(scheme.digest.primitive()))
        return signature

    def agree(self, peer: Any) -> bytes:  # noqa: ANN401 - a public key
        """Plain ECDH."""
        try:
            secret: bytes = self.key.exchange(ec.ECDH(), peer)
        except (TypeError, ValueError, AttributeError):
            raise DecryptionError(_CANNOT) from None
        return secret


class EdKey(_Key):
    """A Signer."""

    def sign(self, message: bytes, _scheme: SignatureScheme) -> bytes:
        """Ed25519."""
        signature: bytes = self.key.sign(message)
        return signature


def certified(name: str) -> Any:  # noqa: ANN401 - the protocols that the key has
    """The key with a name of `NAMES`."""
    key = load_pem_private_key((FOLDER / "keys" / f"{name}.pem").read_bytes(), None)
    (certificate,) = load_certificates((FOLDER / "keys" / f"{name}.crt").read_bytes())
    kinds = {rsa.RSAPrivateKey: RsaKey, ec.EllipticCurvePrivateKey: EcKey, ed25519.Ed25519PrivateKey: EdKey}
    kind = next(kind for base, kind in kinds.items() if isinstance(key, base))
    return kind(key, certificate)


def decryption_keys() -> list[DecryptionKey]:
    """Everything that the harness decrypts with."""
    return [certified("rsa"), certified("ec"), Password(PASSWORD)]
