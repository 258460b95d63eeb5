"""The tables of the signing service. A change here needs a step in `migrations/versions`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from tokensign.store.tables import METADATA, Moment

__all__ = [
    "API_KEYS",
    "GRANTS",
    "IDENTITIES",
    "JOBS",
    "JOB_ITEMS",
    "OPERATIONS",
    "PERMISSIONS",
    "RATE_LIMITS",
    "SERVICE_PROCESSES",
]

OPERATIONS: Final = Table(
    "operations",
    METADATA,
    Column("intent", BigInteger, primary_key=True, autoincrement=False),  # the number of its leaf
    Column("process", String(32), nullable=False),
    Column("principal", Text, nullable=False),
    Column("idempotency_key", String(255), nullable=True),
    Column("body_sha256", LargeBinary(32), nullable=True),
    Column("state", String(16), nullable=False),
    Column("begun_at", Moment, nullable=False),
    Column("status", Integer, nullable=True),  # of the answer; both from `finished` on
    Column("answer", LargeBinary, nullable=True),
    CheckConstraint("state IN ('begun', 'finished', 'failed')", name="state"),
    Index("ix_operations_state", "state", "begun_at"),
    Index("uq_operations_idempotency_key", "principal", "idempotency_key", unique=True),
)
"""Operations of the signing service that run, and answers that are remembered for an Idempotency-Key."""

SERVICE_PROCESSES: Final = Table(
    "service_processes",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("alive_until", Moment, nullable=False),  # what it has begun and not finished then, it never will
)
"""The processes of the signing service that serve from this database."""

PERMISSIONS: Final = Table(
    "permissions",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1
    Column("version", BigInteger, nullable=False),  # of the four tables below; each change raises it
    CheckConstraint("id = 1", name="one_row"),
)
"""Tells processes that who may what has changed."""

IDENTITIES: Final = Table(
    "identities",
    METADATA,
    Column("kind", String(8), primary_key=True),
    Column("value", String, primary_key=True),
    Column("principal", String(255), nullable=False, index=True),
    Column("added_at", Moment, nullable=False),
    CheckConstraint("kind IN ('uri', 'spki', 'subject')", name="kind"),
)
"""By what principals are known: a URI or a key in a client certificate, or the subject of a token."""

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("principal", String(255), nullable=False, index=True),
    Column("sha256", LargeBinary(32), nullable=False),  # of its secret part
    Column("operations", Text, nullable=False),  # separated by blanks; empty: all that are granted
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("revoked_at", Moment, nullable=True),
)
"""API keys. None is deleted, so that the audit log can be understood."""

GRANTS: Final = Table(
    "grants",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("principal", String(255), nullable=False, index=True),
    Column("key", String(255), nullable=False),  # LANE/LABEL, LANE/* or *
    Column("operations", Text, nullable=False),  # separated by blanks, as all lists here
    Column("schemes", Text, nullable=False),  # empty: all
    Column("rate", String(32), nullable=True),  # such as 100/m
    Column("not_before", Moment, nullable=True),
    Column("not_after", Moment, nullable=True),
    Column("hours", String(64), nullable=True),  # such as mon-fri 08:00-18:00, in UTC
    Column("granted_at", Moment, nullable=False),
    Column("revoked_at", Moment, nullable=True),
)
"""Who may do what with which key. Nothing is allowed that no grant allows; none is deleted."""

RATE_LIMITS: Final = Table(
    "rate_limits",
    METADATA,
    Column("kind", String(16), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("rate", String(32), nullable=False),
    CheckConstraint("kind IN ('principal', 'key')", name="kind"),
)
"""Rates over all grants of a principal, or all principals of a key."""

_WAITING: Final = text("signature IS NULL AND reason IS NULL")

JOBS: Final = Table(
    "jobs",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("principal", String(255), nullable=False),
    Column("principal_kind", String(16), nullable=False),
    Column("key", String(255), nullable=False),
    Column("lane", String(255), nullable=False),
    Column("scheme", String(64), nullable=False),
    Column("form", String(8), nullable=False),
    Column("items", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=True),  # of a job that failed
    Column("created_at", Moment, nullable=False),
    Column("finished_at", Moment, nullable=True),
    Column("worker", String(32), nullable=True),  # who works on it,
    Column("worker_until", Moment, nullable=True),  # and until when nobody else does
    CheckConstraint("state IN ('waiting', 'done', 'failed')", name="state"),
    Index("ix_jobs_lane", "lane", "state", "created_at"),
)
"""Batches of digests that the signing service signs when it can."""

JOB_ITEMS: Final = Table(
    "job_items",
    METADATA,
    Column("job", ForeignKey("jobs.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("digest", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=True),
    Column("reason", String(64), nullable=True),  # why there will be none
    Index("ix_job_items_waiting", "job", "position", sqlite_where=_WAITING, postgresql_where=_WAITING),
)
"""The digests of a job. One that has neither a signature nor a reason waits."""
