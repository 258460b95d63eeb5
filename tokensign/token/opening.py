"""Opening a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from tokensign.errors import AmbiguousNameError, TokenNotFoundError, UsageError
from tokensign.token.connection import connect, release
from tokensign.token.info import TokenInfo
from tokensign.token.login import Credential
from tokensign.token.module import Module, load_module
from tokensign.token.pin import default_source, parse_pin_source, pin_source_of
from tokensign.token.state import TokenState
from tokensign.uri import KeyUri, is_uri

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from tokensign.token.borrowing import Borrowed
    from tokensign.token.connection import Connection
    from tokensign.token.pin import PinSource

__all__ = ["Token", "open_token", "select_token"]


class Token:
    """An open token; `open_token` makes it. Close it, or use it in a `with` statement.

    Safe for threads: each operation has a PKCS#11 session for itself, so that N threads sign in parallel.
    The PIN is asked for when something first needs it; what everybody may see, such as certificates, can
    be read without one. Tokens opened several times in a process share one login.

    When the token is pulled out, the operation that notices raises `TokenRemovedError`; when it is back,
    the next operation opens new sessions and logs in again with the PIN that was given. A PIN that the
    token refuses is never tried again.

    Attributes:
        read_write: Whether it was opened to be changed.
    """

    def __init__(self, connection: Connection, credential: Credential, *, read_write: bool) -> None:
        self._connection = connection
        self._credential = credential
        self._closed = False
        self.read_write = read_write

    @property
    def module(self) -> Module:
        """The token's module."""
        return self._connection.module

    @property
    def info(self) -> TokenInfo:
        """The token as it was when it was last found; its PIN state may have changed since."""
        return self._connection.info

    @property
    def uri(self) -> KeyUri:
        """The URI of the token."""
        return self.info.uri

    @property
    def state(self) -> TokenState:
        """What the next operation will meet; see `TokenState`."""
        return TokenState.CLOSED if self._closed else self._connection.state

    def read_info(self) -> TokenInfo:
        """The token as it is now, with the counter flags of its PINs.

        Raises:
            TokenRemovedError: It is gone.
        """
        with self.borrow("read the token's state", public=True):
            return TokenInfo.read(self.module.slot(self.info.slot_id))

    def log_in(self) -> None:
        """Give the PIN now and not when it is first needed.

        Raises:
            PinError: The PIN is refused; see `PinIncorrectError`, `PinLockedError`, `PinUnavailableError`.
        """
        with self.borrow(f"log in to the token {self.info.label}"):
            pass

    def close(self) -> None:
        """Close it; the last one in the process logs out and forgets the PIN. Closing twice does nothing."""
        if not self._closed:
            self._closed = True
            release(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Token {self.info.label!r}{' closed' if self._closed else ''}>"

    # --- for the other modules of this package

    @property
    def connection(self) -> Connection:
        """What this process shares about the token."""
        return self._connection

    @property
    def credential(self) -> Credential:
        """How this user of the token logs in."""
        return self._credential

    def borrow(
        self, doing: str, *, public: bool = False, change: bool = False, on_pad: bool = False
    ) -> Borrowed:
        """A session for one operation; see `tokensign.token.connection.Connection.borrow`.

        Args:
            doing: What is done, for messages.
            public: Whether it needs no login.
            change: Whether it changes the token.
            on_pad: Whether somebody types a PIN on the token's PIN pad meanwhile.

        Raises:
            UsageError: The token is closed, or opened only for reading.
        """
        if self._closed:
            raise UsageError(f"cannot {doing}: the token {self.info.label} was closed")
        if change:
            self.require_change(doing)
        credential = None if public else self._credential
        return self._connection.borrow(doing, credential, read_write=change, on_pad=on_pad)

    def require_change(self, doing: str) -> None:
        """Refuse to change a token that was opened for reading.

        Raises:
            UsageError: It was.
        """
        if not self.read_write:
            raise UsageError(
                f"cannot {doing}: the token {self.info.label} was opened for reading",
                hint="open the token with read_write=True",
            )


def open_token(
    module: Module | Path | str | None = None,
    token: str | KeyUri | None = None,
    pin_source: PinSource | str | None = None,
    *,
    read_write: bool = False,
    allow_last_try: bool = False,
    action: str = "",
) -> Token:
    """Open a token.

    Args:
        module: The PKCS#11 module or its path; None for the module-path of the URI, or the usual places.
        token: The token's label or PKCS#11 URI; None when there is just one.
        pin_source: Where the PIN comes from: a specification such as "env:NAME", a `Pin` or a `PinSource`.
            None for the pin-source of the URI, or the token's own PIN pad, or a prompt on the terminal.
        read_write: Whether keys and certificates will be made, stored or deleted.
        allow_last_try: Whether to try the PIN even if a wrong one would lock the token.
        action: What is going to be done, for a person who is asked for the PIN, in words that follow "to":
            "sign report.pdf (12,345 bytes) with the key alice".

    Raises:
        ModuleError: The module cannot be loaded.
        TokenNotFoundError: There is no such token; those that are there are listed.
        AmbiguousNameError: Several tokens fit; they are listed.
        UsageError: The URI or the PIN source is malformed.

    Example:
        >>> with open_token(token="acme", pin_source="env:ACME_PIN") as token:  # doctest: +SKIP
        ...     print(token.uri)
    """
    uri = KeyUri.parse(token) if isinstance(token, str) and is_uri(token) else token
    from_uri = None
    if isinstance(uri, KeyUri):
        from_uri = pin_source_of(uri)
        module = module if module is not None else uri.module_path
    loaded = module if isinstance(module, Module) else load_module(module)
    if isinstance(pin_source, str):
        pin_source = parse_pin_source(pin_source)
    info = select_token(loaded, uri)
    source = pin_source or from_uri or default_source(pad=info.protected_authentication_path)
    credential = Credential(source, allow_last_try, action)
    return Token(connect(loaded, info), credential, read_write=read_write)


def select_token(module: Module, name: str | KeyUri | None) -> TokenInfo:
    """The one initialised token with a label or URI, or the only one there is.

    Raises:
        TokenNotFoundError: None fits.
        AmbiguousNameError: Several fit.
    """
    there = module.tokens()
    if isinstance(name, str):
        found = [info for info in there if info.label == name]
    elif name is None:
        found = there
    else:
        found = [info for info in there if name.matches(info.properties | module.properties)]
    if len(found) == 1:
        return found[0]
    if found:
        named = f"{len(found)} tokens fit {name}" if name else f"there are {len(found)} tokens"
        raise AmbiguousNameError(
            f"{named}: {_listed(found)}", hint="name one of them with --token (TOKENSIGN_TOKEN)"
        )
    if there:
        raise TokenNotFoundError(f"there is no token {name}; there are: {_listed(there)}")
    raise TokenNotFoundError(
        f"the module {module.path} has no initialised token",
        hint="plug one in, or set one up with `tokensign token init LABEL`",
    )


def _listed(tokens: Sequence[TokenInfo]) -> str:
    return ", ".join(str(info.uri) for info in tokens)
