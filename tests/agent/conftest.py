"""An agent in a thread of the test process, over a token of SoftHSM."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tokensign.agent.client import AgentClient
from tokensign.agent.custody import Custody, Limits
from tokensign.agent.operations import Operations
from tokensign.agent.place import Claim
from tokensign.agent.server import Server
from tokensign.errors import AgentError
from tokensign.token import Pin, open_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokensign.token import Module, Token


class CountingSource:
    """Gives a PIN, and counts how often."""

    def __init__(self, pin: str) -> None:
        self.pin = pin
        self.asked = 0

    def get(self, request: object) -> Pin:  # noqa: ARG002 - the protocol's
        self.asked += 1
        return Pin(self.pin)


@pytest.fixture
def place() -> Iterator[Path]:
    """The path of a socket in a folder that is not there yet; short, as such paths must be."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "tokensign" / "agent.sock"


@pytest.fixture
def source(user_pin: str) -> CountingSource:
    """Where the agent's PIN comes from."""
    return CountingSource(user_pin)


@pytest.fixture
def custody(module: Module, new_token: Callable[..., str], source: CountingSource) -> Iterator[Custody]:
    """The login on a token of its own, which nobody else in this process has open."""
    held = Custody(logged_in(module, new_token(), source), source, Limits(idle=60, lifetime=60))
    yield held
    held.lock()


def logged_in(module: Module, label: str, source: CountingSource) -> Token:
    opened = open_token(module, label, source)
    opened.log_in()
    return opened


@pytest.fixture
def serve(module: Module, place: Path, source: CountingSource) -> Iterator[Callable[..., AgentClient]]:
    """Start an agent for a token, and reach it: `serve("acme", confirmed=True)`."""
    started: list[tuple[threading.Thread, AgentClient]] = []

    def start(
        label: str, *, confirmed: bool = False, strict: bool = False, of: Module = module
    ) -> AgentClient:
        held = Custody(logged_in(of, label, source), source, Limits(idle=60, lifetime=60))
        operations = Operations(
            held, confirmed=confirmed, memory_locked=False, require_non_extractable=strict
        )
        thread = threading.Thread(target=Server(Claim(place), operations, held).run)
        thread.start()
        client = AgentClient.reach(place)
        assert client is not None
        started.append((thread, client))
        return client

    yield start
    for thread, client in started:
        with contextlib.suppress(AgentError):  # a test has stopped it
            client.ask("stop")
        client.close()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture
def agent(token: Token, serve: Callable[..., AgentClient]) -> AgentClient:
    """An agent for the token "acme"."""
    return serve(token.info.label)
