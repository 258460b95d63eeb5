"""The database: private, up to date, and shared by processes."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, select, text

from tokensign.errors import ConfigurationError, FileError
from tokensign.store import Store, audit_tables, service_tables
from tokensign.store.schema import HEAD, migrations
from tokensign.store.tables import CONTACTS

if TYPE_CHECKING:
    from pathlib import Path

MOMENT = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)


def addresses(store: Store) -> list[str]:
    with store.reading() as connection:
        return list(connection.scalars(select(CONTACTS.c.address).order_by(CONTACTS.c.address)))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "data" / "contacts.sqlite"


def test_a_new_database_and_its_folder_are_private(place: Path) -> None:
    with Store(place) as store, store.writing() as connection:
        connection.execute(insert(CONTACTS).values(address="bob@acme.example"))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in place.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "contacts.sqlite-wal" in modes
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


def test_what_is_written_is_there_when_it_is_opened_again(place: Path) -> None:
    with Store(place) as store, store.writing() as connection:
        connection.execute(insert(CONTACTS).values(address="bob@acme.example", capabilities_at=MOMENT))
    with Store(place) as store, store.reading() as connection:
        assert connection.execute(select(CONTACTS.c.capabilities_at)).scalar_one() == MOMENT


def test_a_transaction_that_raises_leaves_nothing(place: Path) -> None:
    def fail() -> None:
        with store.writing() as connection:
            connection.execute(insert(CONTACTS).values(address="bob@acme.example"))
            raise RuntimeError

    with Store(place) as store:
        with pytest.raises(RuntimeError):
            fail()
        assert addresses(store) == []


def test_the_steps_lead_to_the_declared_tables(place: Path) -> None:
    assert ScriptDirectory.from_config(migrations()).get_heads() == [HEAD]
    with Store(place) as store, store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        for module in (audit_tables, service_tables):  # which share it with `tables`
            assert compare_metadata(context, module.METADATA) == []
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"


def test_a_database_of_a_newer_version_is_refused_and_stays_as_it_is(place: Path) -> None:
    Store(place).close()
    with sqlite3.connect(place) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(FileError, match="written by a newer version") as raised:
        Store(place)
    assert raised.value.hint == "use that version, or another file"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "hello"
    file.write_text("hello" * 1000)
    with pytest.raises(FileError, match="cannot be used: file is not a database"):
        Store(file)
    assert file.read_text() == "hello" * 1000


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be opened"):
        Store(tmp_path / "file" / "contacts.sqlite")


@pytest.mark.parametrize("url", ["nothing://", "postgresql+nothing://user:secret@host/db", "://"])
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the database") as raised:
        Store(url)
    assert "secret" not in raised.value.message


def test_threads_wait_for_one_another(place: Path) -> None:
    with Store(place) as store:

        def write(number: int) -> None:
            for step in range(10):
                with store.writing() as connection:
                    connection.execute(insert(CONTACTS).values(address=f"{number}.{step}@acme.example"))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(addresses(store)) == 40


def test_processes_that_make_and_fill_one_database_at_once_lose_nothing(place: Path) -> None:
    program = (
        "import sys\n"
        "from sqlalchemy import insert\n"
        "from tokensign.store import Store\n"
        "from tokensign.store.tables import CONTACTS\n"
        "sys.stdin.read()\n"  # so that all begin together
        "with Store(sys.argv[1]) as store:\n"
        "    for step in range(10):\n"
        "        with store.writing() as connection:\n"
        "            connection.execute(insert(CONTACTS).values(address=f'{sys.argv[2]}.{step}'))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(place), str(number)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(3)
    ]
    try:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        errors = [process.communicate(timeout=60)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert errors == [b"", b"", b""]
    with Store(place) as store:
        assert len(addresses(store)) == 30
