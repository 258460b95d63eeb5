"""Types of keys as they are received: their object identifiers, the curves, and the sizes that are taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from tokensign.algorithms.digests import DIGESTS, Digest

__all__ = [
    "CURVES",
    "DH_PUBLIC_NUMBER_OID",
    "DSA_KEY_OIDS",
    "DSA_MAXIMUM_BITS",
    "EC_PUBLIC_KEY_OID",
    "ED448_OID",
    "ED25519_OID",
    "RSA_ENCRYPTION_OID",
    "RSA_MAXIMUM_BITS",
    "RSA_MINIMUM_BITS",
    "X448_OID",
    "X25519_OID",
    "Curve",
]

RSA_MINIMUM_BITS: Final = 2048  # NIST SP 800-131A: shorter keys no longer protect
RSA_MAXIMUM_BITS: Final = 16384  # verification cost grows with the cube of a stranger's key size
DSA_MAXIMUM_BITS: Final = 3072  # FIPS 186-4 has no larger ones

RSA_ENCRYPTION_OID: Final = "1.2.840.113549.1.1.1"
EC_PUBLIC_KEY_OID: Final = "1.2.840.10045.2.1"  # RFC 5480
ED25519_OID: Final = "1.3.101.112"  # RFC 8410
ED448_OID: Final = "1.3.101.113"  # RFC 8410
X25519_OID: Final = "1.3.101.110"  # RFC 8410
X448_OID: Final = "1.3.101.111"
DH_PUBLIC_NUMBER_OID: Final = "1.2.840.10046.2.1"  # RFC 3279 section 2.3.3
DSA_KEY_OIDS: Final = ("1.2.840.10040.4.1", "1.2.840.10040.4.3")  # id-dsa (RFC 3279), and what old CAs wrote


@dataclass(frozen=True, slots=True)
class Curve:
    """An elliptic curve in the names of all who speak of it.

    Attributes:
        name: NIST's, as on the command line: "p256".
        oid: Its object identifier (RFC 5480).
        bits: Size of the field in bits.
        primitive: Its class in cryptography.
        digest: The digest of matching strength (RFC 5753 section 2.1.1).
    """

    name: str
    oid: str
    bits: int
    primitive: type[ec.EllipticCurve] = field(compare=False)
    digest: Digest


CURVES: Final[dict[str, Curve]] = {
    entry.name: entry
    for entry in (
        Curve("p256", "1.2.840.10045.3.1.7", 256, ec.SECP256R1, DIGESTS["sha256"]),
        Curve("p384", "1.3.132.0.34", 384, ec.SECP384R1, DIGESTS["sha384"]),
        Curve("p521", "1.3.132.0.35", 521, ec.SECP521R1, DIGESTS["sha512"]),
    )
}
