"""The algorithm numbers of OpenPGP (RFC 9580 section 9)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = [
    "ED25519_LEGACY_OID",
    "HASHES",
    "KEY_SIZES",
    "X25519_LEGACY_OID",
    "Aead",
    "Compression",
    "Hash",
    "PublicKeyAlgorithm",
    "Tag",
]


class Tag(IntEnum):
    """Packet types (section 5)."""

    ENCRYPTED_SESSION_KEY = 1
    SIGNATURE = 2
    PASSWORD_SESSION_KEY = 3
    ONE_PASS_SIGNATURE = 4
    PUBLIC_KEY = 6
    COMPRESSED = 8
    ENCRYPTED = 9
    MARKER = 10
    LITERAL = 11
    USER_ID = 13
    PUBLIC_SUBKEY = 14
    ENCRYPTED_AND_PROTECTED = 18
    PADDING = 21


class PublicKeyAlgorithm(IntEnum):
    """Public-key algorithms (section 9.1)."""

    RSA = 1
    ECDH = 18
    ECDSA = 19
    EDDSA_LEGACY = 22
    X25519 = 25
    ED25519 = 27


class Hash(IntEnum):
    """Hash algorithms (section 9.5)."""

    SHA256 = 8
    SHA384 = 9
    SHA512 = 10


class Compression(IntEnum):
    """Compression algorithms (section 9.4)."""

    NONE = 0
    ZIP = 1
    ZLIB = 2
    BZIP2 = 3


class Aead(IntEnum):
    """AEAD algorithms (section 9.6)."""

    OCB = 2
    GCM = 3


HASHES: Final = {"sha256": Hash.SHA256, "sha384": Hash.SHA384, "sha512": Hash.SHA512}
"""The numbers of the digests that signatures are made with, by their names in `tokensign.algorithms`."""

KEY_SIZES: Final = {7: 16, 8: 24, 9: 32}
"""Octets of the key by symmetric algorithm (section 9.3): AES, and nothing that is older."""

ED25519_LEGACY_OID: Final = "1.3.6.1.4.1.11591.15.1"
"""Names Ed25519 in a key of EdDSALegacy (section 9.2)."""

X25519_LEGACY_OID: Final = "1.3.6.1.4.1.3029.1.5.1"
"""Names Curve25519 in a key of ECDH (section 9.2)."""
