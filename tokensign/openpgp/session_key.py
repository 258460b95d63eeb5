"""Public-key encrypted session keys (RFC 9580 section 5.1), opened by one operation of a key.

What goes wrong looks the same from outside, whatever it is: see `tokensign.openpgp.decrypt`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from tokensign.algorithms import DIGESTS
from tokensign.errors import DecryptionError, MalformedError
from tokensign.keys import Decrypter, KeyAgreement, Pkcs1Transport
from tokensign.openpgp.numbers import HASHES, KEY_SIZES, Hash, PublicKeyAlgorithm

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from tokensign.openpgp.packets import Packet
    from tokensign.openpgp.public_key import PublicKey

__all__ = ["CANNOT_DECRYPT", "EncryptedSessionKey", "RecipientKey", "SessionKey", "read_session_key"]

CANNOT_DECRYPT: Final = "the message cannot be decrypted"  # the one text for every cause

_OLD, _CURRENT = 3, 6  # versions of the packet
_KEY_ID_SIZE: Final = 8
_SENDER: Final = b"Anonymous Sender    "  # section 11.5
_NATIVE_POINT: Final = 0x40
_CHECKSUM_SIZE: Final = 2
_X25519_SIZE: Final = 32
_X25519_INFO: Final = b"OpenPGP X25519"  # section 5.1.6
_DIGEST_NAMES: Final = {number: name for name, number in HASHES.items()}


class SessionKey(NamedTuple):
    """What the content is encrypted with.

    Attributes:
        cipher: The number of the symmetric algorithm; None where the encrypted data name it themselves.
        key: Its octets.
    """

    cipher: int | None
    key: bytes


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """A private key that decrypts, and what OpenPGP calls its public half.

    Attributes:
        private: RSA, or one that agrees on secrets.
        public: Its name.
    """

    private: Decrypter | KeyAgreement
    public: PublicKey


@dataclass(frozen=True, slots=True)
class EncryptedSessionKey:
    """A session key that one recipient can decrypt.

    Attributes:
        version: 3, or 6, which goes with the second version of encrypted data.
        recipient: The key ID (version 3) or the fingerprint; empty where the recipient is not told.
        algorithm: The number of the public-key algorithm.
        fields: What follows.
    """

    version: int
    recipient: bytes
    algorithm: int
    fields: bytes

    def is_for(self, key: RecipientKey) -> bool:
        """Whether a key may open it."""
        if self.algorithm != key.public.algorithm:
            return False
        return not self.recipient or key.public.fingerprint.endswith(self.recipient)

    def open(self, key: RecipientKey) -> SessionKey:
        """The session key, by one operation of the private key.

        Raises:
            DecryptionError: It cannot be had, for whatever reason; one text.
            TokenError: The token failed.
        """
        try:
            match PublicKeyAlgorithm(self.algorithm):
                case PublicKeyAlgorithm.RSA:
                    return self._numbered(_rsa(self.fields, key))
                case PublicKeyAlgorithm.ECDH:
                    return self._numbered(_unpadded(_ecdh(self.fields, key)))
                case PublicKeyAlgorithm.X25519:
                    return self._x25519(key)
                case _:
                    raise DecryptionError(CANNOT_DECRYPT)
        except (ValueError, IndexError, KeyError, InvalidUnwrap):
            raise DecryptionError(CANNOT_DECRYPT) from None

    def _numbered(self, encoded: bytes) -> SessionKey:
        """What RSA and ECDH encrypt: in version 3 the cipher, then the key and a checksum (section 5.1.3)."""
        cipher = encoded[0] if self.version == _OLD else None
        key = encoded[self.version == _OLD : -_CHECKSUM_SIZE]
        if sum(key) % (1 << 16) != int.from_bytes(encoded[-_CHECKSUM_SIZE:]):
            raise DecryptionError(CANNOT_DECRYPT)
        return SessionKey(cipher, key)

    def _x25519(self, key: RecipientKey) -> SessionKey:
        """The format of RFC 9580 (section 5.1.6), where the cipher is not encrypted."""
        ephemeral, rest = self.fields[:_X25519_SIZE], self.fields[_X25519_SIZE:]
        wrapped = rest[1:]
        if len(wrapped) != rest[0]:
            raise DecryptionError(CANNOT_DECRYPT)
        cipher = None
        if self.version == _OLD:
            cipher, wrapped = wrapped[0], wrapped[1:]
        secret = _agreed(key, x25519.X25519PublicKey.from_public_bytes(ephemeral))
        shared = ephemeral + key.public.material + secret
        wrapping = HKDF(SHA256(), 16, salt=None, info=_X25519_INFO).derive(shared)
        return SessionKey(cipher, aes_key_unwrap(wrapping, wrapped))


def _rsa(fields: bytes, key: RecipientKey) -> bytes:
    """RSA with the padding of PKCS #1 v1.5 (section 5.1.3)."""
    public = key.public.key
    if not isinstance(key.private, Decrypter) or not isinstance(public, rsa.RSAPublicKey):
        raise DecryptionError(CANNOT_DECRYPT)
    encrypted, rest = _mpi(fields)
    size = (public.key_size + 7) // 8
    if rest or len(encrypted) > size:
        raise DecryptionError(CANNOT_DECRYPT)
    return key.private.unwrap(encrypted.rjust(size, b"\0"), Pkcs1Transport())


def _ecdh(fields: bytes, key: RecipientKey) -> bytes:
    """ECDH (section 11.5): the secret, hashed with the recipient's name, unwraps the session key."""
    kdf = key.public.kdf
    if kdf is None:
        raise DecryptionError(CANNOT_DECRYPT)
    point, rest = _mpi(fields)
    wrapped = rest[1:]
    if len(wrapped) != rest[0]:
        raise DecryptionError(CANNOT_DECRYPT)
    secret = _agreed(key, _peer(point, key.public.key))
    parameters = b"".join(
        (key.public.oid, bytes((key.public.algorithm,)), kdf.encoded, _SENDER, key.public.fingerprint)
    )
    digest = DIGESTS[_DIGEST_NAMES[Hash(kdf.hash)]]
    derived = digest.new(b"\0\0\0\1" + secret + parameters).digest()
    return aes_key_unwrap(derived[: KEY_SIZES[kdf.cipher]], wrapped)


def _agreed(key: RecipientKey, peer: PublicKeyTypes) -> bytes:
    if not isinstance(key.private, KeyAgreement):
        raise DecryptionError(CANNOT_DECRYPT)
    return key.private.agree(peer)


def _peer(point: bytes, own: PublicKeyTypes) -> PublicKeyTypes:
    """The sender's ephemeral key, which must be on the recipient's curve."""
    match own:
        case ec.EllipticCurvePublicKey():
            return ec.EllipticCurvePublicKey.from_encoded_point(own.curve, point)
        case x25519.X25519PublicKey() if point[0] == _NATIVE_POINT:
            return x25519.X25519PublicKey.from_public_bytes(point[1:])
        case _:
            raise DecryptionError(CANNOT_DECRYPT)


def _unpadded(padded: bytes) -> bytes:
    """Without the padding to a multiple of eight octets (section 11.5); the key wrap has authenticated it."""
    count = padded[-1]
    if not count or padded[-count:] != bytes((count,)) * count:
        raise DecryptionError(CANNOT_DECRYPT)
    return padded[:-count]


def _mpi(fields: bytes) -> tuple[bytes, bytes]:
    """A multiprecision integer, and what follows."""
    end = 2 + (int.from_bytes(fields[:2]) + 7) // 8
    if len(fields) < end:
        raise DecryptionError(CANNOT_DECRYPT)
    return fields[2:end], fields[end:]


def read_session_key(packet: Packet) -> EncryptedSessionKey | None:
    """Read a packet; None for a version that is not known, which section 5.1 has passed over.

    Raises:
        MalformedError: It is too short, or too long.
    """
    (version,) = packet.exactly(1)
    if version == _OLD:
        recipient = packet.exactly(_KEY_ID_SIZE)
        recipient = recipient if any(recipient) else b""
    elif version == _CURRENT:
        name = packet.exactly(packet.exactly(1)[0])
        recipient = name[1:]  # without the version of the key
        if name and not recipient:
            raise MalformedError("an encrypted session key of OpenPGP is broken")
    else:
        return None
    return EncryptedSessionKey(version, recipient, packet.exactly(1)[0], packet.whole())
