"""Opening a database, and its transactions."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy import URL, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from tokensign.errors import ConfigurationError, FileError
from tokensign.extras import extra
from tokensign.store.schema import HEAD, revision_of, upgrade

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine.interfaces import IsolationLevel

__all__ = ["BUSY_SECONDS", "Store"]

BUSY_SECONDS: Final = 30  # that a process waits for others; their transactions take milliseconds each
_UPGRADE_LOCK: Final = 0x746F6B656E736967  # "tokensig"; others do not lock it by chance


class Store:
    """A database with the tables of `tokensign.store.tables`, for any number of threads and processes.

    SQLite runs in WAL mode, so that readers do not wait for writers. A new database file is readable by its
    owner only (0600), and so is a folder that is made for it (0700). A process that forks opens its own.

    Args:
        place: A file for SQLite, made when it is not there; or the URL of a database, as SQLAlchemy has it.

    Raises:
        FileError: It cannot be opened, or a newer version of tokensign has changed its tables.
        ConfigurationError: The URL cannot be understood.
    """

    def __init__(self, place: Path | str) -> None:
        self.place = str(place)
        url = _url(self.place)
        if url.get_backend_name() == "sqlite" and url.database:
            _make_private(Path(url.database))
        try:
            self._engine = _engine(url)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise ConfigurationError(f"the database {self._shown} cannot be used: {error}") from error
        try:
            self._bring_up_to_date()
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads; it sees one state of the database.

        Raises:
            FileError: The database fails.
        """
        with self._transaction("REPEATABLE READ", "BEGIN") as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that reads and writes; it is undone where the block raises.

        On SQLite it is alone. On PostgreSQL others write at the same time, and the caller locks what must not
        change in between (SELECT ... FOR UPDATE). What it reads after that is as they left it, which READ
        COMMITTED promises, and the stricter levels do not.

        Raises:
            FileError: The database fails, or another process held it for longer than BUSY_SECONDS.
        """
        with self._transaction("READ COMMITTED", "BEGIN IMMEDIATE") as connection:
            yield connection

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self, level: IsolationLevel, begin: str) -> Iterator[Connection]:
        """A transaction of an isolation level on PostgreSQL; on SQLite, of the statement that begins it."""
        with self._errors(), self._engine.connect() as connection:
            if self._is_postgresql:
                connection.execution_options(isolation_level=level)
            with connection.begin():
                if not self._is_postgresql:  # a writer that has read before is refused without waiting
                    connection.exec_driver_sql(begin)
                yield connection

    def _bring_up_to_date(self) -> None:
        with self.reading() as connection:
            current = revision_of(connection)
        if current != HEAD:  # then look again, alone
            with self.writing() as connection:
                if self._is_postgresql:  # which has several writers
                    connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
                upgrade(connection, self._shown)

    @property
    def _is_postgresql(self) -> bool:
        return self._engine.dialect.name == "postgresql"

    @property
    def _shown(self) -> str:
        """What to call it in errors, without a password and options."""
        return _url(self.place).set(query={}).render_as_string() if "://" in self.place else self.place

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise FileError(
                f"the database {self._shown} cannot be used: {' '.join(str(error.orig).split())}",
                hint="see whether it is there, can be written, and is not kept busy by another process",
            ) from error


def _url(place: str) -> URL:
    if "://" not in place:
        return URL.create("sqlite", database=place)
    try:
        return make_url(place)
    except ArgumentError as error:
        raise ConfigurationError("the URL of the database cannot be understood") from error


def _make_private(file: Path) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise FileError(f"the database {file} cannot be opened: {error.strerror or error}") from error


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        with extra("postgresql"):
            return create_engine(url, pool_pre_ping=True)  # a server that was started again is used again
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, _record: object) -> None:  # noqa: ANN401 - sqlite3's, through SQLAlchemy
    """Leave transactions to `Store`: sqlite3 would begin them late, and not around changed tables."""
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
        connection.execute(f"PRAGMA {pragma}")
