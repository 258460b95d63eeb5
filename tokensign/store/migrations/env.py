"""What alembic runs the steps with: the caller's connection, in the caller's transaction."""

from __future__ import annotations

from alembic import context

from tokensign.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,  # SQLite changes a table by making another one
)
context.run_migrations()
