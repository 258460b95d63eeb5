"""Hash functions: those that are written, and those of content that are only read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from cryptography.hazmat.primitives import hashes

from tokensign import der
from tokensign.algorithms.strength import Strength
from tokensign.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DIGESTS",
    "MGF1_OID",
    "READ_DIGESTS",
    "Digest",
    "Hasher",
    "content_digest_by_oid",
    "digest",
    "digest_by_oid",
]

MGF1_OID: Final = "1.2.840.113549.1.1.8"


class Hasher(Protocol):
    """A hash computation under way."""

    def update(self, data: bytes, /) -> None:
        """Hash further octets."""
        ...

    def digest(self) -> bytes:
        """The hash value of all octets so far."""
        ...


@dataclass(frozen=True, slots=True)
class Digest:
    """A hash function.

    Attributes:
        name: As hashlib and OpenSSL name it, "sha256".
        oid: Its object identifier (RFC 5754, RFC 8702).
        size: Octets of a hash value.
        mechanism: The PKCS#11 hash mechanism; with "CKG_MGF1_" before it, the mask generation function.
        primitive: Its class in cryptography.
        strength: How far it is trusted.
    """

    name: str
    oid: str
    size: int
    mechanism: str
    primitive: type[hashes.HashAlgorithm] = field(compare=False)
    strength: Strength = Strength.STRONG
    _constructor: Callable[[bytes], Hasher] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_constructor", _constructor(self))

    def new(self, data: bytes = b"") -> Hasher:
        """A fresh computation, which has hashed some octets already."""
        return self._constructor(data)

    @property
    def algorithm_identifier(self) -> bytes:
        """AlgorithmIdentifier with parameters absent (RFC 5754 section 2), DER."""
        return der.sequence(der.object_identifier(self.oid))


_SHAKE_NAMES: Final = {"shake128": "shake_128", "shake256": "shake_256"}  # ours to hashlib's


class _ShakeHasher:
    """A `Hasher` of an extendable-output function with a fixed size."""

    def __init__(self, name: str, size: int, data: bytes) -> None:
        self._state = hashlib.new(name, data)
        self._size = size
        self.update = self._state.update

    def digest(self) -> bytes:
        return self._state.digest(self._size)  # type: ignore[call-arg]  # typeshed has the size for shake_*() only


def _constructor(digest: Digest) -> Callable[[bytes], Hasher]:
    """What begins a computation, looked up once because every signature begins two."""
    if digest.name in _SHAKE_NAMES:
        return partial(_ShakeHasher, _SHAKE_NAMES[digest.name], digest.size)
    constructor = getattr(hashlib, digest.name, None)  # four times as fast as hashlib.new
    if constructor is None:
        constructor = partial(hashlib.new, digest.name)
    found: Callable[[bytes], Hasher] = (
        constructor if digest.strength is Strength.STRONG else partial(constructor, usedforsecurity=False)
    )
    return found


DIGESTS: Final[dict[str, Digest]] = {
    entry.name: entry
    for entry in (
        Digest("sha256", "2.16.840.1.101.3.4.2.1", 32, "SHA256", hashes.SHA256),
        Digest("sha384", "2.16.840.1.101.3.4.2.2", 48, "SHA384", hashes.SHA384),
        Digest("sha512", "2.16.840.1.101.3.4.2.3", 64, "SHA512", hashes.SHA512),
        Digest("sha224", "2.16.840.1.101.3.4.2.4", 28, "SHA224", hashes.SHA224),
        Digest("sha3_224", "2.16.840.1.101.3.4.2.7", 28, "SHA3_224", hashes.SHA3_224),
        Digest("sha3_256", "2.16.840.1.101.3.4.2.8", 32, "SHA3_256", hashes.SHA3_256),
        Digest("sha3_384", "2.16.840.1.101.3.4.2.9", 48, "SHA3_384", hashes.SHA3_384),
        Digest("sha3_512", "2.16.840.1.101.3.4.2.10", 64, "SHA3_512", hashes.SHA3_512),
        Digest("sha1", "1.3.14.3.2.26", 20, "SHA_1", hashes.SHA1, Strength.LEGACY),
        Digest("md5", "1.2.840.113549.2.5", 16, "MD5", hashes.MD5, Strength.LEGACY),
    )
}
_DIGESTS_BY_OID: Final = {entry.oid: entry for entry in DIGESTS.values()}

# --- digests of content that are read and not written, because hardly anybody else reads them


class _Shake128(hashes.SHAKE128):
    """SHAKE128 with the 32 octets of RFC 8702 section 3.1."""

    def __init__(self) -> None:
        super().__init__(32)


class _Shake256(hashes.SHAKE256):
    """SHAKE256 with the 64 octets of RFC 8702 section 3.1, as Ed448 needs it too (RFC 8419 section 2.3)."""

    def __init__(self) -> None:
        super().__init__(64)


READ_DIGESTS: Final[dict[str, Digest]] = {
    entry.name: entry
    for entry in (
        Digest("shake128", "2.16.840.1.101.3.4.2.11", 32, "", _Shake128),
        Digest("shake256", "2.16.840.1.101.3.4.2.12", 64, "", _Shake256),
        Digest("sha512_224", "2.16.840.1.101.3.4.2.5", 28, "", hashes.SHA512_224),
        Digest("sha512_256", "2.16.840.1.101.3.4.2.6", 32, "", hashes.SHA512_256),
    )
}
_CONTENT_DIGESTS_BY_OID: Final = _DIGESTS_BY_OID | {entry.oid: entry for entry in READ_DIGESTS.values()}


def digest(name: str) -> Digest:
    """The digest with a name such as "sha256" or "SHA-256".

    Raises:
        UnsupportedError: No such digest.
    """
    normal = name.lower().replace("sha-", "sha").replace("sha3-", "sha3_")
    if normal not in DIGESTS:
        raise UnsupportedError(f"digest {name!r} is not supported", hint=f"use one of: {', '.join(DIGESTS)}")
    return DIGESTS[normal]


def digest_by_oid(oid: str) -> Digest:
    """The digest with an object identifier.

    Raises:
        UnsupportedError: No such digest.
    """
    if oid not in _DIGESTS_BY_OID:
        raise UnsupportedError(f"digest algorithm {oid} is not supported")
    return _DIGESTS_BY_OID[oid]


def content_digest_by_oid(oid: str) -> Digest:
    """The digest of content with an object identifier: as `digest_by_oid`, and those that are only read.

    Raises:
        UnsupportedError: No such digest.
    """
    if oid not in _CONTENT_DIGESTS_BY_OID:
        raise UnsupportedError(f"digest algorithm {oid} is not supported")
    return _CONTENT_DIGESTS_BY_OID[oid]
