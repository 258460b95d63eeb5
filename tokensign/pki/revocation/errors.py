"""What can be said of a certificate that is not cleared of revocation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensign.errors import MessageError, UntrustedError
from tokensign.pki.strength import require_signature_strength

if TYPE_CHECKING:
    from typing import Any

    from tokensign.certificates import Certificate
    from tokensign.pki.validated_path import RevocationEvidence

__all__ = ["RevocationMissingError", "RevokedCertificateError", "first_line", "require_strength"]


class RevokedCertificateError(UntrustedError):
    """A certificate was revoked.

    Attributes:
        evidence: What says so, last, and what cleared the certificates above it.
    """

    def __init__(self, message: str, *, hint: str, evidence: tuple[RevocationEvidence, ...]) -> None:
        super().__init__(message, hint=hint)
        self.evidence = evidence


class RevocationMissingError(UntrustedError):
    """Nothing at hand tells about a certificate, and there is more to ask for.

    Attributes:
        certificate: The certificate.
        issuer: Who issued it, on the path that is being validated.
    """

    def __init__(self, certificate: Certificate, issuer: Certificate) -> None:
        super().__init__(
            f"nothing at hand tells whether the certificate of {certificate.subject} was revoked"
        )
        self.certificate = certificate
        self.issuer = issuer


def require_strength(what: str, algorithm: Any, *, legacy: bool) -> None:  # noqa: ANN401 - asn1crypto has no types
    """Refuse a CRL or OCSP response with a weak signature.

    Args:
        what: What it is called.
        algorithm: An asn1crypto SignedDigestAlgorithm.
        legacy: Whether MD5 and SHA-1 are accepted.

    Raises:
        UntrustedError: It is too weak.
    """
    try:
        require_signature_strength(algorithm, legacy=legacy)
    except MessageError as error:
        raise UntrustedError(f"{what} does not count: {error.message}", hint=error.hint) from error


def first_line(error: Exception) -> str:
    """The first line of what an error says, fit to be shown."""
    line = str(error).strip().partition("\n")[0]
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)
