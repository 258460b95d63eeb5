"""Logs, and a key that signs checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from certificate_authorities import private_key
from software_signer import SoftwareSigner

from tokensign.audit.leaves import encode_leaf
from tokensign.audit.log import AuditAppender
from tokensign.pki.ca import self_signed
from tokensign.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def store(local_place: Path) -> Iterator[Store]:
    """A database, SQLite, with an empty log."""
    with Store(local_place) as store:
        yield store


@pytest.fixture
def grow() -> Callable[[Store, int], None]:
    """Add pairs of an intent and its outcome to a log."""

    def append(store: Store, pairs: int) -> None:
        with store.writing() as connection:
            appender = AuditAppender(connection)
            for pair in range(pairs):
                number = appender.append(encode_leaf({"kind": "intent", "key": "acme/alice", "pair": pair}))
                appender.append(encode_leaf({"kind": "outcome", "intent": number}))
            appender.flush()

    return append


@pytest.fixture(scope="session")
def new_signer() -> Callable[[str], SoftwareSigner]:
    """A key with a certificate for a name."""

    def make(name: str) -> SoftwareSigner:
        signer = SoftwareSigner(private_key("ec:p256", len(name)))
        signer.certificate = self_signed(signer, f"CN={name}")
        return signer

    return make
