"""The small interfaces on which everything stands.

`Signer`, `Decrypter`, `KeyAgreement`, `Decapsulator` and `KeyEncryptionKey` are what CMS, S/MIME and the PKI
know of a key. `tokensign.token` implements them for keys on PKCS#11 tokens; nothing above it can tell which
module is behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from tokensign.algorithms import DIGESTS, Digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.algorithms import Kem, SignatureScheme
    from tokensign.certificates import Certificate

__all__ = [
    "Decapsulator",
    "Decrypter",
    "DecryptionKey",
    "KeyAgreement",
    "KeyEncryptionKey",
    "KeyTransport",
    "OaepTransport",
    "Password",
    "Pkcs1Transport",
    "PrivateKey",
    "Signer",
]


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
            The signature as CMS carries it: RSA octets, DER Ecdsa-Sig-Value, 64 octets for Ed25519, 114 for
            Ed448.

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


class PrivateKey(Protocol):
    """What every private key tells of itself, so that a recipient of a message is found."""

    @property
    def certificates(self) -> Sequence[Certificate]:
        """Every certificate issued for the key, newest first."""
        ...

    @property
    def public_key(self) -> PublicKeyTypes:
        """The public half, as cryptography has it."""
        ...


@runtime_checkable
class Decrypter(PrivateKey, Protocol):
    """An RSA private key that decrypts content-encryption keys (KeyTransRecipientInfo)."""

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


@runtime_checkable
class KeyAgreement(PrivateKey, Protocol):
    """A private key that agrees on a secret with another public key (KeyAgreeRecipientInfo)."""

    def agree(self, peer: PublicKeyTypes) -> bytes:
        """The raw shared secret Z: no KDF, its full length, leading zeros kept (RFC 5753 section 7.1).

        Args:
            peer: The sender's ephemeral (or static) public key, of the same curve or group.

        Raises:
            DecryptionError: The token refuses the peer's key.
            MechanismError: The key or the token cannot do it.
            TokenError: The token failed.
        """
        ...


@runtime_checkable
class Decapsulator(PrivateKey, Protocol):
    """A private key of a key encapsulation mechanism (KEMRecipientInfo, RFC 9629)."""

    @property
    def kem(self) -> Kem | None:
        """The mechanism; None where the key is of another kind after all."""
        ...

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The shared secret in a KEM ciphertext.

        Raises:
            DecryptionError: The token refuses the ciphertext.
            MechanismError: The key or the token cannot do it.
            TokenError: The token failed.
        """
        ...


@runtime_checkable
class KeyEncryptionKey(Protocol):
    """A symmetric key that sender and recipient share beforehand (KEKRecipientInfo)."""

    @property
    def key_identifier(self) -> bytes:
        """Names it in a message: the keyIdentifier of KEKIdentifier; on a token, CKA_ID."""
        ...

    @property
    def key_size(self) -> int:
        """Octets of the AES key: 16, 24 or 32."""
        ...

    def wrap_key(self, key: bytes) -> bytes:
        """Wrap a content-encryption key with AES key wrap (RFC 3394).

        Raises:
            MechanismError: The key or the token cannot do it.
            TokenError: The token failed.
        """
        ...

    def unwrap_key(self, wrapped: bytes) -> bytes:
        """The content-encryption key in what `wrap_key` made.

        Raises:
            DecryptionError: Its integrity check fails.
            MechanismError: The key or the token cannot do it.
            TokenError: The token failed.
        """
        ...


class Password:
    """A password of a message (PasswordRecipientInfo), hidden from repr and print.

    Args:
        value: The password; text is taken as UTF-8.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes) -> None:
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """The password itself."""
        return self._value

    def __repr__(self) -> str:
        return "Password(hidden)"


DecryptionKey = Decrypter | KeyAgreement | Decapsulator | KeyEncryptionKey | Password
"""Whatever may open a message."""


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
