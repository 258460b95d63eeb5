"""The tables of contacts and certificate authorities. A change here needs a step in `migrations/versions`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    text,
)

if TYPE_CHECKING:
    from sqlalchemy import Dialect

__all__ = [
    "AUTHORITIES",
    "CONTACTS",
    "CONTACT_CERTIFICATES",
    "ISSUED_CERTIFICATES",
    "ISSUERS",
    "MAILBOX_PROOFS",
    "METADATA",
    "REQUESTS",
    "REQUEST_APPROVALS",
    "REVOCATION_LISTS",
    "Moment",
]

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_UNIT: Final = timedelta(microseconds=1)

METADATA: Final = MetaData(
    naming_convention={  # so that migrations can name what they change
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Moment(TypeDecorator[datetime]):
    """An aware datetime, stored as microseconds since 1970 in UTC, which every database compares alike."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's
        """Microseconds for the database."""
        return None if value is None else (value - _EPOCH) // _UNIT

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - as above
        """A datetime from the database."""
        return None if value is None else _EPOCH + value * _UNIT


CONTACTS: Final = Table(
    "contacts",
    METADATA,
    Column("address", String, primary_key=True),
    Column("capabilities", LargeBinary, nullable=True),  # SMIMECapabilities, DER
    Column("capabilities_at", Moment, nullable=True),  # the signing time of the mail that had them
)
"""A correspondent for each address, as `tokensign.contacts.canonical_address` writes it."""

CONTACT_CERTIFICATES: Final = Table(
    "contact_certificates",
    METADATA,
    Column("address", ForeignKey("contacts.address", ondelete="CASCADE"), primary_key=True),
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("der", LargeBinary, nullable=False),
    Column("origin", String(16), nullable=False),
    Column("encrypts", Boolean(create_constraint=False), nullable=False),
    Column("stated_at", Moment, nullable=False),
    Column("revoked_at", Moment, nullable=True),
    CheckConstraint("origin IN ('hand', 'mail', 'smimea')", name="origin"),
)
"""Every certificate that a correspondent ever had; none is thrown away because another one came."""

ISSUERS: Final = Table(
    "issuers",
    METADATA,
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("subject", LargeBinary, nullable=False, index=True),  # Name, DER
    Column("der", LargeBinary, nullable=False),
)
"""Certificates of CAs between those of correspondents and the anchors, by the name that they issue under."""

AUTHORITIES: Final = Table(
    "authorities",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("certificate", LargeBinary, nullable=False),  # DER
    Column("chain", Text, nullable=False),  # the certificates above it, PEM, the issuer first; may be empty
    Column("key_uri", Text, nullable=True),  # where its key is (RFC 7512), without any PIN
    Column("url", Text, nullable=True),  # below which it serves CRLs, OCSP and its certificate
    Column("partitions", Integer, nullable=False),  # over how many CRLs its certificates are spread
    Column("crl_number", BigInteger, nullable=False),  # the last one given out; never set back
    Column("successor", String(64), nullable=True),  # the CA with the next key, which issues in its place
    Column("created_at", Moment, nullable=False),
)
"""The CAs whose certificates are issued from this database."""

ISSUED_CERTIFICATES: Final = Table(
    "issued_certificates",
    METADATA,
    Column("authority", ForeignKey("authorities.name"), primary_key=True),
    Column("serial", String(40), primary_key=True),  # hexadecimal, lower case, without leading zeros
    Column("state", String(16), nullable=False),
    Column("profile", String(64), nullable=False),
    Column("subject", Text, nullable=False),  # RFC 4514
    Column("emails", Text, nullable=False),  # separated by blanks
    Column("key_sha256", LargeBinary(32), nullable=False),  # of the SubjectPublicKeyInfo
    Column("not_before", Moment, nullable=False),
    Column("not_after", Moment, nullable=False),
    Column("partition", Integer, nullable=False),  # of the CRL that would list it
    Column("request_id", String(128), nullable=True),  # of the registration authority; or a CA's own
    Column("replaces", String(40), nullable=True),  # the serial of the certificate that this one renews
    Column("reserved_at", Moment, nullable=False),
    Column("issued_at", Moment, nullable=True),
    Column("der", LargeBinary, nullable=True),  # from `issued` on
    Column("revoked_at", Moment, nullable=True),
    Column("reason", String(32), nullable=True),  # RFC 5280 section 5.3.1, or null: unspecified
    Column("held", Boolean(create_constraint=False), nullable=False),  # certificateHold: may be released
    Column("changed_crl_number", BigInteger, nullable=True),  # the last CRL that does not show the status
    CheckConstraint("state IN ('reserved', 'issued', 'abandoned')", name="state"),
    Index("ix_issued_certificates_expiry", "authority", "not_after"),
    Index("ix_issued_certificates_changed", "authority", "changed_crl_number"),
    Index("ix_issued_certificates_key", "key_sha256"),
    Index(  # one certificate for a request; an abandoned attempt does not count
        "uq_issued_certificates_request_id",
        "request_id",
        unique=True,
        sqlite_where=text("request_id IS NOT NULL AND state <> 'abandoned'"),
        postgresql_where=text("request_id IS NOT NULL AND state <> 'abandoned'"),
    ),
)
"""Every serial number that was ever given out, and what became of it. No row is deleted."""

REVOCATION_LISTS: Final = Table(
    "revocation_lists",
    METADATA,
    Column("authority", ForeignKey("authorities.name"), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("partition", Integer, nullable=True),  # null: all certificates of the CA
    Column("base_number", BigInteger, nullable=True),  # that of the complete CRL under a delta CRL
    Column("this_update", Moment, nullable=False),
    Column("next_update", Moment, nullable=False),
    Column("der", LargeBinary, nullable=False),
)
"""The CRLs that were signed."""

REQUESTS: Final = Table(
    "requests",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("authority", ForeignKey("authorities.name"), nullable=False),
    Column("profile", String(64), nullable=False),
    Column("csr", LargeBinary, nullable=False),  # CertificationRequest, DER
    Column("csr_sha256", LargeBinary(32), nullable=False, index=True),
    Column("requester", Text, nullable=False),  # whose certificate it will be
    Column("submitter", Text, nullable=False),  # who handed it in
    Column("state", String(16), nullable=False),
    Column("approvals_needed", Integer, nullable=False),
    Column("reason", Text, nullable=True),  # why it was rejected
    Column("submitted_at", Moment, nullable=False),
    Column("decided_at", Moment, nullable=True),  # when it was approved or rejected
    CheckConstraint(
        "state IN ('unproved', 'waiting', 'approved', 'issuing', 'issued', 'rejected')", name="state"
    ),
)
"""Requests; the certificate of one names it in `issued_certificates`. No row is deleted."""

MAILBOX_PROOFS: Final = Table(
    "mailbox_proofs",
    METADATA,
    Column("request", ForeignKey("requests.id"), primary_key=True),
    Column("address", String, primary_key=True),
    Column("code_sha256", LargeBinary(32), nullable=False),
    Column("expires_at", Moment, nullable=False),  # the code
    Column("sent", Integer, nullable=False),  # codes that were made for it
    Column(
        "wrong", Integer, nullable=False
    ),  # codes that were told and were none, since the last one was made
    Column("proved_at", Moment, nullable=True),
)
"""What proves that a requester reads the mail of each address of a request."""

REQUEST_APPROVALS: Final = Table(
    "request_approvals",
    METADATA,
    Column("request", ForeignKey("requests.id"), primary_key=True),
    Column("approver", String, primary_key=True),
    Column("approved_at", Moment, nullable=False),
)
"""Who approved a request."""
