"""Certificate authorities: what they issued and revoked, their CRLs, and the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["down_revision", "revision", "upgrade"]

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "authorities",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("key_uri", sa.Text, nullable=True),
        sa.Column("url", sa.Text, nullable=True),
        sa.Column("partitions", sa.Integer, nullable=False),
        sa.Column("crl_number", sa.BigInteger, nullable=False),
        sa.Column("successor", sa.String(64), nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_authorities"),
    )
    _issued_certificates()
    _requests()
    op.create_table(
        "revocation_lists",
        sa.Column("authority", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("partition", sa.Integer, nullable=True),
        sa.Column("base_number", sa.BigInteger, nullable=True),
        sa.Column("this_update", sa.BigInteger, nullable=False),
        sa.Column("next_update", sa.BigInteger, nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("authority", "number", name="pk_revocation_lists"),
        sa.ForeignKeyConstraint(["authority"], ["authorities.name"], name="fk_revocation_lists_authority"),
    )


def _issued_certificates() -> None:
    op.create_table(
        "issued_certificates",
        sa.Column("authority", sa.String(64), nullable=False),
        sa.Column("serial", sa.String(40), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("profile", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("emails", sa.Text, nullable=False),
        sa.Column("key_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("not_before", sa.BigInteger, nullable=False),
        sa.Column("not_after", sa.BigInteger, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("request_id", sa.String(128), nullable=True),
        sa.Column("replaces", sa.String(40), nullable=True),
        sa.Column("reserved_at", sa.BigInteger, nullable=False),
        sa.Column("issued_at", sa.BigInteger, nullable=True),
        sa.Column("der", sa.LargeBinary, nullable=True),
        sa.Column("revoked_at", sa.BigInteger, nullable=True),
        sa.Column("reason", sa.String(32), nullable=True),
        sa.Column("held", sa.Boolean(create_constraint=False), nullable=False),
        sa.Column("changed_crl_number", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("authority", "serial", name="pk_issued_certificates"),
        sa.ForeignKeyConstraint(["authority"], ["authorities.name"], name="fk_issued_certificates_authority"),
        sa.CheckConstraint("state IN ('reserved', 'issued', 'abandoned')", name="state"),
    )
    op.create_index("ix_issued_certificates_expiry", "issued_certificates", ["authority", "not_after"])
    op.create_index(
        "ix_issued_certificates_changed", "issued_certificates", ["authority", "changed_crl_number"]
    )
    op.create_index("ix_issued_certificates_key", "issued_certificates", ["key_sha256"])
    open_request = sa.text("request_id IS NOT NULL AND state <> 'abandoned'")
    op.create_index(
        "uq_issued_certificates_request_id",
        "issued_certificates",
        ["request_id"],
        unique=True,
        sqlite_where=open_request,
        postgresql_where=open_request,
    )


def _requests() -> None:
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("authority", sa.String(64), nullable=False),
        sa.Column("profile", sa.String(64), nullable=False),
        sa.Column("csr", sa.LargeBinary, nullable=False),
        sa.Column("csr_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("requester", sa.Text, nullable=False),
        sa.Column("submitter", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("approvals_needed", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("submitted_at", sa.BigInteger, nullable=False),
        sa.Column("decided_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_requests"),
        sa.ForeignKeyConstraint(["authority"], ["authorities.name"], name="fk_requests_authority"),
        sa.CheckConstraint(
            "state IN ('unproved', 'waiting', 'approved', 'issuing', 'issued', 'rejected')", name="state"
        ),
    )
    op.create_index("ix_requests_csr_sha256", "requests", ["csr_sha256"])
    op.create_table(
        "mailbox_proofs",
        sa.Column("request", sa.Integer, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("code_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("sent", sa.Integer, nullable=False),
        sa.Column("wrong", sa.Integer, nullable=False),
        sa.Column("proved_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("request", "address", name="pk_mailbox_proofs"),
        sa.ForeignKeyConstraint(["request"], ["requests.id"], name="fk_mailbox_proofs_request"),
    )
    op.create_table(
        "request_approvals",
        sa.Column("request", sa.Integer, nullable=False),
        sa.Column("approver", sa.String, nullable=False),
        sa.Column("approved_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("request", "approver", name="pk_request_approvals"),
        sa.ForeignKeyConstraint(["request"], ["requests.id"], name="fk_request_approvals_request"),
    )
