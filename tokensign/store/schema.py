"""The version of a database's tables, and the way to the newest one, step by step (alembic)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import inspect, text

from tokensign.errors import FileError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

__all__ = ["HEAD", "migrations", "revision_of", "upgrade"]

HEAD: Final = "0004"
"""The newest step in `migrations/versions`; named here, so that alembic is loaded only where it is needed."""


def revision_of(connection: Connection) -> str | None:
    """The step at which a database is, or None for one without tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def upgrade(connection: Connection, shown: str) -> None:
    """Bring the tables to `HEAD`.

    Args:
        connection: In a transaction, which the caller ends.
        shown: What to call the database in errors.

    Raises:
        FileError: A newer version of tokensign has changed them.
    """
    from alembic import command  # noqa: PLC0415 - as said at HEAD
    from alembic.util import CommandError  # noqa: PLC0415

    configuration = migrations()
    configuration.attributes["connection"] = connection
    try:
        command.upgrade(configuration, HEAD)
    except CommandError as error:
        raise FileError(
            f"the database {shown} was written by a newer version of tokensign",
            hint="use that version, or another file",
        ) from error


def migrations() -> Config:
    """Where alembic finds the steps."""
    from alembic.config import Config  # noqa: PLC0415 - as said at HEAD

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    configuration.set_main_option("path_separator", "os")
    return configuration
