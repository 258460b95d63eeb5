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

__all__ = ["refused", "require_tries"]

_REFUSALS: Final = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange)

_AFTER: Final = {
    PinState.OK: "this token does not show how many tries are left",
    PinState.TO_BE_CHANGED: "this token does not show how many tries are left",
    PinState.NOT_SET: NOT_SET_HINT,
    PinState.COUNT_LOW: "a few more wrong PINs lock the token",
    PinState.FINAL_TRY: "one more wrong PIN locks the token",
    PinState.LOCKED: f"the PIN is locked now; {LOCKED_HINT}",
}


def require_tries(info: TokenInfo, *, allow_last_try: bool, security_officer: bool = False) -> None:
    """Refuse to try a PIN that cannot be right, or whose failure would lock it.

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
        raise PinLockedError(f"the {whose} is locked", hint=None if security_officer else LOCKED_HINT)
    if state is PinState.FINAL_TRY and not allow_last_try:
        raise PinLockedError(
            f"the {whose} has one try left, and a wrong one locks it; it was not tried",
            hint="make sure of the PIN, then allow the last try (in the library: allow_last_try=True)",
        )


def refused(error: PKCS11Error, label: str, state: PinState) -> PinError | None:
    """The error for a login that failed because of the PIN; None when it failed for another reason.

    Args:
        error: What the module said.
        label: The token.
        state: The counter flags after the try.
    """
    if isinstance(error, _REFUSALS):
        return PinIncorrectError(f"the token {label} refused the PIN; it was tried once", hint=_AFTER[state])
    if isinstance(error, pkcs11.PinLocked):
        return PinLockedError(f"the PIN of the token {label} is locked", hint=LOCKED_HINT)
    return None
