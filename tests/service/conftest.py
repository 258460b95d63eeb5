"""Fixtures of the service: tokens that lanes hold."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from lane_places import TokenPlace, furnish
from service_place import RunningService, ServicePlace, running_service

from tokensign.algorithms import KeyUsage
from tokensign.pki.policy import TrustPolicy
from tokensign.service.grants import OPERATIONS
from tokensign.store import Store
from tokensign.token import Pin, list_certificates, open_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokensign.certificates import Certificate
    from tokensign.token import Module

KEYS = (  # called as their types
    ("rsa:2048", KeyUsage.BOTH),
    ("ec:p256", KeyUsage.BOTH),
    ("ed25519", KeyUsage.SIGN),
)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run in asyncio, as the service does."""
    return "asyncio"


@pytest.fixture(scope="session")
def furnished_token(
    softhsm: Path,
    module: Module,
    new_token: Callable[..., str],
    issue: Callable[..., Certificate],
    user_pin: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> TokenPlace:
    """A token with keys, to be copied; do not use it itself."""
    before = set((softhsm / "tokens").iterdir())
    label = new_token("lane")
    furnish(module, label, user_pin, KEYS, issue)
    (store,) = set((softhsm / "tokens").iterdir()) - before
    folder = tmp_path_factory.mktemp("lane")
    shutil.copytree(store, folder / "tokens" / store.name)
    (folder / "pin").write_text(user_pin)
    return TokenPlace(folder, module.path, label)


@pytest.fixture
def token_place(furnished_token: TokenPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenPlace:
    """A token for one test: `lane`, with the keys `rsa:2048`, `ec:p256` and `ed25519`."""
    place = furnished_token.copy(tmp_path / "place")
    monkeypatch.setenv("SOFTHSM2_CONF", str(place.configuration))  # for the workers; here SoftHSM is loaded
    return place


@pytest.fixture(scope="session")
def signer_certificates(module: Module, furnished_token: TokenPlace, user_pin: str) -> list[Certificate]:
    """The certificates of the keys of `furnished_token`."""
    with open_token(module, furnished_token.label, Pin(user_pin)) as token:
        return [one.certificate for one in list_certificates(token)]


@pytest.fixture(scope="module")
def service(
    furnished_token: TokenPlace,
    signer_certificates: list[Certificate],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningService]:
    """A service over a token with the keys `rsa:2048`, `ec:p256` and `ed25519`.

    Alice may do everything with all of them, Bob sign with `ec:p256`.
    """
    folder = tmp_path_factory.mktemp("service")
    token = furnished_token.copy(folder / "token")
    place = ServicePlace(folder, token, TrustPolicy(tuple(signer_certificates)))
    place.grant("alice", "*", *OPERATIONS)
    place.grant("bob", f"{token.label}/ec=3Ap256", "sign")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(token.configuration))
        with running_service(place, **{"monitor-key": f"{token.label}/ec=3Ap256"}) as running:
            yield running


@pytest.fixture
def store(local_place: Path) -> Iterator[Store]:
    """An empty database, SQLite."""
    with Store(local_place) as store:
        yield store
