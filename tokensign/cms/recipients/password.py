"""PasswordRecipientInfo: a password gives the key that encrypts the content key (RFC 5652 section 6.2.4).

The key is encrypted with id-alg-PWRI-KEK (RFC 3211 section 2.3): formatted with its length, a check value and
random padding, and encrypted twice in CBC mode, the second time from where the first ended.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import constant_time
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tokensign import der
from tokensign.algorithms import CONTENT_CIPHERS, PWRI_KEK_OID, require_strength
from tokensign.cms.ber import OCTET_STRING, SEQUENCE, context
from tokensign.cms.content_cipher import (
    CANNOT_DECRYPT,
    ContentEncryption,
    encode_content_encryption,
    fresh_encryption,
    read_content_encryption,
)
from tokensign.cms.recipients.key_derivation import KeyDerivation, Pbkdf2Derivation, read_key_derivation
from tokensign.cms.signed_data import algorithm_of
from tokensign.errors import DecryptionError, MalformedError, UnsupportedError, UsageError
from tokensign.keys import Password

if TYPE_CHECKING:
    from tokensign.keys import DecryptionKey

__all__ = ["PASSWORD_TAG", "PasswordRecipient", "PasswordRecipientInfo", "load_password"]

PASSWORD_TAG: Final = context(3)  # of the choice RecipientInfo
_KEY_DERIVATION_TAG: Final = context(0)
_CHECK_SIZE: Final = 3  # octets of the key that the check value repeats
_MINIMUM_BLOCKS: Final = 2  # RFC 3211 section 2.3.1, step 2
_MAX_KEY_SIZE: Final = 255  # octets: the length is one octet
_MAX_ENCRYPTED_SIZE: Final = 512  # octets: the longest key and its padding have fewer


@dataclass(frozen=True, slots=True)
class PasswordRecipientInfo:
    """A recipient who knows a password.

    Attributes:
        key_derivation_algorithm: AlgorithmIdentifier, DER, with the tag [0]; None where the message has none.
        key_encryption_algorithm: AlgorithmIdentifier, DER.
        encrypted_key: The encrypted content-encryption key.
    """

    key_derivation_algorithm: bytes | None
    key_encryption_algorithm: bytes
    encrypted_key: bytes
    hides_failure: bool = False  # the check value tells a guessed password from a wrong one anyway

    def is_for(self, key: DecryptionKey) -> bool:
        """Whether a key may open it: any password may."""
        return isinstance(key, Password)

    def require_strength(self, *, legacy: bool) -> None:
        """Refuse what is unknown or costs too much, and 3DES unless old messages are read.

        Raises:
            UnsupportedError: An algorithm is not known here, or the derivation costs too much.
            LegacyAlgorithmError: The key is encrypted with 3DES.
            MalformedError: Parameters are broken.
        """
        cipher = self.encryption.cipher
        require_strength(cipher.name, cipher.strength, legacy=legacy)
        if self.derivation.key_length not in (None, cipher.key_size):
            raise MalformedError(f"the derived key has another size than {cipher.name} needs")

    def content_key(self, key: DecryptionKey) -> bytes:
        """The content-encryption key that a password opens.

        Raises:
            DecryptionError: The password is wrong, or the encrypted key was changed.
        """
        if not isinstance(key, Password):
            raise TypeError("is_for comes first")
        derived = self.derivation.derive(key.reveal(), self.encryption.cipher.key_size)
        return _unwrap(self.encryption, derived, self.encrypted_key)

    @property
    def derivation(self) -> KeyDerivation:
        """How the password becomes a key.

        Raises:
            MalformedError: The parameters are broken.
            UnsupportedError: The function is not known, costs too much, or is not in the message.
        """
        if self.key_derivation_algorithm is None:
            raise UnsupportedError("a password recipient without a key derivation is not supported")
        return read_key_derivation(self.key_derivation_algorithm)

    @property
    def encryption(self) -> ContentEncryption:
        """The cipher below id-alg-PWRI-KEK.

        Raises:
            MalformedError: The parameters are broken.
            UnsupportedError: The algorithm is not known here.
        """
        algorithm = algorithm_of(self.key_encryption_algorithm)
        if algorithm != PWRI_KEK_OID:
            raise UnsupportedError(f"key encryption algorithm {algorithm} is not supported with passwords")
        match der.elements(self.key_encryption_algorithm):
            case [_, parameters]:
                found = read_content_encryption(parameters)
            case _:
                raise MalformedError("id-alg-PWRI-KEK lacks its parameters")
        if found.cipher.mode != "cbc" or found.cipher.block_cipher == "rc2":
            raise UnsupportedError(f"id-alg-PWRI-KEK with {found.cipher.name} is not supported")
        return found

    def __str__(self) -> str:
        return "a password"


@dataclass(frozen=True, slots=True)
class PasswordRecipient:
    """A recipient of a new message who knows a password. The content key is encrypted with AES-256.

    Attributes:
        password: The password.
        derivation: How it becomes a key; PBKDF2 as OWASP advises unless told.
    """

    password: Password
    derivation: KeyDerivation = field(default_factory=Pbkdf2Derivation.fresh)

    def encode(self, key: bytes) -> bytes:
        """A PasswordRecipientInfo, DER.

        Args:
            key: The content-encryption key; 3 to 255 octets.

        Raises:
            UsageError: The password is empty.
            UnsupportedError: The key has another size.
        """
        if not self.password.reveal():
            raise UsageError("the password is empty", hint="give a password that nobody guesses")
        if not _CHECK_SIZE <= len(key) <= _MAX_KEY_SIZE:
            raise UnsupportedError(f"a password does not encrypt a key of {len(key)} bytes")
        cipher = CONTENT_CIPHERS["aes-256-cbc"]
        encryption = fresh_encryption(cipher, len(key))
        derived = self.derivation.derive(self.password.reveal(), cipher.key_size)
        algorithm = der.sequence(der.object_identifier(PWRI_KEK_OID), encode_content_encryption(encryption))
        return der.constructed(
            PASSWORD_TAG,
            der.integer(0),  # RFC 5652 section 6.2.4: always
            der.tlv(_KEY_DERIVATION_TAG, der.content(self.derivation.encode())),
            algorithm,
            der.octet_string(_wrap(encryption, derived, key)),
        )


def load_password(encoded: bytes) -> PasswordRecipientInfo:
    """Read a PasswordRecipientInfo, in definite form, with its tag [3].

    Raises:
        MalformedError: It is none.
    """
    derivation: bytes | None = None
    match der.elements(encoded):
        case [_, derivation, algorithm, encrypted_key] if derivation[0] == _KEY_DERIVATION_TAG:
            pass
        case [_, algorithm, encrypted_key]:
            derivation = None
        case _:
            raise MalformedError("a PasswordRecipientInfo is broken")
    if algorithm[0] != SEQUENCE or encrypted_key[0] != OCTET_STRING:
        raise MalformedError("a PasswordRecipientInfo is broken")
    return PasswordRecipientInfo(derivation, algorithm, der.content(encrypted_key))


def _wrap(encryption: ContentEncryption, key_encryption_key: bytes, key: bytes) -> bytes:
    """RFC 3211 section 2.3.1."""
    block = len(encryption.iv)
    check = bytes(octet ^ 0xFF for octet in key[:_CHECK_SIZE])
    formatted = bytes((len(key),)) + check + key
    size = max(_MINIMUM_BLOCKS * block, -(-len(formatted) // block) * block)
    formatted += os.urandom(size - len(formatted))
    encryptor = Cipher(_block_cipher(encryption, key_encryption_key), modes.CBC(encryption.iv)).encryptor()
    return encryptor.update(encryptor.update(formatted))  # the second pass goes on from the first


def _unwrap(encryption: ContentEncryption, key_encryption_key: bytes, encrypted_key: bytes) -> bytes:
    """RFC 3211 section 2.3.2."""
    block = len(encryption.iv)
    size = len(encrypted_key)
    if size % block or not _MINIMUM_BLOCKS * block <= size <= _MAX_ENCRYPTED_SIZE:
        raise DecryptionError(CANNOT_DECRYPT)

    def decrypted(iv: bytes, data: bytes) -> bytes:
        return Cipher(_block_cipher(encryption, key_encryption_key), modes.CBC(iv)).decryptor().update(data)

    # The second pass began with the last block of the first, which is what its own last block decrypts to.
    last = decrypted(encrypted_key[-2 * block : -block], encrypted_key[-block:])
    formatted = decrypted(encryption.iv, decrypted(last, encrypted_key))
    length, check, rest = formatted[0], formatted[1 : 1 + _CHECK_SIZE], formatted[1 + _CHECK_SIZE :]
    expected = bytes(octet ^ 0xFF for octet in rest[:_CHECK_SIZE])
    if not constant_time.bytes_eq(check, expected) or not _CHECK_SIZE <= length <= len(rest):
        raise DecryptionError(CANNOT_DECRYPT)
    return rest[:length]


def _block_cipher(encryption: ContentEncryption, key: bytes) -> algorithms.AES | TripleDES:
    return TripleDES(key) if encryption.cipher.block_cipher == "3des" else algorithms.AES(key)
