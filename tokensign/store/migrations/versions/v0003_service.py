"""The signing service: its audit tree, running operations, and who may do what."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

__all__ = ["down_revision", "revision", "upgrade"]

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables."""
    _audit_tree()
    _operations()
    _principals()
    _grants()


def _audit_tree() -> None:
    op.create_table(
        "audit_leaves",
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit_leaves"),
    )
    op.create_table(
        "audit_subtrees",
        sa.Column("level", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("level", "number", name="pk_audit_subtrees"),
    )
    end = op.create_table(
        "audit_end",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("origin", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("frontier", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_end"),
        sa.CheckConstraint("id = 1", name="one_row"),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("size", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("signed_at", sa.BigInteger, nullable=False),
        sa.Column("message", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("size", name="pk_audit_checkpoints"),
    )
    origin = f"tokensign/{secrets.token_hex(16)}"  # no other tree has it
    op.bulk_insert(end, [{"id": 1, "origin": origin, "size": 0, "frontier": b""}])


def _operations() -> None:
    op.create_table(
        "operations",
        sa.Column("intent", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("process", sa.String(32), nullable=False),
        sa.Column("principal", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.String(255), nullable=True),
        sa.Column("body_sha256", sa.LargeBinary(32), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("begun_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Integer, nullable=True),
        sa.Column("answer", sa.LargeBinary, nullable=True),
        sa.PrimaryKeyConstraint("intent", name="pk_operations"),
        sa.CheckConstraint("state IN ('begun', 'finished', 'failed')", name="state"),
    )
    op.create_index("ix_operations_state", "operations", ["state", "begun_at"])
    op.create_index(
        "uq_operations_idempotency_key", "operations", ["principal", "idempotency_key"], unique=True
    )
    op.create_table(
        "service_processes",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("alive_until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_service_processes"),
    )


def _principals() -> None:
    permissions = op.create_table(
        "permissions",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_permissions"),
        sa.CheckConstraint("id = 1", name="one_row"),
    )
    op.bulk_insert(permissions, [{"id": 1, "version": 0}])
    op.create_table(
        "identities",
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("value", sa.String, nullable=False),
        sa.Column("principal", sa.String(255), nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", "value", name="pk_identities"),
        sa.CheckConstraint("kind IN ('uri', 'spki', 'subject')", name="kind"),
    )
    op.create_index("ix_identities_principal", "identities", ["principal"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("principal", sa.String(255), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("operations", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
    )
    op.create_index("ix_api_keys_principal", "api_keys", ["principal"])


def _grants() -> None:
    op.create_table(
        "grants",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("principal", sa.String(255), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("operations", sa.Text, nullable=False),
        sa.Column("schemes", sa.Text, nullable=False),
        sa.Column("rate", sa.String(32), nullable=True),
        sa.Column("not_before", sa.BigInteger, nullable=True),
        sa.Column("not_after", sa.BigInteger, nullable=True),
        sa.Column("hours", sa.String(64), nullable=True),
        sa.Column("granted_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_grants"),
    )
    op.create_index("ix_grants_principal", "grants", ["principal"])
    op.create_table(
        "rate_limits",
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("rate", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_rate_limits"),
        sa.CheckConstraint("kind IN ('principal', 'key')", name="kind"),
    )
