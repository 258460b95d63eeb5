"""The two small interfaces on which everything stands.

`Signer` and `Decrypter` are what CMS, S/MIME and the PKI know of a private key. `tokensign.token`
implements them for keys on PKCS#11 tokens; nothing above it can tell which module is behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tokensign.algorithms import DIGESTS, Digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.algorithms import SignatureScheme
    from tokensign.certificates import Certificate

__all__ = ["Decrypter", "KeyTransport", "OaepTransport", "Pkcs1Transport", "Signer"]


class Signer(Protocol):
    """A private key that signs."""

    @property
    def certificate(self) -> Certificate | None:
        """The certificate of the key, or None where there is none yet."""
        ...

    @property
    def chain(self) -> Sequence[Certificate]:
        """The certificates above `certificate` that are at hand, in any order, with or without the root."""
        ...

    @property
    def public_key(self) -> PublicKeyTypes:
        """The public half, as cryptography has it."""
        ...

    def sign(self, message: bytes, scheme: SignatureScheme) -> bytes:
        """Sign a message: hash it on the host where the scheme does, then one operation on the token.

        Args:
            message: What is signed; small, such as the DER of signed attributes.
            scheme: The scheme, which must fit the key.

        Returns:
            The signature as CMS carries it: RSA octets, DER Ecdsa-Sig-Value, 64 octets for Ed25519.

        Raises:
            MechanismError: The key or the token cannot do the scheme.
            TokenError: The token failed or is gone.
        """
        ...

    def sign_digest(self, digest: bytes, scheme: SignatureScheme) -> bytes:
        """Sign a hash value that `scheme.digest` made; as `sign`, without the hashing.

        Raises:
            MechanismError: As for `sign`; also for schemes that are not prehashed (eddsa).
            TokenError: The token failed or is gone.
        """
        ...


class Decrypter(Protocol):
    """A private key that recovers content-encryption keys."""

    @property
    def certificates(self) -> Sequence[Certificate]:
        """Every certificate issued for the key, newest first; a recipient is found by them."""
        ...

    @property
    def public_key(self) -> PublicKeyTypes:
        """The public half, as cryptography has it."""
        ...

    def unwrap(self, encrypted_key: bytes, transport: KeyTransport) -> bytes:
        """Recover a content-encryption key with one operation on the token.

        Args:
            encrypted_key: The encryptedKey of a KeyTransRecipientInfo.
            transport: How it was encrypted.

        Returns:
            The content-encryption key. Its size is the caller's to check.

        Raises:
            DecryptionError: The token or the padding refused it. Callers do not let an outsider see this
                apart from any later failure (RFC 3218).
            TokenError: The token failed for a reason that has nothing to do with `encrypted_key`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pkcs1Transport:
    """RSAES-PKCS1-v1_5 key transport (RFC 3370 section 4.2.1)."""

    def __str__(self) -> str:
        return "RSA PKCS#1 v1.5"


@dataclass(frozen=True, slots=True)
class OaepTransport:
    """RSAES-OAEP key transport (RFC 3560, RFC 8017 section 7.1).

    Attributes:
        digest: The hash of the encoding.
        mgf_digest: The hash inside MGF1.
        label: The label L, usually empty.
    """

    digest: Digest = DIGESTS["sha256"]
    mgf_digest: Digest = DIGESTS["sha256"]
    label: bytes = b""

    def __str__(self) -> str:
        return f"RSA-OAEP with {self.digest.name}, MGF1 with {self.mgf_digest.name}"


KeyTransport = Pkcs1Transport | OaepTransport
