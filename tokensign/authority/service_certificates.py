"""Certificates of services, such as OCSP responders: with revoked ones nothing is signed any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokensign.authority.records import Status
from tokensign.errors import UntrustedError
from tokensign.pki.names import display_name

if TYPE_CHECKING:
    from tokensign.authority.authority import Authority
    from tokensign.certificates import Certificate

__all__ = ["require_not_revoked"]


def require_not_revoked(authority: Authority, certificate: Certificate) -> None:
    """Look up whether the certificate of a service may be used.

    Args:
        authority: The CA that issued it.
        certificate: The service's.

    Raises:
        UntrustedError: It is revoked, or on hold.
        FileError: The database fails.
    """
    if authority.status_of(certificate.serial_number).status is Status.REVOKED:
        raise UntrustedError(
            f"the certificate of {display_name(certificate)} is revoked by the CA {authority.name}",
            hint="generate a new key for the service and issue a certificate to it",
        )
