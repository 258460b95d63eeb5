"""A change of who is known or of what they may do: in the audit log, and with a new version of the tables."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import update

from tokensign.audit.changes import record_change
from tokensign.store.service_tables import PERMISSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy import Connection

    from tokensign.store import Store

__all__ = ["changing"]


@contextlib.contextmanager
def changing(
    store: Store, action: str, details: Mapping[str, Any]
) -> Iterator[tuple[Connection, dict[str, Any]]]:
    """A transaction for a change, which is recorded at its end.

    Args:
        store: The database.
        action: What is done, in two or three words.
        details: About what: values that JSON has, no secret. The block may add to the copy that it gets.

    Raises:
        FileError: The database fails, and nothing has changed.
    """
    with store.writing() as connection:
        told = dict(details)
        yield connection, told
        connection.execute(update(PERMISSIONS).values(version=PERMISSIONS.c.version + 1))
        record_change(connection, action, told)
