"""A CA that is trusted and one that is not, what Bob signs, and an empty store of contacts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from correspondents import Authority, Mail

from tokensign.contacts import ContactStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority("Acme CA")


@pytest.fixture(scope="session")
def other_authority() -> Authority:
    """One that nobody here trusts."""
    return Authority("Other CA")


@pytest.fixture(scope="session")
def mail(authority: Authority) -> Mail:
    return Mail(authority)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContactStore]:
    with ContactStore(tmp_path / "contacts.sqlite") as opened:
        yield opened
