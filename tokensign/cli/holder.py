"""Who holds the keys of a command: an open token, or an agent that keeps the login on one."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from tokensign.agent.client import AgentClient, AgentKey, AgentSecretKey
from tokensign.agent.place import default_path
from tokensign.token import (
    Token,
    TokenKey,
    TokenSecretKey,
    open_decrypters,
    open_key,
    open_secret_key,
    open_secret_keys,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokensign.algorithms import KeyUsage
    from tokensign.certificates import Certificate
    from tokensign.cli.command import Cli
    from tokensign.uri import KeyUri

__all__ = ["AGENT_VARIABLE", "HeldKey", "HeldSecretKey", "KeyHolder", "TokenHolder", "agent_of", "agent_path"]

_log: Final = logging.getLogger(__name__)

AGENT_VARIABLE: Final = "TOKENSIGN_AGENT"
"""The environment variable with the agent's socket; empty: no agent, whatever the configuration says."""

HeldKey = TokenKey | AgentKey
HeldSecretKey = TokenSecretKey | AgentSecretKey


class KeyHolder(Protocol):
    """What opens keys by their names; the arguments are those of the functions of `tokensign.token`."""

    def open_key(
        self,
        name: str | Certificate,
        usage: KeyUsage | None = None,
        *,
        require_non_extractable: bool = False,
    ) -> HeldKey:
        """A private key."""
        ...

    def open_secret_key(self, name: str, *, require_non_extractable: bool = False) -> HeldSecretKey:
        """An AES key."""
        ...

    def open_decrypters(self, *, require_non_extractable: bool = False) -> Sequence[HeldKey | HeldSecretKey]:
        """Every key that may open a message, AES keys last."""
        ...


class TokenHolder:
    """An open token as a `KeyHolder`.

    Args:
        token: The token, which stays the caller's to close.
    """

    def __init__(self, token: Token) -> None:
        self._token = token

    def open_key(
        self,
        name: str | Certificate,
        usage: KeyUsage | None = None,
        *,
        require_non_extractable: bool = False,
    ) -> TokenKey:
        """A private key."""
        return open_key(self._token, name, usage, require_non_extractable=require_non_extractable)

    def open_secret_key(self, name: str, *, require_non_extractable: bool = False) -> TokenSecretKey:
        """An AES key."""
        return open_secret_key(self._token, name, require_non_extractable=require_non_extractable)

    def open_decrypters(
        self, *, require_non_extractable: bool = False
    ) -> Sequence[TokenKey | TokenSecretKey]:
        """Every key that may open a message, AES keys last."""
        return [
            *open_decrypters(self._token, require_non_extractable=require_non_extractable),
            *open_secret_keys(self._token, require_non_extractable=require_non_extractable),
        ]


def agent_path(cli: Cli) -> Path | None:
    """The socket of the agent that this command is to use; None for no agent."""
    named = os.environ.get(AGENT_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    return default_path() if cli.settings.agent else None


def agent_of(cli: Cli, module: Path | None, token: str | KeyUri | None) -> AgentClient | None:
    """The agent, where one is wanted, is there and serves the token; else None, and the token is opened here.

    Args:
        cli: The common options.
        module: The module that was named, or None.
        token: The token that was named, or None: then it is the agent's.

    Raises:
        AgentError: The agent is not to be trusted.
    """
    path = agent_path(cli)
    if path is None:
        return None
    agent = AgentClient.reach(path)
    if agent is None:
        level = logging.WARNING if AGENT_VARIABLE in os.environ else logging.INFO
        _log.log(level, "no agent listens at %s; the token is opened without it", path)
        return None
    try:
        if agent.serves(token, module):
            _log.info("the agent at %s serves the token", path)
            return agent
    except BaseException:
        agent.close()
        raise
    _log.info("the agent at %s serves another token", path)
    agent.close()
    return None
