"""Jobs of the signing service."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["down_revision", "revision", "upgrade"]

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("principal", sa.String(255), nullable=False),
        sa.Column("principal_kind", sa.String(16), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("lane", sa.String(255), nullable=False),
        sa.Column("scheme", sa.String(64), nullable=False),
        sa.Column("form", sa.String(8), nullable=False),
        sa.Column("items", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger, nullable=True),
        sa.Column("worker", sa.String(32), nullable=True),
        sa.Column("worker_until", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.CheckConstraint("state IN ('waiting', 'done', 'failed')", name="state"),
    )
    op.create_index("ix_jobs_lane", "jobs", ["lane", "state", "created_at"])
    op.create_table(
        "job_items",
        sa.Column("job", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=True),
        sa.Column("reason", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("job", "position", name="pk_job_items"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_job_items_job_jobs"),
    )
    waiting = sa.text("signature IS NULL AND reason IS NULL")
    op.create_index(
        "ix_job_items_waiting",
        "job_items",
        ["job", "position"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
