"""Which mail is with whom: what keeps a mail that comes again from going on twice.

Whoever delivers to the gateway sends a mail again when it got no answer, and cannot know whether the next hop
has it already (RFC 1047). So each pair of mail and recipient has an entry:

    claimed   a process works on it; the next hop cannot have it yet
    closing   the end of its content is sent, or about to be; the next hop may have it
    unknown   the next hop may have it, and nobody works on it
    doubtful  a process works on it, and the next hop may have it from an earlier time
    accepted  the next hop has it

A claim belongs to a process, which holds a lock as long as it lives; the claim of a dead process is void.
What a dead process had in `closing` may be with the next hop or not: it is sent again, because a mail twice
is better than none.

The key of an entry is an HMAC over sender, recipient and content as received, with a secret of this journal:
so the entries, and the field Tokensign-Delivery that is made of such a key, tell nobody what is in an
encrypted mail.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import sqlite3
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from tokensign.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Claim", "Journal", "Owner"]

KEPT: Final = 30 * 24 * 3600.0
"""Seconds for which it is remembered that a mail was accepted; mail servers give up after five days."""

_SWEPT: Final = 24 * 3600.0  # seconds after which what is old is forgotten
_FRESH: Final = 3600.0  # seconds for which a lock that nobody holds is left alone
_BUSY_TIMEOUT: Final = 30.0  # seconds for which one process waits for another's write
_SECRET_SIZE: Final = 32
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS entry (key TEXT PRIMARY KEY, state TEXT NOT NULL, owner TEXT NOT NULL,"
    " changed REAL NOT NULL) WITHOUT ROWID"
)


class Claim(StrEnum):
    """What came of an attempt to claim a mail for a recipient."""

    NEW = "new"  # it is the caller's now
    DOUBTFUL = "doubtful"  # likewise, and the next hop may have it already
    BUSY = "busy"  # another process works on it
    ACCEPTED = "accepted"  # the next hop has it


class Owner:
    """A process that may have claims, as long as it holds its lock.

    Args:
        folder: The folder of the journal.
        name: Its name; None makes a new one.
        descriptor: The lock, if it was inherited.
    """

    def __init__(self, folder: Path, name: str | None = None, descriptor: int | None = None) -> None:
        self.name = name or secrets.token_hex(8)
        self.path = _lock_path(folder, self.name)
        self.descriptor = (
            os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600) if descriptor is None else descriptor
        )
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)  # another one's look at it is short

    def close(self) -> None:
        """Close this process's hold on the lock; it is free when no process has it."""
        os.close(self.descriptor)


class Journal:
    """The journal of a gateway; every change is on the disk when the method returns.

    Args:
        folder: Where it is, a private folder, which is made if need be.

    Raises:
        FileError: It cannot be opened, or is open to others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._next_sweep = 0.0  # a time of the monotonic clock
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if folder.stat().st_mode & 0o077:
                raise FileError(
                    f"the folder {folder} of the gateway is open to others", hint=f"chmod 700 {folder}"
                )
            self._secret = _secret(folder / "secret")
            with self._connected() as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise FileError(f"the gateway cannot keep its journal in {folder}: {error}") from error

    def mail(self, sender: str, content_digest: bytes) -> str:
        """What names a mail in the journal and in logs, in hexadecimal.

        Args:
            sender: The sender of the envelope.
            content_digest: SHA-256 of the content as received.
        """
        return self._hash(b"mail", sender.encode(), content_digest)

    def key(self, mail: str, recipient: str) -> str:
        """The key of a mail for a recipient."""
        return self._hash(b"entry", mail.encode(), recipient.encode())

    def claim(self, keys: Iterable[str], owner: str) -> dict[str, Claim]:
        """Claim mails for recipients, as far as they are free.

        Args:
            keys: The keys.
            owner: For whom: the name of a living `Owner`.
        """
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEPT
            self.sweep()
        found: dict[str, Claim] = {}
        with self._connected() as database, database:
            database.execute("BEGIN IMMEDIATE")
            for key in keys:
                row = database.execute("SELECT state, owner FROM entry WHERE key = ?", (key,)).fetchone()
                found[key] = self._judged(*row) if row else Claim.NEW
                if found[key] in (Claim.NEW, Claim.DOUBTFUL):
                    _put(database, key, "claimed" if found[key] is Claim.NEW else "doubtful", owner)
        return found

    def _judged(self, state: str, owner: str) -> Claim:
        if state == "accepted":
            return Claim.ACCEPTED
        if state == "unknown":
            return Claim.DOUBTFUL
        if self._lives(owner):
            return Claim.BUSY
        return Claim.NEW if state == "claimed" else Claim.DOUBTFUL

    def closing(self, keys: Iterable[str], owner: str) -> None:
        """The end of the content is about to be sent."""
        self._put_all(keys, "closing", owner)

    def unknown(self, keys: Iterable[str]) -> None:
        """The connection broke after the end of the content."""
        self._put_all(keys, "unknown", "")

    def accepted(self, keys: Iterable[str]) -> None:
        """The next hop has it."""
        self._put_all(keys, "accepted", "")

    def abandon(self, keys: Iterable[str], owner: str) -> None:
        """Give claims up, as far as they are no more than that; what was in doubt stays so, and is free."""
        given_up = [(key, owner) for key in keys]
        with self._connected() as database, database:
            database.executemany(
                "DELETE FROM entry WHERE key = ? AND owner = ? AND state = 'claimed'", given_up
            )
            database.executemany(
                "UPDATE entry SET state = 'unknown', owner = ''"
                " WHERE key = ? AND owner = ? AND state = 'doubtful'",
                given_up,
            )

    def release(self, keys: Iterable[str]) -> None:
        """The next hop has it not, and nobody works on it."""
        with self._connected() as database, database:
            database.executemany("DELETE FROM entry WHERE key = ?", [(key,) for key in keys])

    def sweep(self) -> None:
        """Forget what is old, and the locks of the dead, but for fresh ones, which may not be taken yet."""
        with self._connected() as database, database:
            database.execute("DELETE FROM entry WHERE changed < ?", (time.time() - KEPT,))
        for lock in self.folder.glob("*.lock"):
            with contextlib.suppress(FileNotFoundError):
                if lock.stat().st_mtime < time.time() - _FRESH and not self._lives(lock.stem):
                    lock.unlink()

    def _lives(self, owner: str) -> bool:
        try:
            descriptor = os.open(_lock_path(self.folder, owner), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _put_all(self, keys: Iterable[str], state: str, owner: str) -> None:
        with self._connected() as database, database:
            for key in keys:
                _put(database, key, state, owner)

    def _hash(self, *parts: bytes) -> str:
        joined = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._secret, joined, hashlib.sha256).hex()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.folder / "journal.sqlite", timeout=_BUSY_TIMEOUT)
        try:
            connection.execute("PRAGMA synchronous = FULL")  # what is written is on the disk, with WAL too
            yield connection
        finally:
            connection.close()


def _put(database: sqlite3.Connection, key: str, state: str, owner: str) -> None:
    database.execute("REPLACE INTO entry VALUES (?, ?, ?, ?)", (key, state, owner, time.time()))


def _lock_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"


def _secret(path: Path) -> bytes:
    """The secret of the journal, made the first time, and on the disk before it is used.

    Raises:
        FileError: It is damaged.
    """
    if not path.exists():
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(secrets.token_bytes(_SECRET_SIZE))
                file.flush()
                os.fsync(descriptor)
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(fresh)
        finally:
            fresh.unlink()
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    secret = path.read_bytes()
    if len(secret) != _SECRET_SIZE:
        raise FileError(
            f"{path} is damaged: it has {len(secret)} bytes, not {_SECRET_SIZE}",
            hint="remove it; mail that comes again then goes on again",
        )
    return secret
