"""A SoftHSM for each module of tests, because it is the slower the more tokens and objects it has."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from softhsm_stores import configure_softhsm, key_of_a_type

from tokensign.token import Pin, open_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokensign.token import Module, Token, TokenKey

QUIET = 10.0  # seconds until no call is in the module


@pytest.fixture(scope="module", autouse=True)
def own_softhsm(module: Module, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty one; its folder. The tokens of other tests, which stay open, are back at the end."""
    folder = tmp_path_factory.mktemp("softhsm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(configure_softhsm(folder)))
        with module.gate.exclusive(QUIET):
            module.reinitialize()
        yield folder
    with module.gate.exclusive(QUIET):
        module.reinitialize()


@pytest.fixture(scope="module")
def token(
    own_softhsm: Path,  # noqa: ARG001 - it comes first
    module: Module,
    new_token: Callable[..., str],
    user_pin: str,
) -> Iterator[Token]:
    """The token "acme" of this module of tests."""
    new_token("acme")
    with open_token(module, "acme", Pin(user_pin), read_write=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def token_key(token: Token) -> Callable[..., TokenKey]:
    """As in all tests, on the token of these."""
    return partial(key_of_a_type, token)
