"""A PostgreSQL of the tests' own: its data in a temporary folder, reached through a socket in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PostgresqlServer", "controlled_postgresql", "new_database", "postgresql_server"]

_START_SECONDS = 60.0  # on a busy machine
_UNPRIVILEGED = "postgres"  # PostgreSQL refuses to run as root; its package makes this user


def _program(name: str) -> str | None:
    """A program of PostgreSQL; Debian keeps them out of PATH."""
    places = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), reverse=True)
    return shutil.which(name) or next(iter(places), None)


class PostgresqlServer:
    """A server whose data lie in a folder.

    Args:
        program: The server's.
        folder: Has `data`, and gets the socket.
        user: As whom it runs; None: as this process.

    Attributes:
        url: Of its first database.
    """

    def __init__(self, program: str, folder: Path, user: str | None) -> None:
        self._command = [
            program, "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"
        ]  # fmt: skip
        self._options: dict[str, Any] = {"user": user, "group": user, "cwd": folder}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql+psycopg://tokensign@/postgres?host={folder}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            **self._options,
        )
        _await(self.url)

    def stop(self) -> None:
        """End it at once; what was committed stays."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@contextlib.contextmanager
def postgresql_server() -> Iterator[str]:
    """A server as long as the block lasts; the URL of its first database.

    The test is skipped where PostgreSQL or psycopg is not installed.
    """
    with controlled_postgresql() as server:
        yield server.url


@contextlib.contextmanager
def controlled_postgresql() -> Iterator[PostgresqlServer]:
    """A server that runs, and that the block may stop and start."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    initdb, program = _program("initdb"), _program("postgres")
    if initdb is None or program is None:
        pytest.skip("PostgreSQL is not installed")
    user = _UNPRIVILEGED if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short, because a socket's path has 107 letters
    try:
        if user is not None:
            shutil.chown(folder, user, user)
        subprocess.run(
            [initdb, "-D", folder / "data", "-U", "tokensign", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, capture_output=True, user=user, group=user, env=_environment(), cwd=folder,
        )  # fmt: skip
        server = PostgresqlServer(program, folder, user)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}


def new_database(url: str, name: str, *, template: str = "template1") -> str:
    """Make a database on a server, a copy of another one that nobody uses; its URL."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    engine.dispose()
    return url.replace("/postgres?", f"/{name}?")


def _await(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    engine = create_engine(url)
    while True:
        try:
            engine.connect().close()
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            engine.dispose()
            return
