"""Setting a token up, and changing its PINs: each PIN is tried once."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import pkcs11
from pkcs11.exceptions import PKCS11Error

from tokensign.errors import PinError, TokenNotFoundError, UsageError
from tokensign.token.connection import is_connected
from tokensign.token.cryptoki import LABEL_SIZE, UserType
from tokensign.token.failures import NOT_SET_HINT, failures
from tokensign.token.info import TokenInfo
from tokensign.token.session import select_token
from tokensign.token.tries import refused, require_tries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokensign.token.module import Module
    from tokensign.token.pin import Pin
    from tokensign.token.session import Token
    from tokensign.uri import KeyUri

__all__ = ["change_pin", "initialize_token", "unblock_pin"]

_PIN_NOT_TAKEN: Final = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinTooWeak)
_LENGTH_HINT: Final = "many tokens want at least 4 or 6 characters"


def initialize_token(
    module: Module, label: str, so_pin: Pin, user_pin: Pin, slot: int | None = None
) -> TokenInfo:
    """Set up a token that is not initialised, with a security officer's and a user's PIN.

    A token that is initialised is never touched.

    Args:
        module: The module.
        label: The token's name, at most 32 octets of UTF-8.
        so_pin: The security officer's PIN, which can later set a new user PIN.
        user_pin: The user's PIN.
        slot: The number of the slot; None for the first that has such a token.

    Raises:
        UsageError: The label is empty, too long or taken, or the slot's token is initialised.
        TokenNotFoundError: There is no token to set up.
        PinError: The token refuses one of the PINs.
    """
    if not label or len(label.encode()) > LABEL_SIZE:
        raise UsageError(f"a token's label has 1 to {LABEL_SIZE} bytes")
    there = module.tokens(uninitialized=True)
    if any(info.initialized and info.label == label for info in there):
        raise UsageError(f"there is a token {label} already", hint="choose another label")
    target = next(
        (info for info in there if info.slot_id == slot or (slot is None and not info.initialized)), None
    )
    if target is None:
        raise TokenNotFoundError(
            "there is no token to set up" if slot is None else f"there is no token in slot {slot}",
            hint="plug in an empty token; initialised ones are left alone",
        )
    if target.initialized:
        raise UsageError(
            f"the token in slot {slot} is initialised as {target.label}",
            hint="setting it up anew would destroy its keys; use the token's own tool for that",
        )
    with module.gate.shared(), failures(f"set up the token {label}"):
        try:
            module.functions.init_token(target.slot_id, so_pin, label)
        except _PIN_NOT_TAKEN as error:  # there is no PIN yet that could be wrong
            raise PinError(
                "the token does not take this PIN for the security officer", hint=_LENGTH_HINT
            ) from error
        with _read_write(module, target.slot_id) as session, _officer(module, session, so_pin, target):
            try:
                module.functions.init_pin(session, user_pin)
            except _PIN_NOT_TAKEN as error:
                raise PinError(
                    f"the token {label} is set up, but does not take this PIN for the user",
                    hint=f"{_LENGTH_HINT}; {NOT_SET_HINT}",
                ) from error
    return next(info for info in module.tokens() if info.label == label)


def change_pin(token: Token, old: Pin, new: Pin) -> None:
    """Change the user's PIN.

    Args:
        token: An open token; opening it for reading is enough.
        old: The PIN until now, tried once.
        new: The PIN from now on.

    Raises:
        PinIncorrectError: The old PIN is wrong; the message tells what the counter says.
        PinLockedError: It is locked, or one try is left and the token was not opened to allow that.
        PinError: The token does not take the new PIN.
    """
    module, slot_id = token.module, token.info.slot_id
    require_tries(token.read_info(), allow_last_try=token.credential.allow_last_try)
    with (
        module.gate.shared(),
        failures(f"change the PIN of the token {token.info.label}"),
        _read_write(module, slot_id) as session,
    ):
        try:
            module.functions.set_pin(session, old, new)
        except pkcs11.PinIncorrect as error:
            _raise_refused(error, TokenInfo.read(module.slot(slot_id)), security_officer=False)
            raise
    token.connection.adopt_pin(new)


def unblock_pin(
    module: Module, token: str | KeyUri | None, so_pin: Pin, new: Pin, *, allow_last_try: bool = False
) -> None:
    """Set a new PIN for the user, as the security officer; also after it was locked.

    Args:
        module: The module.
        token: The token's label or URI; None when there is just one.
        so_pin: The security officer's PIN, tried once.
        new: The user's PIN from now on.
        allow_last_try: Whether to go on when a wrong PIN would lock the security officer out for ever.

    Raises:
        UsageError: This process has the token open, and two cannot be logged in.
        PinIncorrectError: The security officer's PIN is wrong.
        PinLockedError: It is locked, or one try is left and that is not allowed.
        PinError: The token does not take the new PIN.
    """
    info = select_token(module, token)
    if is_connected(module, info):
        raise UsageError(f"close the token {info.label} before its PIN is unblocked")
    require_tries(info, allow_last_try=allow_last_try, security_officer=True)
    with (
        module.gate.shared(),
        failures(f"unblock the PIN of the token {info.label}"),
        _read_write(module, info.slot_id) as session,
        _officer(module, session, so_pin, info),
    ):
        module.functions.init_pin(session, new)


@contextlib.contextmanager
def _read_write(module: Module, slot_id: int) -> Iterator[int]:
    session = module.slot(slot_id).get_token().open(rw=True)
    try:
        yield session.handle  # type: ignore[attr-defined]  # the stub leaves it out
    finally:
        with contextlib.suppress(PKCS11Error):
            session.close()


@contextlib.contextmanager
def _officer(module: Module, session: int, so_pin: Pin, info: TokenInfo) -> Iterator[None]:
    """Be logged in as the security officer."""
    try:
        module.functions.login(session, UserType.SECURITY_OFFICER, so_pin)
    except PKCS11Error as error:
        _raise_refused(error, TokenInfo.read(module.slot(info.slot_id)), security_officer=True)
        raise
    try:
        yield
    finally:
        module.functions.logout(session)


def _raise_refused(error: PKCS11Error, info: TokenInfo, *, security_officer: bool) -> None:
    state = info.so_pin_state if security_officer else info.pin_state
    meaning = refused(error, info.label, state)
    if meaning:
        raise meaning from error
