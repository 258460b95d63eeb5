"""The login that the agent keeps: until when it lasts, its lock and its unlocking."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tokensign.errors import AgentError
from tokensign.token import open_key, open_secret_key, open_token
from tokensign.uri import KeyUri

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.token import PinSource, Token, TokenKey, TokenSecretKey

__all__ = ["Custody", "Limits", "OpenedToken"]

_END_TIMEOUT: Final = 10.0  # seconds that running operations have to end when the agent is locked
_LOCKED_HINT: Final = "unlock it with `tokensign agent unlock`, or unset TOKENSIGN_AGENT"


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a login lasts.

    Attributes:
        idle: Seconds after its last use.
        lifetime: Seconds after it was made, however much it is used.
    """

    idle: float
    lifetime: float


@dataclass(frozen=True, slots=True)
class OpenedToken:
    """The token while the agent is not locked, and the keys that were used, by their URI.

    Attributes:
        token: The token, logged in.
        keys: The keys; each is on the token, so that there are no more of them than there.
    """

    token: Token
    keys: dict[str, TokenKey | TokenSecretKey] = field(default_factory=dict)

    def key(self, uri: str, *, require_non_extractable: bool) -> TokenKey | TokenSecretKey:
        """The key with a URI.

        Raises:
            TokenError: It is not there, or refused; see `tokensign.token.open_key`.
        """
        known = self.keys.get(uri)
        if known is not None:
            return known
        if KeyUri.parse(uri).type == "secret-key":
            secret = open_secret_key(self.token, uri, require_non_extractable=require_non_extractable)
            self.keys[str(secret.uri)] = secret
            return secret
        found = open_key(self.token, uri, require_non_extractable=require_non_extractable)
        self.keys[str(found.info.uri)] = found
        return found


class Custody:
    """The login on a token, for many threads.

    Args:
        token: The token, logged in; it is closed with the login.
        source: Where the PIN comes from when the agent is unlocked.
        limits: How long the login lasts.
    """

    def __init__(self, token: Token, source: PinSource, limits: Limits) -> None:
        self.module = token.module
        self.info = token.info
        self._source = source
        self._limits = limits
        self._opened: OpenedToken | None = OpenedToken(token)
        self._running = 0
        self._state = threading.Condition()
        self._turn = threading.Lock()  # one locks or unlocks at a time
        self._made = self._used = _now()

    @property
    def locked(self) -> bool:
        """Whether there is no login."""
        return self._opened is None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the login ends, if nobody uses it; None where there is none."""
        with self._state:
            if self._opened is None:
                return None
            now = _now()
            left = self._made + self._limits.lifetime - now
            if not self._running:
                left = min(left, self._used + self._limits.idle - now)
            return max(left, 0.0)

    @contextlib.contextmanager
    def use(self) -> Iterator[OpenedToken]:
        """The token for one operation.

        Raises:
            AgentError: The agent is locked.
        """
        self.lock_when_due()
        with self._state:
            opened = self._opened
            if opened is None:
                raise AgentError("the agent is locked", hint=_LOCKED_HINT)
            self._running += 1
        try:
            yield opened
        finally:
            with self._state:
                self._running -= 1
                self._used = _now()
                self._state.notify_all()

    def lock_when_due(self) -> None:
        """Lock, if the login has lasted as long as it may."""
        if self.seconds_left == 0.0:
            self.lock()

    def lock(self) -> None:
        """Log out and forget the PIN; operations that run are waited for, for some seconds."""
        with self._turn:
            with self._state:
                opened, self._opened = self._opened, None
                self._state.wait_for(lambda: not self._running, _END_TIMEOUT)
            if opened is not None:
                opened.token.close()

    def unlock(self) -> None:
        """Ask for the PIN and log in, if the agent is locked.

        Raises:
            TokenError: The token is gone, or the PIN is not to be had or refused.
        """
        with self._turn:
            if self._opened is not None:
                return
            token = open_token(self.module, self.info.uri, self._source, action="unlock the agent")
            try:
                token.log_in()
            except BaseException:
                token.close()
                raise
            with self._state:
                self._opened = OpenedToken(token)
                self._made = self._used = _now()


def _now() -> float:
    """Seconds on a clock that goes on while the machine sleeps, where there is one."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)
