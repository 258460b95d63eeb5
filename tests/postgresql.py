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
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["new_database", "postgresql_server"]

_START_SECONDS = 60.0  # on a busy machine
_UNPRIVILEGED = "postgres"  # PostgreSQL refuses to run as root; its package makes this user


def _program(name: str) -> str | None:
    """A program of PostgreSQL; Debian keeps them out of PATH."""
    places = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), reverse=True)
    return shutil.which(name) or next(iter(places), None)


@contextlib.contextmanager
def postgresql_server() -> Iterator[str]:
    """A server as long as the block lasts; the URL of its first database.

    The test is skipped where PostgreSQL or psycopg is not installed.
    """
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    initdb, server = _program("initdb"), _program("postgres")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL is not installed")
    user = _UNPRIVILEGED if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short, because a socket's path has 107 letters
    try:
        if user is not None:
            shutil.chown(folder, user, user)
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        subprocess.run(
            [initdb, "-D", folder / "data", "-U", "tokensign", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, capture_output=True, user=user, group=user, env=environment, cwd=folder,
        )  # fmt: skip
        process = subprocess.Popen(
            [server, "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, group=user, env=environment,
            cwd=folder,
        )  # fmt: skip
        try:
            url = f"postgresql+psycopg://tokensign@/postgres?host={folder}"
            _await(url)
            yield url
        finally:
            process.send_signal(signal.SIGQUIT)  # at once; nobody needs the data any more
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    finally:
        shutil.rmtree(folder)


def new_database(url: str, name: str) -> str:
    """Make an empty database on a server; its URL."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
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
