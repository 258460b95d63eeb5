"""Keys that somebody else has: once revoked for that, they are never certified again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import select

from tokensign.authority.records import CertificateRecord, Reason, State
from tokensign.errors import PolicyError
from tokensign.store.tables import ISSUED_CERTIFICATES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from sqlalchemy import Connection

    from tokensign.store import Store

__all__ = ["COMPROMISES", "good_certificates_of_key", "key_sha256", "require_uncompromised_key"]

COMPROMISES: Final = frozenset({Reason.KEY_COMPROMISE, Reason.CA_COMPROMISE, Reason.AA_COMPROMISE})
"""Reasons that say of the key, and not only of the certificate, that it is lost (RFC 5280 section 5.3.1)."""


def key_sha256(public_key: PublicKeyTypes) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo, 32 octets."""
    encoded = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).digest()


def require_uncompromised_key(connection: Connection, public_key: PublicKeyTypes) -> None:
    """Refuse a key for which any CA of the database has revoked a certificate as compromised.

    Raises:
        PolicyError: It has.
    """
    table = ISSUED_CERTIFICATES.c
    query = select(table.authority, table.serial).where(
        table.key_sha256 == key_sha256(public_key), table.reason.in_(COMPROMISES)
    )
    row = connection.execute(query.limit(1)).one_or_none()
    if row is not None:
        raise PolicyError(
            f"the key is compromised: the CA {row.authority} revoked its certificate {row.serial} for that",
            hint="make a new key",
        )


def good_certificates_of_key(store: Store, sha256: bytes) -> list[tuple[str, CertificateRecord]]:
    """The certificates of a key that are not revoked, each with the name of its CA.

    Args:
        store: The database.
        sha256: As of `key_sha256`.

    Raises:
        FileError: The database fails.
    """
    table = ISSUED_CERTIFICATES.c
    query = select(ISSUED_CERTIFICATES).where(
        table.key_sha256 == sha256, table.state == State.ISSUED, table.revoked_at.is_(None)
    )
    with store.reading() as connection:
        rows = connection.execute(query.order_by(table.authority, table.serial)).all()
    return [(row.authority, CertificateRecord.of(row)) for row in rows]
