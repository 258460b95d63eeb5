"""What is done to content: encryption with and without authentication, and compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tokensign.algorithms.strength import Strength
from tokensign.errors import UnsupportedError

__all__ = [
    "CONTENT_CIPHERS",
    "DEFAULT_CONTENT_CIPHER",
    "ZLIB_COMPRESS_OID",
    "ContentCipher",
    "content_cipher",
]

ZLIB_COMPRESS_OID: Final = "1.2.840.113549.1.9.16.3.8"  # RFC 3274 section 2


@dataclass(frozen=True, slots=True)
class ContentCipher:
    """A content-encryption algorithm.

    Attributes:
        name: As on the command line, "aes-256-gcm".
        oid: Its object identifier (RFC 3565, RFC 5084, RFC 8103, RFC 3370).
        key_size: Octets of the content-encryption key; of RC2, which takes several, the longest.
        mode: "cbc", "gcm", "ccm", or "chacha20" for ChaCha20-Poly1305.
        iv_size: Octets of the initialisation vector (cbc) or nonce (the others) that are written.
        block_cipher: "aes", "3des" or "rc2" below a mode; "" for chacha20.
        strength: How far it is trusted.
    """

    name: str
    oid: str
    key_size: int
    mode: Literal["cbc", "gcm", "ccm", "chacha20"]
    iv_size: int
    block_cipher: Literal["aes", "3des", "rc2", ""] = "aes"
    strength: Strength = Strength.STRONG

    @property
    def authenticated(self) -> bool:
        """Whether it is an AEAD and goes into AuthEnvelopedData (RFC 5083)."""
        return self.mode != "cbc"


CONTENT_CIPHERS: Final[dict[str, ContentCipher]] = {
    entry.name: entry
    for entry in (
        ContentCipher("aes-256-gcm", "2.16.840.1.101.3.4.1.46", 32, "gcm", 12),
        ContentCipher("aes-192-gcm", "2.16.840.1.101.3.4.1.26", 24, "gcm", 12),
        ContentCipher("aes-128-gcm", "2.16.840.1.101.3.4.1.6", 16, "gcm", 12),
        ContentCipher("chacha20-poly1305", "1.2.840.113549.1.9.16.3.18", 32, "chacha20", 12, ""),
        ContentCipher("aes-256-ccm", "2.16.840.1.101.3.4.1.47", 32, "ccm", 12),
        ContentCipher("aes-192-ccm", "2.16.840.1.101.3.4.1.27", 24, "ccm", 12),
        ContentCipher("aes-128-ccm", "2.16.840.1.101.3.4.1.7", 16, "ccm", 12),
        ContentCipher("aes-256-cbc", "2.16.840.1.101.3.4.1.42", 32, "cbc", 16),
        ContentCipher("aes-192-cbc", "2.16.840.1.101.3.4.1.22", 24, "cbc", 16),
        ContentCipher("aes-128-cbc", "2.16.840.1.101.3.4.1.2", 16, "cbc", 16),
        ContentCipher("des-ede3-cbc", "1.2.840.113549.3.7", 24, "cbc", 8, "3des", Strength.LEGACY),
        ContentCipher("rc2-cbc", "1.2.840.113549.3.2", 16, "cbc", 8, "rc2", Strength.LEGACY),
    )
}
_CONTENT_CIPHERS_BY_OID: Final = {entry.oid: entry for entry in CONTENT_CIPHERS.values()}
DEFAULT_CONTENT_CIPHER: Final = CONTENT_CIPHERS["aes-256-gcm"]


def content_cipher(name_or_oid: str) -> ContentCipher:
    """The content cipher with a name such as "aes-256-gcm", or with an object identifier.

    Raises:
        UnsupportedError: No such cipher.
    """
    entry = CONTENT_CIPHERS.get(name_or_oid.lower()) or _CONTENT_CIPHERS_BY_OID.get(name_or_oid)
    if entry is None:
        strong = (entry.name for entry in CONTENT_CIPHERS.values() if entry.strength is Strength.STRONG)
        raise UnsupportedError(
            f"content encryption {name_or_oid} is not supported", hint=f"supported are: {', '.join(strong)}"
        )
    return entry
