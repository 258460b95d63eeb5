"""Public keys of version 4 (RFC 9580 section 5.5), whose fingerprint depends on the time they were made.

A token does not know when OpenPGP says that a key was made, so whoever uses the key has to: from the
certificate that was published, or else always by the same rule.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tokensign import der
from tokensign.algorithms import CURVES
from tokensign.errors import MalformedError, UnsupportedError
from tokensign.openpgp.numbers import (
    ED25519_LEGACY_OID,
    X25519_LEGACY_OID,
    Hash,
    PublicKeyAlgorithm,
    Tag,
)
from tokensign.openpgp.packets import encode_mpi, encode_packet, read_packets

if TYPE_CHECKING:
    from typing import BinaryIO

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = ["KdfParameters", "PublicKey", "find_public_key", "public_key"]

_VERSION: Final = 4
_LATEST: Final = (1 << 32) - 1  # seconds since 1970 that fit into the packet
_NATIVE_POINT: Final = b"\x40"  # before the octets of a curve of RFC 7748 or 8032 (section 11.2.2)
_KEY_MAXIMUM: Final = 64  # keys of a certificate that are looked at


@dataclass(frozen=True, slots=True)
class KdfParameters:
    """How ECDH makes a key of its secret (section 11.5); part of the public key.

    Attributes:
        hash: The number of the hash function.
        cipher: The number of the symmetric algorithm that wraps the session key.
    """

    hash: int
    cipher: int

    @property
    def encoded(self) -> bytes:
        """Length, a reserved 1, hash and cipher (section 5.5.5.6)."""
        return bytes((3, 1, self.hash, self.cipher))


_KDF_OF_BITS: Final = {  # section 11.5.1
    256: KdfParameters(Hash.SHA256, 7),
    384: KdfParameters(Hash.SHA384, 8),
    521: KdfParameters(Hash.SHA512, 9),
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key as OpenPGP has it.

    Attributes:
        key: The key.
        created: When it was made, in whole seconds.
        algorithm: What it is used with.
        material: What follows the algorithm in its packet.
        kdf: For ECDH, how a key is made of the secret.
    """

    key: PublicKeyTypes
    created: datetime
    algorithm: PublicKeyAlgorithm
    material: bytes
    kdf: KdfParameters | None = None

    @property
    def body(self) -> bytes:
        """The body of its packet, without the packet's header."""
        seconds = int(self.created.timestamp())
        return bytes((_VERSION,)) + seconds.to_bytes(4) + bytes((self.algorithm,)) + self.material

    @property
    def hashed(self) -> bytes:
        """What fingerprints and signatures hash of it (sections 5.5.4.2 and 5.2.4)."""
        return b"\x99" + len(self.body).to_bytes(2) + self.body

    @property
    def fingerprint(self) -> bytes:
        """20 octets: SHA-1, as version 4 has it (section 5.5.4.2)."""
        return hashlib.sha1(self.hashed, usedforsecurity=False).digest()

    @property
    def key_id(self) -> bytes:
        """The last eight octets of the fingerprint."""
        return self.fingerprint[-8:]

    @property
    def oid(self) -> bytes:
        """For ECDH and ECDSA: the length and the content of the curve's object identifier."""
        return self.material[: 1 + self.material[0]]

    def packet(self, tag: Tag) -> bytes:
        """It as a packet: a primary key or a subkey."""
        return encode_packet(tag, self.body)


def public_key(
    key: PublicKeyTypes, created: datetime, *, encrypts: bool = False, native: bool = False
) -> PublicKey:
    """A public key as OpenPGP has it.

    Args:
        key: RSA, P-256, P-384, P-521, Ed25519 or X25519.
        created: When it was made; fractions of a second are cut off.
        encrypts: Whether a key on a curve of NIST is for ECDH, not ECDSA.
        native: Whether Ed25519 and X25519 have the formats of RFC 9580, which GnuPG does not read, not the
            legacy ones.

    Raises:
        UnsupportedError: It is of another type, or made outside of the years 1970 to 2106.
    """
    if not 0 <= created.timestamp() <= _LATEST:
        raise UnsupportedError("OpenPGP has keys that were made from 1970 to 2106")
    created = created.astimezone(UTC).replace(microsecond=0)
    algorithm, material, kdf = _material(key, encrypts=encrypts, native=native)
    return PublicKey(key, created, algorithm, material + (kdf.encoded if kdf else b""), kdf)


def _material(  # noqa: PLR0911 - a line or two for each type of key
    key: PublicKeyTypes, *, encrypts: bool, native: bool
) -> tuple[PublicKeyAlgorithm, bytes, KdfParameters | None]:
    """Algorithm, what identifies the key in its packet, and what follows that for ECDH."""
    match key:
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            return PublicKeyAlgorithm.RSA, encode_mpi(numbers.n) + encode_mpi(numbers.e), None
        case ec.EllipticCurvePublicKey():
            curve = next((one for one in CURVES.values() if isinstance(key.curve, one.primitive)), None)
            if curve is None:
                raise _no_place()
            point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            material = _oid(curve.oid) + _point(point)
            if encrypts:
                return PublicKeyAlgorithm.ECDH, material, _KDF_OF_BITS[curve.bits]
            return PublicKeyAlgorithm.ECDSA, material, None
        case ed25519.Ed25519PublicKey() if native:
            return PublicKeyAlgorithm.ED25519, key.public_bytes_raw(), None
        case ed25519.Ed25519PublicKey():
            material = _oid(ED25519_LEGACY_OID) + _point(_NATIVE_POINT + key.public_bytes_raw())
            return PublicKeyAlgorithm.EDDSA_LEGACY, material, None
        case x25519.X25519PublicKey() if native:
            return PublicKeyAlgorithm.X25519, key.public_bytes_raw(), None
        case x25519.X25519PublicKey():
            material = _oid(X25519_LEGACY_OID) + _point(_NATIVE_POINT + key.public_bytes_raw())
            return PublicKeyAlgorithm.ECDH, material, _KDF_OF_BITS[256]
        case _:
            raise _no_place()


def _no_place() -> UnsupportedError:
    return UnsupportedError(
        "OpenPGP has no place for a key of this type",
        hint="use RSA, P-256, P-384, P-521, Ed25519 or X25519",
    )


def find_public_key(certificate: BinaryIO, key: PublicKeyTypes, *, encrypts: bool) -> PublicKey:
    """A key as a certificate has it: with the time that it was made, and its parameters.

    The certificate is the user's own, so its signatures are not verified; a wrong one would only name a
    fingerprint that nobody knows.

    Args:
        certificate: A transferable public key in binary form.
        key: The key that is looked for.
        encrypts: As for `public_key`.

    Raises:
        MalformedError: It is no certificate, or the key is not in it.
        UnsupportedError: OpenPGP has no place for a key of this type.
    """
    forms = [_material(key, encrypts=encrypts, native=native) for native in (False, True)]
    seen = 0
    for packet in read_packets(certificate):
        if packet.tag not in (Tag.PUBLIC_KEY, Tag.PUBLIC_SUBKEY):
            continue
        seen += 1
        if seen > _KEY_MAXIMUM:
            break
        body = packet.whole()
        for algorithm, material, kdf in forms:
            if body[:1] == bytes((_VERSION,)) and body[5:6] == bytes((algorithm,)):
                rest = body[6:].removeprefix(material)
                if rest != body[6:] and bool(rest) == bool(kdf):
                    created = datetime.fromtimestamp(int.from_bytes(body[1:5]), UTC)
                    return PublicKey(key, created, algorithm, body[6:], _read_kdf(rest) if rest else None)
    raise MalformedError(
        "the key is not in the OpenPGP certificate",
        hint="give the certificate that `tokensign openpgp certificate` made for it",
    )


def _read_kdf(encoded: bytes) -> KdfParameters:
    match tuple(encoded):
        case (3, 1, number, cipher):
            return KdfParameters(number, cipher)
        case _:
            raise MalformedError("the KDF parameters of an OpenPGP key are broken")


def _oid(dotted: str) -> bytes:
    """An object identifier as section 9.2 has it: in DER without the tag, so with its length first."""
    return der.object_identifier(dotted)[1:]


def _point(octets: bytes) -> bytes:
    """A point as a multiprecision integer (section 11.2)."""
    return encode_mpi(int.from_bytes(octets))
