"""Message authentication codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tokensign.algorithms.digests import DIGESTS, Digest
from tokensign.errors import UnsupportedError

__all__ = [
    "MACS",
    "Mac",
    "mac_algorithm",
]


@dataclass(frozen=True, slots=True)
class Mac:
    """HMAC (RFC 2104) with a digest. It needs no collision resistance, so that with SHA-1 it may be read.

    Attributes:
        name: "hmac-sha256".
        oid: As it is written (RFC 8018, RFC 4231).
        digest: The hash below.
        writable: Whether new messages have it.
    """

    name: str
    oid: str
    digest: Digest
    writable: bool = True


MACS: Final[dict[str, Mac]] = {
    entry.name: entry
    for entry in (
        Mac("hmac-sha256", "1.2.840.113549.2.9", DIGESTS["sha256"]),
        Mac("hmac-sha384", "1.2.840.113549.2.10", DIGESTS["sha384"]),
        Mac("hmac-sha512", "1.2.840.113549.2.11", DIGESTS["sha512"]),
        Mac("hmac-sha224", "1.2.840.113549.2.8", DIGESTS["sha224"]),
        Mac("hmac-sha3-256", "2.16.840.1.101.3.4.2.14", DIGESTS["sha3_256"]),
        Mac("hmac-sha3-384", "2.16.840.1.101.3.4.2.15", DIGESTS["sha3_384"]),
        Mac("hmac-sha3-512", "2.16.840.1.101.3.4.2.16", DIGESTS["sha3_512"]),
        Mac("hmac-sha1", "1.2.840.113549.2.7", DIGESTS["sha1"], writable=False),
    )
}
_HMAC_SHA1_OID: Final = "1.3.6.1.5.5.8.1.2"  # RFC 3370 section 3.1: the other name of hmac-sha1
_MACS_BY_OID: Final = {entry.oid: entry for entry in MACS.values()} | {_HMAC_SHA1_OID: MACS["hmac-sha1"]}


def mac_algorithm(name_or_oid: str) -> Mac:
    """The message authentication code with a name such as "hmac-sha256", or with an object identifier.

    Raises:
        UnsupportedError: No such algorithm.
    """
    entry = MACS.get(name_or_oid.lower()) or _MACS_BY_OID.get(name_or_oid)
    if entry is None:
        raise UnsupportedError(
            f"message authentication code {name_or_oid} is not supported",
            hint=f"supported are: {', '.join(MACS)}",
        )
    return entry
