"""Software keys of every kind that a RecipientInfo may be for, as the token's keys behave."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, rsa, x448, x25519

from tokensign.algorithms import DEFAULT_CONTENT_CIPHER, KEMS, Kem, content_cipher
from tokensign.cms.decrypt import decrypt
from tokensign.cms.encrypt import encrypt
from tokensign.errors import DecryptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokensign.certificates import Certificate


@dataclass(eq=False)
class RecipientKey:
    """A private key in memory that agrees or decapsulates."""

    key: Any
    certificates: Sequence[Certificate] = ()

    @property
    def public_key(self) -> Any:  # noqa: ANN401 - of any type
        return self.key.public_key()

    @property
    def certificate(self) -> Certificate:
        return self.certificates[0]

    @property
    def kem(self) -> Kem | None:
        kinds = [kem for kem in KEMS.values() if kem.primitive and isinstance(self.public_key, kem.primitive)]
        return kinds[0] if kinds else None

    def agree(self, peer: Any) -> bytes:  # noqa: ANN401 - of any type
        try:
            if isinstance(self.key, ec.EllipticCurvePrivateKey):
                return self.key.exchange(ec.ECDH(), peer)
            return bytes(self.key.exchange(peer))
        except ValueError:
            raise DecryptionError("the software key refuses it") from None

    def decapsulate(self, ciphertext: bytes) -> bytes:
        return bytes(self.key.decapsulate(ciphertext))


MAKERS: dict[str, Callable[[], Any]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "k256": lambda: ec.generate_private_key(ec.SECP256K1()),
    "x25519": x25519.X25519PrivateKey.generate,
    "x448": x448.X448PrivateKey.generate,
    "ml-kem-768": mlkem.MLKEM768PrivateKey.generate,
    "ml-kem-1024": mlkem.MLKEM1024PrivateKey.generate,
    "rsa:2048": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.fixture(scope="session")
def recipient_key(issue: Callable[..., Certificate]) -> Callable[..., RecipientKey]:
    """A software key with a certificate, the same each time: `recipient_key("x25519", number=1)`."""

    @cache
    def make(kind: str, number: int = 0) -> RecipientKey:
        private = MAKERS[kind]()
        return RecipientKey(private, (issue(private.public_key(), f"{kind} {number}"),))

    return make


@pytest.fixture(scope="session")
def as_recipient() -> type[RecipientKey]:
    """Make a recipient of a private key and certificates: `as_recipient(key, [certificate])`."""
    return RecipientKey


@pytest.fixture(scope="session")
def sealed() -> Callable[..., bytes]:
    """Encrypt: `sealed(recipients, content, cipher="aes-128-cbc")`."""

    def seal(
        recipients: Any,  # noqa: ANN401 - certificates and encoders
        content: bytes = b"content",
        cipher: str = DEFAULT_CONTENT_CIPHER.name,
    ) -> bytes:
        message = io.BytesIO()
        encrypt(io.BytesIO(content), recipients, message, cipher=content_cipher(cipher))
        return message.getvalue()

    return seal


@pytest.fixture(scope="session")
def opened() -> Callable[..., bytes]:
    """Decrypt: `opened(message, key, legacy=False)`."""

    def unseal(message: bytes, *keys: Any, legacy: bool = False) -> bytes:  # noqa: ANN401 - of any type
        content = io.BytesIO()
        decrypt(io.BytesIO(message), keys, content, legacy=legacy)
        return content.getvalue()

    return unseal
