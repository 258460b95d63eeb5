"""Journals of tests, and what they recorded."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from tokensign.audit.leaves import decode_leaf
from tokensign.audit.log import reading_tree
from tokensign.service.journal import Begun, Journal
from tokensign.service.principals import Principal
from tokensign.service.processes import LEASE_SECONDS
from tokensign.store.service_tables import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tokensign.store import Store

__all__ = [
    "ALICE",
    "BOB",
    "OTHER_REQUEST",
    "REQUEST",
    "begin",
    "entries",
    "full_disk",
    "outcomes",
    "rows",
    "running",
    "until",
]

ALICE, BOB = Principal("alice", "certificate"), Principal("bob", "api-key")
REQUEST, OTHER_REQUEST = bytes(32), bytes([1]) * 32


@asynccontextmanager
async def running(store: Store, *, lease_seconds: float = LEASE_SECONDS) -> AsyncIterator[Journal]:
    journal = Journal(store, lease_seconds=lease_seconds)
    await journal.start()
    try:
        yield journal
    finally:
        await journal.stop()


async def begin(journal: Journal, key: str | None = None, request: bytes = REQUEST) -> Begun:
    begun = await journal.begin(ALICE, "sign", "acme/alice", {"digests": ["00"]}, key, request)
    assert isinstance(begun, Begun)
    return begun


async def until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so, or the time is over."""
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:  # noqa: ASYNC110 - what is looked at tells nobody
        await asyncio.sleep(0.02)


def entries(store: Store) -> list[dict[str, Any]]:
    with reading_tree(store) as tree:
        return [decode_leaf(leaf) for _, leaf in tree.all_leaves()]


def outcomes(store: Store) -> list[Any]:
    return [(one["intent"], one["outcome"]) for one in entries(store) if one["kind"] == "outcome"]


def rows(store: Store) -> int:
    with store.reading() as connection:
        return len(connection.execute(select(OPERATIONS)).all())


@contextmanager
def full_disk(store: Store) -> Iterator[None]:
    """No file of this process can grow: its writes to the database fail as on a full disk."""
    size = max(os.stat(f"{store.place}{suffix}").st_size for suffix in ("", "-wal"))  # noqa: PTH116 - a text
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(size, 4096), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
