"""The PIN discipline: look at the counter before, try once, look at the counter after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pkcs11

from tokensign.errors import PinError, PinIncorrectError, PinLockedError
from tokensign.token.failures import LOCKED_HINT, NOT_SET_HINT
from tokensign.token.info import PinState

if TYPE_CHECKING:
    from pkcs11.exceptions import PKCS11Error

    from tokensign.token.info import TokenInfo

__all__ = ["refused", "require_tries", "warning"]

_REFUSALS: Final = (pkcs11.PinIncorrect, pkcs11.PinInvalid)
_NOTHING_SHOWN: Final = "this module does not tell how many tries are left; often it is 3 in all"
_SO_LOCKED_HINT: Final = "the token's own tool can perhaps set it up anew, which destroys its keys"

_BEFORE: Final = {
    PinState.COUNT_LOW: "A wrong PIN was given before; a few more lock it.",
    PinState.FINAL_TRY: "This is the last try: a wrong PIN locks it.",
    PinState.TO_BE_CHANGED: "This PIN must be changed: `tokensign token change-pin`.",
}
_AFTER: Final = {
    PinState.OK: _NOTHING_SHOWN,
    PinState.TO_BE_CHANGED: _NOTHING_SHOWN,
    PinState.NOT_SET: NOT_SET_HINT,
    PinState.COUNT_LOW: "a few more wrong PINs lock the token",
    PinState.FINAL_TRY: "one more wrong PIN locks the token",
    PinState.LOCKED: f"the PIN is locked now; {LOCKED_HINT}",
}


def require_tries(info: TokenInfo, *, allow_last_try: bool, security_officer: bool = False) -> None:
    """Refuse to try a PIN that cannot be right, or whose failure would lock it.

    A module that keeps no flags, such as NSS or that of a TPM, always says that all is well.

    Args:
        info: The token as it is now.
        allow_last_try: Whether to go on when a wrong PIN locks the token.
        security_officer: Whose PIN; else the user's.

    Raises:
        PinLockedError: The PIN is locked; or one try is left and that is not allowed.
        PinError: No PIN has been set.
    """
    state = info.so_pin_state if security_officer else info.pin_state
    whose = f"{'security officer' if security_officer else 'user'} PIN of the token {info.label}"
    if state is PinState.NOT_SET:
        raise PinError(f"the {whose} has not been set", hint=NOT_SET_HINT)
    if state is PinState.LOCKED:
        raise PinLockedError(
            f"the {whose} is locked", hint=_SO_LOCKED_HINT if security_officer else LOCKED_HINT
        )
    if state is PinState.FINAL_TRY and not allow_last_try:
        raise PinLockedError(
            f"the {whose} has one try left, and a wrong one locks it; it was not tried",
            hint="make sure of the PIN, then add --last-try (in the library: allow_last_try=True)",
        )


def warning(info: TokenInfo, *, security_officer: bool = False) -> str:
    """What a person should know before typing a PIN, or nothing.

    Args:
        info: The token as it is now.
        security_officer: Whose PIN; else the user's.
    """
    return _BEFORE.get(info.so_pin_state if security_officer else info.pin_state, "")


def refused(error: PKCS11Error, info: TokenInfo, *, security_officer: bool = False) -> PinError | None:
    """The error for a PIN that the token did not take; None when it failed for another reason.

    Args:
        error: What the module said.
        info: The token after the try, with its counter flags.
        security_officer: Whose PIN; else the user's.
    """
    state = info.so_pin_state if security_officer else info.pin_state
    officer = "security officer's " if security_officer else ""
    if isinstance(error, _REFUSALS):
        hint = _SO_LOCKED_HINT if security_officer and state is PinState.LOCKED else _AFTER[state]
        return PinIncorrectError(
            f"the token {info.label} refused the {officer}PIN; it was tried once", hint=hint
        )
    if isinstance(error, pkcs11.PinLenRange):  # OpenSC says so without asking the card
        return PinIncorrectError(
            f"the token {info.label} refused the {officer}PIN for its length",
            hint="the token's documentation tells how long its PIN is; it may have counted this as a try",
        )
    if isinstance(error, pkcs11.PinLocked):
        return PinLockedError(
            f"the {officer}PIN of the token {info.label} is locked",
            hint=_SO_LOCKED_HINT if security_officer else LOCKED_HINT,
        )
    if isinstance(error, pkcs11.PinExpired):
        so = " --so" if security_officer else ""
        return PinError(
            f"the {officer}PIN of the token {info.label} has expired, or must be changed before it is used",
            hint=f"set a new one with `tokensign token change-pin{so}`",
        )
    return None
