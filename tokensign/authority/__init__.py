"""A certificate authority in a database: what it may issue, what it issued, and what it revoked.

- `open_authority`: one CA, an `Authority`, which issues, revokes and makes CRLs.
- `create_authority`, `adopt_authority`: make one, also one that succeeds another with a new key.
- `renew_own_certificate`, `replace_own_certificate`, `cross_certify`: its later certificates.
- `Profile`, `load_profile`: what a certificate of a kind may hold; `profiles` has TOML files for the usual.
- `CertificateRecord`, `CertificateStatus`: what the database knows of a certificate.

Private keys are known by the protocol `tokensign.keys.Signer` only, so they stay on their tokens. Each step
is in the database before anybody sees its result: a serial number before it is signed, a certificate before
it is handed out, the number of a CRL before the CRL exists.
"""

from __future__ import annotations

from tokensign.authority.authority import Authority, list_authorities, open_authority
from tokensign.authority.crl import RevocationList, publish
from tokensign.authority.founding import adopt_authority, create_authority
from tokensign.authority.issuing import IssuedCertificate
from tokensign.authority.own_certificate import (
    cross_certify,
    parent_of,
    renew_own_certificate,
    replace_own_certificate,
)
from tokensign.authority.profiles import Profile, load_profile, profile_names
from tokensign.authority.records import CertificateRecord, CertificateStatus, Reason, State, Status

__all__ = [
    "Authority",
    "CertificateRecord",
    "CertificateStatus",
    "IssuedCertificate",
    "Profile",
    "Reason",
    "RevocationList",
    "State",
    "Status",
    "adopt_authority",
    "create_authority",
    "cross_certify",
    "list_authorities",
    "load_profile",
    "open_authority",
    "parent_of",
    "profile_names",
    "publish",
    "renew_own_certificate",
    "replace_own_certificate",
]
