"""The tables of all databases of tokensign. A change here needs a step in `migrations/versions`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
)

if TYPE_CHECKING:
    from sqlalchemy import Dialect

__all__ = ["CONTACTS", "CONTACT_CERTIFICATES", "ISSUERS", "METADATA", "Moment"]

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
