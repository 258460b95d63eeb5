"""KEKRecipientInfo: a key that both sides have already wraps the content key (RFC 5652 section 6.2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from tokensign import der
from tokensign.algorithms import KEY_WRAPS, PADDED_KEY_WRAPS, KeyWrap, key_wrap_by_oid, require_strength
from tokensign.cms.ber import OCTET_STRING, SEQUENCE, context
from tokensign.cms.content_cipher import CANNOT_DECRYPT
from tokensign.cms.recipients.kek_bytes import TripleDesKeyEncryptionKey
from tokensign.cms.signed_data import algorithm_of
from tokensign.errors import DecryptionError, MalformedError, MechanismError
from tokensign.keys import KeyEncryptionKey

if TYPE_CHECKING:
    from tokensign.keys import DecryptionKey

__all__ = ["KEK_TAG", "KekRecipient", "KekRecipientInfo", "PaddedKeyEncryptionKey", "load_kek"]

KEK_TAG: Final = context(2)  # of the choice RecipientInfo
_VERSION: Final = 4  # RFC 5652 section 6.2.3: always
_TRIPLE_DES: Final = KEY_WRAPS["3des-wrap"]
_AES: Final = {entry.key_size: entry for entry in KEY_WRAPS.values() if entry != _TRIPLE_DES}


@runtime_checkable
class PaddedKeyEncryptionKey(KeyEncryptionKey, Protocol):
    """A key-encryption key that also reads AES key wrap with padding."""

    def unwrap_padded_key(self, wrapped: bytes) -> bytes:
        """The key in what AES key wrap with padding made (RFC 5649).

        Raises:
            DecryptionError: Its integrity check fails.
            MechanismError: The key or the token cannot do it.
            TokenError: The token failed.
        """
        ...


@dataclass(frozen=True, slots=True)
class KekRecipientInfo:
    """A recipient who shares a symmetric key with the sender.

    Attributes:
        key_identifier: Names the key.
        key_encryption_algorithm: AlgorithmIdentifier, DER.
        encrypted_key: The wrapped content-encryption key.
    """

    key_identifier: bytes
    key_encryption_algorithm: bytes
    encrypted_key: bytes
    hides_failure: bool = False  # nobody can make the integrity check hold but by knowing the key

    def is_for(self, key: DecryptionKey) -> bool:
        """Whether a key may open it: it has the same name."""
        return isinstance(key, KeyEncryptionKey) and key.key_identifier == self.key_identifier

    def require_strength(self, *, legacy: bool) -> None:
        """Refuse what is unknown, and 3DES unless old messages are read.

        Raises:
            UnsupportedError: The key wrap algorithm is not known here.
            LegacyAlgorithmError: It is 3DES.
        """
        require_strength(self.wrap.name, self.wrap.strength, legacy=legacy)

    def content_key(self, key: DecryptionKey) -> bytes:
        """The content-encryption key, by one operation of the shared key.

        Raises:
            DecryptionError: The key is not the one, or the wrapped key was changed.
            MechanismError: The key or the token cannot do the algorithm.
            TokenError: The token failed.
        """
        if not isinstance(key, KeyEncryptionKey):
            raise TypeError("is_for comes first")
        wrap = self.wrap
        of_triple_des = isinstance(key, TripleDesKeyEncryptionKey)
        if key.key_size != wrap.key_size or of_triple_des != (wrap == _TRIPLE_DES):
            raise DecryptionError(CANNOT_DECRYPT)
        if wrap.oid not in PADDED_KEY_WRAPS:
            return key.unwrap_key(self.encrypted_key)
        if not isinstance(key, PaddedKeyEncryptionKey):
            raise MechanismError(f"the key {key.key_identifier.hex()} does not do {wrap.name}")
        return key.unwrap_padded_key(self.encrypted_key)

    @property
    def wrap(self) -> KeyWrap:
        """How the content-encryption key is wrapped.

        Raises:
            MalformedError: The algorithm identifier is broken.
            UnsupportedError: The algorithm is not known here.
        """
        oid = algorithm_of(self.key_encryption_algorithm)
        return PADDED_KEY_WRAPS.get(oid) or key_wrap_by_oid(oid)

    def __str__(self) -> str:
        return f"shared key {self.key_identifier.hex()}"


@dataclass(frozen=True, slots=True)
class KekRecipient:
    """A recipient of a new message who shares a key with the sender.

    Attributes:
        key: The shared key.
    """

    key: KeyEncryptionKey

    def encode(self, key: bytes) -> bytes:
        """A KEKRecipientInfo, DER.

        Args:
            key: The content-encryption key.

        Raises:
            UnsupportedError: The shared key only reads.
            MechanismError: The key or the token cannot do it.
            TokenError: The token failed.
        """
        identifier = der.sequence(der.octet_string(self.key.key_identifier))
        wrapped = self.key.wrap_key(key)
        algorithm = _AES[self.key.key_size].algorithm_identifier
        return der.constructed(
            KEK_TAG, der.integer(_VERSION), identifier, algorithm, der.octet_string(wrapped)
        )


def load_kek(encoded: bytes) -> KekRecipientInfo:
    """Read a KEKRecipientInfo, in definite form, with its tag [2]. `date` and `other` decide nothing.

    Raises:
        MalformedError: It is none.
    """
    match der.elements(encoded):
        case [_, identifier, algorithm, encrypted_key] if (identifier[0], algorithm[0], encrypted_key[0]) == (
            SEQUENCE,
            SEQUENCE,
            OCTET_STRING,
        ):
            match der.elements(identifier):
                case [key_identifier, *_] if key_identifier[0] == OCTET_STRING:
                    return KekRecipientInfo(
                        der.content(key_identifier), algorithm, der.content(encrypted_key)
                    )
    raise MalformedError("a KEKRecipientInfo is broken")
