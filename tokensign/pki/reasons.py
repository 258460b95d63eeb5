"""Why there is no valid path, in words that a person understands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pyhanko_certvalidator.errors import PathBuildingError

from tokensign.errors import UntrustedError
from tokensign.pki.names import display_name, short_name

if TYPE_CHECKING:
    from tokensign.certificates import Certificate
    from tokensign.pki.policy import TrustPolicy

__all__ = ["IssuerMissingError", "SearchExhaustedError", "in_plain_words", "no_path", "unreadable"]


class SearchExhaustedError(PathBuildingError):
    """The certificates refer to each other in more ways than are tried."""


class IssuerMissingError(UntrustedError):
    """No path, because the issuer of a certificate is not at hand.

    Attributes:
        top: The certificate whose issuer is missing.
    """

    def __init__(self, message: str, *, hint: str, top: Certificate) -> None:
        super().__init__(message, hint=hint)
        self.top = top


def no_path(
    certificate: Certificate, intermediates: list[Certificate], policy: TrustPolicy, error: Exception
) -> UntrustedError:
    """Why the search for a path found none.

    Args:
        certificate: The signer's certificate.
        intermediates: What the search went through.
        policy: Whose anchors it looked for.
        error: What ended it.
    """
    name = display_name(certificate)
    if isinstance(error, SearchExhaustedError):
        return UntrustedError(
            f"no path from the certificate of {name} to a trust anchor: the certificates that came along lead"
            " into each other",
            hint="give the certificates of its CAs alone",
        )
    if not isinstance(error, PathBuildingError):
        return unreadable(certificate, error)
    top = _follow(certificate, intermediates)
    issuer = short_name(top.asn1.issuer)
    message = f"no path from the certificate of {name} to a trust anchor:"
    hint = "give the missing certificate with --untrusted, or what you trust with --trust"
    if top.is_self_issued:
        return UntrustedError(f"{message} {issuer!r} is self-signed and not trusted", hint=hint)
    if any(anchor.asn1.subject == top.asn1.issuer for anchor in policy.anchors):
        reason = f"{issuer!r} is trusted with another key, or not as a CA"
    else:
        reason = f"the certificate of {issuer!r} is missing"
    return IssuerMissingError(f"{message} {reason}", hint=hint, top=top)


def _follow(certificate: Certificate, intermediates: list[Certificate]) -> Certificate:
    """The last certificate that is reached by the names of issuers."""
    left = list(intermediates)
    while True:
        issuer = next((entry for entry in left if entry.asn1.subject == certificate.asn1.issuer), None)
        if issuer is None:
            return certificate
        left.remove(issuer)
        certificate = issuer


def in_plain_words(message: str, members: list[Certificate]) -> str:
    """A message of pyhanko-certvalidator with names in place of positions.

    Args:
        message: The message, such as "... because intermediate certificate 1 is not a CA".
        members: The path it is about, the signer's certificate first and the anchor last.
    """
    message = message.removeprefix("The path could not be validated because ").strip().rstrip(".")
    message = re.sub(
        r"(?:the )?intermediate certificate (\d+)",
        lambda position: f"the certificate of {display_name(members[-1 - int(position[1])])}",
        message,
    )
    return message.replace("the end-entity certificate", f"the certificate of {display_name(members[0])}")


def unreadable(certificate: Certificate, error: Exception) -> UntrustedError:
    """That something made the validator stumble, which is the certificates' fault and no bug to report."""
    return UntrustedError(
        f"the certificate of {display_name(certificate)} cannot be checked: something in it, or in what came"
        " along with it, is broken",
        hint=f"the validator says: {type(error).__name__}",
    )
