"""What a path validation found: the path, what tells that nothing on it was revoked, how long that holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tokensign.certificates import Certificate

__all__ = ["RevocationEvidence", "RevocationKind", "RevocationStatus", "ValidatedPath"]

RevocationKind = Literal["crl", "ocsp"]
RevocationStatus = Literal["good", "revoked", "unknown"]


@dataclass(frozen=True, slots=True)
class RevocationEvidence:
    """One CRL or OCSP response that tells about one certificate.

    Attributes:
        kind: A CRL (RFC 5280) or an OCSP response (RFC 6960).
        source: Where it comes from: "given", "embedded" (in the message), "cached", or "fetched URL".
        produced_at: When it was made, for OCSP; of a CRL that is `this_update`.
        this_update: Since when what it says is known to be right.
        next_update: When newer information is due, or None where it does not say.
        status: What it says of the certificate.
        certificate: The certificate that it is about.
        encoded: The CRL or OCSP response, DER, for who wants to embed it.
        revoked_later: Whether it is good at the moment in question only, and revoked at a later one.
    """

    kind: RevocationKind
    source: str
    produced_at: datetime
    this_update: datetime
    next_update: datetime | None
    status: RevocationStatus
    certificate: Certificate
    encoded: bytes
    revoked_later: bool = False


@dataclass(frozen=True, slots=True)
class ValidatedPath:
    """A path from a certificate to a trust anchor that was valid.

    Iterating, indexing and measuring it goes over its certificates.

    Attributes:
        certificates: The certificate that was asked about first, the anchor last.
        revocation: What tells that the certificates below the anchor are not revoked; empty if nobody asked.
        valid_until: The earliest end of all that it rests on: the notAfter of its certificates, and the
            nextUpdate of its revocation data. Before it nothing needs to be asked again.
    """

    certificates: tuple[Certificate, ...]
    revocation: tuple[RevocationEvidence, ...]
    valid_until: datetime

    def __iter__(self) -> Iterator[Certificate]:
        return iter(self.certificates)

    def __len__(self) -> int:
        return len(self.certificates)

    def __getitem__(self, index: int) -> Certificate:
        return self.certificates[index]
