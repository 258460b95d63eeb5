"""What the failures of a PKCS#11 module mean: the one place where they become errors of tokensign."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import pkcs11
from pkcs11.exceptions import PKCS11Error

from tokensign.errors import (
    KeyNotFoundError,
    MechanismError,
    ModuleError,
    PinError,
    PinIncorrectError,
    PinLockedError,
    TokenError,
    TokenRemovedError,
    UsageError,
)
from tokensign.token.cryptoki import (
    CryptokiNotInitializedError,
    CurveNotSupportedError,
    KeyFunctionNotPermittedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GONE", "STALE", "SUSPICIOUS", "UNSURE", "failures", "is_gone", "translated"]

GONE: Final = (
    pkcs11.DeviceRemoved,
    pkcs11.SessionHandleInvalid,
    pkcs11.SessionClosed,
    pkcs11.TokenNotPresent,
    pkcs11.TokenNotRecognised,
    pkcs11.SlotIDInvalid,
    CryptokiNotInitializedError,
)
"""The token, its session or the module's state is not there any more."""

STALE: Final = (pkcs11.ObjectHandleInvalid, pkcs11.KeyHandleInvalid)
"""An object is not there any more."""

UNSURE: Final = (pkcs11.GeneralError, pkcs11.DeviceError, pkcs11.FunctionFailed)
"""Something failed, and the module does not tell what."""

SUSPICIOUS: Final = (*STALE, *UNSURE, pkcs11.UserNotLoggedIn)
"""What some modules say when the token is gone, and for other reasons too; ask whether it is there."""

LOCKED_HINT: Final = "the security officer can set a new one with `tokensign token unblock-pin`"
NOT_SET_HINT: Final = "the security officer sets it with `tokensign token unblock-pin`"
BACK_HINT: Final = "put the token back in and try again"
_NOT_ABLE_HINT: Final = "`tokensign doctor` shows what the token can do with which keys"

_Meaning = tuple[type[TokenError | UsageError], str | None]
_MEANINGS: Final[dict[type[PKCS11Error], _Meaning]] = {
    **dict.fromkeys(GONE, (TokenRemovedError, BACK_HINT)),
    **dict.fromkeys(
        STALE, (KeyNotFoundError, "it was deleted meanwhile; `tokensign key list` shows what is there")
    ),
    pkcs11.PinIncorrect: (PinIncorrectError, None),
    pkcs11.PinInvalid: (PinError, "the token does not take such a PIN; often it wants digits only"),
    pkcs11.PinLenRange: (PinError, "the token's documentation tells how long a PIN must be"),
    pkcs11.PinTooWeak: (PinError, "choose a PIN that is harder to guess"),
    pkcs11.PinLocked: (PinLockedError, LOCKED_HINT),
    pkcs11.PinExpired: (PinError, "set a new one with `tokensign token change-pin`"),
    pkcs11.UserPinNotInitialized: (PinError, NOT_SET_HINT),
    pkcs11.SessionReadOnly: (UsageError, "open the token with read_write=True"),
    **dict.fromkeys(
        (
            pkcs11.MechanismInvalid,
            pkcs11.MechanismParamInvalid,
            pkcs11.KeyTypeInconsistent,
            pkcs11.KeySizeRange,
            pkcs11.FunctionNotSupported,
            pkcs11.ArgumentsBad,
            pkcs11.DomainParamsInvalid,
            CurveNotSupportedError,
            pkcs11.AttributeTypeInvalid,
            pkcs11.AttributeValueInvalid,
            pkcs11.TemplateInconsistent,
            pkcs11.TemplateIncomplete,
        ),
        (MechanismError, _NOT_ABLE_HINT),
    ),
    pkcs11.DataLenRange: (MechanismError, "the key is too small for this digest and scheme"),
    KeyFunctionNotPermittedError: (
        MechanismError,
        "the key was not made for this use; `tokensign key show` tells its usages",
    ),
    pkcs11.DeviceMemory: (TokenError, "the token is full: delete what is no longer needed"),
    pkcs11.TokenWriteProtected: (TokenError, "the token is write-protected"),
    pkcs11.SessionCount: (TokenError, "close other programs that use the token, or use fewer threads"),
    pkcs11.SessionExists: (TokenError, "close the other programs that use the token"),
    pkcs11.AnotherUserAlreadyLoggedIn: (
        TokenError,
        "this process is logged in as somebody else; end that first",
    ),
    pkcs11.AttributeReadOnly: (TokenError, "the token does not allow it to be changed"),
    pkcs11.UserNotLoggedIn: (TokenError, "the token wants a PIN for this"),
}


def is_gone(error: PKCS11Error) -> bool:
    """Whether the error says that the token, the session or the initialised module is gone."""
    # python-pkcs11 has no class for CKR_CRYPTOKI_NOT_INITIALIZED, only this text.
    return isinstance(error, GONE) or "not initialized" in str(error)


def translated(error: PKCS11Error, doing: str) -> TokenError | UsageError:
    """The error of tokensign for one of PKCS#11.

    Args:
        error: What the binding or `tokensign.token.cryptoki` raised.
        doing: What was attempted, for the message: "sign with the key alice".
    """
    if "0x140" in str(error):  # python-pkcs11 has no class for CKR_CURVE_NOT_SUPPORTED, only the number
        error = CurveNotSupportedError()
    kind, hint = _MEANINGS.get(type(error), (TokenError, None))
    if is_gone(error):
        kind, hint = TokenRemovedError, BACK_HINT
    return kind(f"cannot {doing}: {describe(error)}", hint=hint)


def describe(error: PKCS11Error) -> str:
    """What PKCS#11 says, in a few words: "the token answers KeyTypeInconsistent"."""
    text = str(error)
    return f"the token answers {type(error).__name__}" + (f" ({text})" if text else "")


@contextlib.contextmanager
def failures(doing: str) -> Iterator[None]:
    """Translate what PKCS#11 raises in the block; see `translated`."""
    try:
        yield
    except PKCS11Error as error:
        raise translated(error, doing) from error


def module_error(path: object, error: Exception) -> ModuleError:
    """The error for a module that cannot be loaded or initialised."""
    hint = "check the module's configuration; SoftHSM reads the file that SOFTHSM2_CONF names"
    if isinstance(error, PKCS11Error):
        return ModuleError(f"the PKCS#11 module {path} cannot be initialised: {describe(error)}", hint=hint)
    if isinstance(error, AttributeError):
        return ModuleError(
            f"{path} is a library, but no PKCS#11 module", hint="it must export C_GetFunctionList"
        )
    return ModuleError(f"{path} cannot be loaded: {error}", hint="it must be a shared library of this system")
