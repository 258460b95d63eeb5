"""Databases of each kind for one test; the tables of each are made once a process, and then copied."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from postgresql import new_database, postgresql_server

from tokensign.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["bare_place", "local_place", "place", "postgresql", "write_empty_database"]

_KINDS = ("sqlite", "postgresql")
_TEMPLATE = "with-tables"


@cache
def _empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "empty.sqlite")
        Store(place).close()
        return place.read_bytes()


def write_empty_database(place: Path) -> Path:
    """Write an SQLite database that has its tables, and nothing in them; its path."""
    place.touch(mode=0o600)
    place.write_bytes(_empty_database())
    return place


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server; the URL of its first database."""
    with postgresql_server() as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_template(postgresql: str) -> str:
    """The name of a database on the server that has its tables, and nothing in them."""
    Store(new_database(postgresql, _TEMPLATE)).close()
    return _TEMPLATE


@pytest.fixture
def local_place(tmp_path: Path) -> Path:
    """An empty database, SQLite, where the kind makes no difference."""
    return write_empty_database(tmp_path / "local.sqlite")


@pytest.fixture(params=_KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind, which has its tables."""
    if request.param == "sqlite":
        return str(write_empty_database(tmp_path / "each.sqlite"))
    template: str = request.getfixturevalue("postgresql_template")
    return new_database(request.getfixturevalue("postgresql"), tmp_path.name, template=template)


@pytest.fixture(params=_KINDS)
def bare_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for a database of each kind, which is still to be made."""
    if request.param == "sqlite":
        return str(tmp_path / "bare.sqlite")
    return new_database(request.getfixturevalue("postgresql"), tmp_path.name)
