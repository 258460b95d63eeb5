"""The tables of the audit tree. A change here needs a step in `migrations/versions`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, LargeBinary, String, Table

from tokensign.store.tables import METADATA, Moment

__all__ = ["AUDIT_CHECKPOINTS", "AUDIT_END", "AUDIT_LEAVES", "AUDIT_SUBTREES"]

AUDIT_LEAVES: Final = Table(
    "audit_leaves",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # from 0, without gaps
    Column("leaf", LargeBinary, nullable=False),  # canonical JSON (RFC 8785)
)
"""The leaves of the audit tree (RFC 6962 section 2.1). No row is deleted."""

AUDIT_SUBTREES: Final = Table(
    "audit_subtrees",
    METADATA,
    Column("level", Integer, primary_key=True),  # the root of 2**level leaves; a multiple of 8
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # from 0, for each level
    Column("hash", LargeBinary(32), nullable=False),
)
"""Roots of full subtrees, so that a proof need not read all leaves."""

AUDIT_END: Final = Table(
    "audit_end",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),  # 1
    Column("origin", String(255), nullable=False),  # names this tree in its checkpoints
    Column("size", BigInteger, nullable=False),  # leaves
    Column("frontier", LargeBinary, nullable=False),  # hashes of its perfect subtrees, the largest first
    CheckConstraint("id = 1", name="one_row"),
)
"""Where the audit tree goes on. Who appends locks this row."""

AUDIT_CHECKPOINTS: Final = Table(
    "audit_checkpoints",
    METADATA,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("signed_at", Moment, nullable=False),
    Column("message", LargeBinary, nullable=False),  # SignedData over the text of the checkpoint, DER
)
"""What a key on a token says of the audit tree."""
