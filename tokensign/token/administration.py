"""Setting a token up, and changing its PINs: each PIN is tried once."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import pkcs11
from pkcs11.exceptions import PKCS11Error

from tokensign.errors import PinError, TokenError, TokenNotFoundError, UsageError
from tokensign.token.connection import is_connected
from tokensign.token.cryptoki import LABEL_SIZE, UserType, UserTypeInvalidError
from tokensign.token.deadlines import PERSON_TIMEOUT
from tokensign.token.failures import NOT_SET_HINT, describe, failures
from tokensign.token.opening import select_token
from tokensign.token.pin import PinRequest, asked, default_source
from tokensign.token.tries import refused, require_tries, warning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tokensign.token.info import TokenInfo
    from tokensign.token.module import Module
    from tokensign.token.opening import Token
    from tokensign.token.pin import Pin, PinSource
    from tokensign.uri import KeyUri

__all__ = ["change_pin", "change_so_pin", "initialize_token", "unblock_pin"]

_PIN_NOT_TAKEN: Final = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinTooWeak)
_NO_OFFICER: Final = (UserTypeInvalidError, pkcs11.FunctionNotSupported, pkcs11.GeneralError)  # NSS; OpenSC
_PINS_MAXIMUM: Final = 3  # PINs that the calls of one command take: C_InitToken, C_Login, C_InitPIN
_LENGTH_HINT: Final = "many tokens want at least 4 or 6 characters"


def initialize_token(
    module: Module,
    label: str,
    so_pin: PinSource | None,
    user_pin: PinSource | None,
    slot: int | None = None,
) -> TokenInfo:
    """Set up a token that is not initialised, with a security officer's and a user's PIN.

    A token that is initialised is never touched.

    Args:
        module: The module.
        label: The token's name, at most 32 octets of UTF-8.
        so_pin: The security officer's PIN, which can later set a new user PIN, or where it comes from; None:
            the token's own PIN pad, or a prompt.
        user_pin: The user's PIN, likewise.
        slot: The number of the slot; None for the first that has such a token.

    Raises:
        UsageError: The label is empty, too long or taken, or the slot's token is initialised.
        TokenNotFoundError: There is no token to set up.
        PinError: A PIN cannot be had, or the token refuses it.
    """
    target = _token_to_set_up(module, label, slot)
    with (
        _asked(so_pin, target, label, "set it up", new=True, security_officer=True) as officer,
        _asked(user_pin, target, label, "set it up", new=True) as user,
        module.gate.shared(_patience(target)),
        failures(f"set up the token {label}"),
    ):
        try:
            module.functions.init_token(target.slot_id, officer, label)
        except _PIN_NOT_TAKEN as error:  # there is no PIN yet that could be wrong
            raise PinError(
                "the token does not take this PIN for the security officer", hint=_LENGTH_HINT
            ) from error
        with _read_write(module, target.slot_id) as session, _officer(module, session, officer, target):
            try:
                module.functions.init_pin(session, user)
            except pkcs11.PinExpired as error:  # opencryptoki
                raise PinError(
                    f"the token {label} is set up, and wants its security officer's PIN changed before it "
                    "takes a user's",
                    hint="use `tokensign token change-pin --so`, then `token unblock-pin`, then `token "
                    "change-pin`",
                ) from error
            except _PIN_NOT_TAKEN as error:
                raise PinError(
                    f"the token {label} is set up, but does not take this PIN for the user",
                    hint=f"{_LENGTH_HINT}; {NOT_SET_HINT}",
                ) from error
    return next(info for info in module.tokens() if info.label == label)


def _token_to_set_up(module: Module, label: str, slot: int | None) -> TokenInfo:
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
    return target


def change_pin(token: Token, old: PinSource | None = None, new: PinSource | None = None) -> None:
    """Change the user's PIN.

    Args:
        token: An open token; opening it for reading is enough.
        old: The PIN until now, tried once, or where it comes from; None: where the token's PIN comes from.
        new: The PIN from now on, or where it comes from; None: the token's own PIN pad, or a prompt.

    Raises:
        PinIncorrectError: The old PIN is wrong; the message tells what the counter says.
        PinLockedError: It is locked, or one try is left and the token was not opened to allow that.
        PinError: A PIN cannot be had, or the token does not take the new one.
    """
    module, info = token.module, token.read_info()
    require_tries(info, allow_last_try=token.credential.allow_last_try)
    with (
        _asked(old or token.credential.source, info, info.label, "change it") as before,
        _asked(new, info, info.label, "change it", new=True) as after,
    ):
        _require_same_way(before, after)
        with (
            module.gate.shared(_patience(info)),
            failures(f"change the PIN of the token {info.label}"),
            _read_write(module, info.slot_id) as session,
        ):
            try:
                _set_pin(module, session, before, after)
            except pkcs11.PinIncorrect as error:
                _raise_refused(error, module, info)
                raise
        token.connection.adopt_pin(after)


def change_so_pin(
    module: Module,
    token: str | KeyUri | None,
    old: PinSource | None = None,
    new: PinSource | None = None,
    *,
    allow_last_try: bool = False,
) -> None:
    """Change the security officer's PIN.

    Args:
        module: The module.
        token: The token's label or URI; None when there is just one.
        old: The security officer's PIN until now, tried once, or where it comes from; None: the token's own
            PIN pad, or a prompt.
        new: The PIN from now on, likewise.
        allow_last_try: Whether to go on when a wrong PIN would lock the security officer out for ever.

    Raises:
        UsageError: This process has the token open, and two cannot be logged in.
        PinIncorrectError: The old PIN is wrong.
        PinLockedError: It is locked, or one try is left and that is not allowed.
        PinError: A PIN cannot be had, or the token does not take the new one.
    """
    info = _token_for_officer(module, token, allow_last_try=allow_last_try)
    with (
        _asked(old, info, info.label, "change it", security_officer=True) as before,
        _asked(new, info, info.label, "change it", security_officer=True, new=True) as after,
    ):
        _require_same_way(before, after)
        with (
            module.gate.shared(_patience(info)),
            failures(f"change the security officer's PIN of the token {info.label}"),
            _read_write(module, info.slot_id) as session,
            _officer(module, session, before, info),
        ):
            module.functions.set_pin(session, before, after)


def unblock_pin(
    module: Module,
    token: str | KeyUri | None,
    so_pin: PinSource | None = None,
    new: PinSource | None = None,
    *,
    allow_last_try: bool = False,
) -> None:
    """Set a new PIN for the user, as the security officer; also after it was locked.

    Args:
        module: The module.
        token: The token's label or URI; None when there is just one.
        so_pin: The security officer's PIN, tried once, or where it comes from; None: the token's own PIN pad,
            or a prompt.
        new: The user's PIN from now on, likewise.
        allow_last_try: Whether to go on when a wrong PIN would lock the security officer out for ever.

    Raises:
        UsageError: This process has the token open, and two cannot be logged in.
        PinIncorrectError: The security officer's PIN is wrong.
        PinLockedError: It is locked, or one try is left and that is not allowed.
        PinError: A PIN cannot be had, or the token does not take the new one.
    """
    info = _token_for_officer(module, token, allow_last_try=allow_last_try)
    doing = "set a new PIN for its user"
    with (
        _asked(so_pin, info, info.label, doing, security_officer=True) as officer,
        _asked(new, info, info.label, doing, new=True) as user,
        module.gate.shared(_patience(info)),
        failures(f"unblock the PIN of the token {info.label}"),
        _read_write(module, info.slot_id) as session,
        _officer(module, session, officer, info),
    ):
        module.functions.init_pin(session, user)


def _set_pin(module: Module, session: int, before: Pin | None, after: Pin | None) -> None:
    try:
        module.functions.set_pin(session, before, after)
    except pkcs11.UserNotLoggedIn:  # NSS wants it, and has not looked at the PIN yet
        module.functions.login(session, UserType.USER, before)
        try:
            module.functions.set_pin(session, before, after)
        finally:
            module.functions.logout(session)


def _token_for_officer(module: Module, token: str | KeyUri | None, *, allow_last_try: bool) -> TokenInfo:
    info = select_token(module, token)
    if is_connected(module, info):
        raise UsageError(f"close the token {info.label} before the security officer uses it")
    require_tries(info, allow_last_try=allow_last_try, security_officer=True)
    return info


def _asked(
    source: PinSource | None,
    info: TokenInfo,
    label: str,
    action: str,
    *,
    security_officer: bool = False,
    new: bool = False,
) -> AbstractContextManager[Pin | None]:
    """A PIN from its source, which is wiped after the block."""
    whose = f"the security officer of the token {label}" if security_officer else f"the token {label}"
    request = PinRequest(
        purpose=f"{whose}, the new one" if new else whose,
        action="" if new else action,
        note="" if new else warning(info, security_officer=security_officer),
        account=f"{label} (SO)" if security_officer else label,
        new=new,
        pad=info.protected_authentication_path,
    )
    return asked(source or default_source(pad=info.protected_authentication_path), request)


def _patience(info: TokenInfo) -> float:
    """Seconds that the calls may take besides what the module needs: a person types on the pad."""
    return _PINS_MAXIMUM * PERSON_TIMEOUT if info.protected_authentication_path else 0.0


def _require_same_way(before: Pin | None, after: Pin | None) -> None:
    """Refuse one PIN from a pad and one from elsewhere, for which C_SetPIN has no form."""
    if (before is None) is not (after is None):
        raise UsageError(
            "the old and the new PIN are both typed on the token's PIN pad, or neither is",
            hint="name the source `pad` for both, or another one for both",
        )


@contextlib.contextmanager
def _read_write(module: Module, slot_id: int) -> Iterator[int]:
    session = module.slot(slot_id).get_token().open(rw=True)
    try:
        yield session.handle  # type: ignore[attr-defined]  # the stub leaves it out
    finally:
        with contextlib.suppress(PKCS11Error):
            session.close()


@contextlib.contextmanager
def _officer(module: Module, session: int, so_pin: Pin | None, info: TokenInfo) -> Iterator[None]:
    """Be logged in as the security officer."""
    try:
        module.functions.login(session, UserType.SECURITY_OFFICER, so_pin)
    except _NO_OFFICER as error:
        raise TokenError(
            f"the module of the token {info.label} lets no security officer log in: {describe(error)}",
            hint="a smartcard is unblocked with its PUK, such as by `pkcs15-tool --unblock-pin --auth-id 01`",
        ) from error
    except PKCS11Error as error:
        _raise_refused(error, module, info, security_officer=True)
        raise
    try:
        yield
    finally:
        module.functions.logout(session)


def _raise_refused(
    error: PKCS11Error, module: Module, info: TokenInfo, *, security_officer: bool = False
) -> None:
    now = module.read_token(info.slot_id)
    meaning = refused(error, now, security_officer=security_officer)
    if meaning:
        raise meaning from error
