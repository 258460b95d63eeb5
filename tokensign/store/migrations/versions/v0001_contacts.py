"""Contacts: addresses, their certificates with those of the issuers, and their capabilities."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["down_revision", "revision", "upgrade"]

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "contacts",
        sa.Column("address", sa.String, nullable=False),
        sa.Column("capabilities", sa.LargeBinary, nullable=True),
        sa.Column("capabilities_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("address", name="pk_contacts"),
    )
    op.create_table(
        "contact_certificates",
        sa.Column("address", sa.String, nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("encrypts", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("stated_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("address", "sha256", name="pk_contact_certificates"),
        sa.ForeignKeyConstraint(
            ["address"], ["contacts.address"], name="fk_contact_certificates_address", ondelete="CASCADE"
        ),
        sa.CheckConstraint("origin IN ('hand', 'mail', 'smimea')", name="origin"),
    )
    op.create_table(
        "issuers",
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("subject", sa.LargeBinary, nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_issuers"),
    )
    op.create_index("ix_issuers_subject", "issuers", ["subject"])
