"""CAs in each kind of database."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from certificate_authorities import URL, People, private_key
from registrations import CA_KEY
from software_signer import SoftwareSigner

from tokensign.authority import create_authority, load_profile
from tokensign.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def new_people() -> Callable[..., People]:
    """Make the two CAs in a database."""

    def make(store: Store, **details: Any) -> People:  # noqa: ANN401 - those of `create_authority`
        signer, root_signer = (
            SoftwareSigner(private_key("ec:p256", 1)),
            SoftwareSigner(private_key("ec:p384")),
        )
        root = create_authority(
            store, "root", root_signer, "CN=Acme Root,O=Acme,C=CH", profile=load_profile("root-ca")
        )
        authority = create_authority(
            store,
            "people",
            signer,
            "CN=Acme People,O=Acme,C=CH",
            profile=load_profile("smime-subordinate-ca"),
            parent=(root, root_signer),
            **({"url": URL} | details),
        )
        return People(authority, signer, root, root_signer)

    return make


@pytest.fixture
def people(place: str, new_people: Callable[..., People]) -> Iterator[People]:
    """The two CAs, in a database of each kind."""
    with Store(place) as store:
        yield new_people(store)


@pytest.fixture
def local_people(local_place: Path, new_people: Callable[..., People]) -> Iterator[People]:
    """The two CAs, in SQLite only, where the database makes no difference."""
    with Store(local_place) as store:
        yield new_people(store)


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the CA "acme", to be copied."""
    place = tmp_path_factory.mktemp("ca") / "ca.sqlite"
    with Store(place) as store:
        create_authority(store, "acme", CA_KEY, "CN=Acme CA,O=Acme,C=CH", profile=load_profile("root-ca"))
    return place


@pytest.fixture
def store(tmp_path: Path, furnished: Path) -> Iterator[Store]:
    """In SQLite only, where the database makes no difference."""
    with Store(shutil.copy(furnished, tmp_path / "ca.sqlite")) as opened:
        yield opened


@pytest.fixture
def each_store(place: str) -> Iterator[Store]:
    """In each kind of database."""
    with Store(place) as opened:
        create_authority(opened, "acme", CA_KEY, "CN=Acme CA,O=Acme,C=CH", profile=load_profile("root-ca"))
        yield opened
