"""Whether a certificate was revoked: CRLs (RFC 5280 section 6.3) and OCSP responses (RFC 6960).

Where the information comes from, and who reads on:

- `crl` and `ocsp`: one CRL, one OCSP answer. Given as files, or embedded in a message (RFC 5652 section
  10.2.1, RFC 5940); nothing in them is believed before its signature was checked.
- `check`: every certificate of a path is asked about, and each answer that counts is told as evidence.
- `inquiry`: what is known during one validation, and what may be asked for besides.
- `online` and `cache`: over HTTP from where the certificates say, and on the disk for the next time.
"""

from __future__ import annotations

from tokensign.pki.revocation.cache import RevocationCache, default_cache
from tokensign.pki.revocation.check import RevocationMode, check_revocation
from tokensign.pki.revocation.crl import load_crls
from tokensign.pki.revocation.errors import RevocationMissingError, RevokedCertificateError
from tokensign.pki.revocation.inquiry import FETCHING_SECONDS, Inquiry, RevocationInfo
from tokensign.pki.revocation.ocsp import load_ocsp_responses

__all__ = [
    "FETCHING_SECONDS",
    "Inquiry",
    "RevocationCache",
    "RevocationInfo",
    "RevocationMissingError",
    "RevocationMode",
    "RevokedCertificateError",
    "check_revocation",
    "default_cache",
    "load_crls",
    "load_ocsp_responses",
]
