"""The few PKCS#11 calls that are made directly, through ctypes.

python-pkcs11 lacks C_InitToken and arguments for C_Initialize, asks C_Decrypt for a length first (which
makes a smartcard decrypt twice), copies PINs into strings, and has no number for some return codes. What
is called here shares the module, its sessions and its handles with python-pkcs11, and raises the same
exceptions. Every call releases the GIL.
"""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, POINTER, Array, Structure, byref, c_char, c_char_p, c_ubyte, c_ulong, c_void_p
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pkcs11
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import KeyType, Mechanism

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import IntEnum
    from pathlib import Path

    from tokensign.token.pin import Pin

__all__ = [
    "CannotLockError",
    "CkMechanism",
    "CryptokiAlreadyInitializedError",
    "CryptokiNotInitializedError",
    "CurveNotSupportedError",
    "EddsaParameters",
    "FunctionList",
    "KeyFunctionNotPermittedError",
    "OaepParameters",
    "PssParameters",
    "TokenLimits",
    "UserType",
    "UserTypeInvalidError",
    "mechanism",
]

E = TypeVar("E", bound="IntEnum")

OS_LOCKING_OK: Final = 0x2  # CKF_OS_LOCKING_OK
_PUBLIC_STATES: Final = (0, 2)  # CKS_RO_PUBLIC_SESSION, CKS_RW_PUBLIC_SESSION
_NO_LIMIT: Final = (0, c_ulong(-1).value)  # CK_EFFECTIVELY_INFINITE, CK_UNAVAILABLE_INFORMATION
OPERATION_ACTIVE: Final = 0x090  # CKR_OPERATION_ACTIVE
LABEL_SIZE: Final = 32  # octets of CK_TOKEN_INFO.label, padded with spaces


class CryptokiNotInitializedError(PKCS11Error):
    """CKR_CRYPTOKI_NOT_INITIALIZED."""


class CryptokiAlreadyInitializedError(PKCS11Error):
    """CKR_CRYPTOKI_ALREADY_INITIALIZED."""


class CannotLockError(PKCS11Error):
    """CKR_CANT_LOCK: the module is not safe for threads."""


class CurveNotSupportedError(PKCS11Error):
    """CKR_CURVE_NOT_SUPPORTED."""


class KeyFunctionNotPermittedError(PKCS11Error):
    """CKR_KEY_FUNCTION_NOT_PERMITTED: the key was not made for this use."""


def _lacking(kind: type[E], number: int, name: str) -> E:
    """A member that an enumeration of python-pkcs11 lacks; the binding asks for instances of the type."""
    member = int.__new__(kind, number)
    member._name_, member._value_ = name, number
    return member


EC_MONTGOMERY: Final = _lacking(KeyType, 0x41, "EC_MONTGOMERY")
"""CKK_EC_MONTGOMERY (PKCS#11 3.0 section 2.3.5)."""

MECHANISMS: Final = {  # PKCS#11 3.1 section 6
    number: _lacking(Mechanism, number, name)
    for number, name in (
        (0x1047, "ECDSA_SHA3_224"),
        (0x1048, "ECDSA_SHA3_256"),
        (0x1049, "ECDSA_SHA3_384"),
        (0x104A, "ECDSA_SHA3_512"),
        (0x1056, "EC_MONTGOMERY_KEY_PAIR_GEN"),
    )
}
"""Mechanisms by number that python-pkcs11 lacks."""


class UserTypeInvalidError(PKCS11Error):
    """CKR_USER_TYPE_INVALID: there is no such user, often no security officer."""


_RETURN_CODES: Final[dict[int, type[PKCS11Error]]] = {  # PKCS#11 2.40 section 5.1
    0x002: pkcs11.HostMemory,
    0x003: pkcs11.SlotIDInvalid,
    0x005: pkcs11.GeneralError,
    0x006: pkcs11.FunctionFailed,
    0x007: pkcs11.ArgumentsBad,
    0x00A: CannotLockError,
    0x020: pkcs11.DataInvalid,
    0x021: pkcs11.DataLenRange,
    0x030: pkcs11.DeviceError,
    0x031: pkcs11.DeviceMemory,
    0x032: pkcs11.DeviceRemoved,
    0x040: pkcs11.EncryptedDataInvalid,
    0x041: pkcs11.EncryptedDataLenRange,
    0x050: pkcs11.FunctionCancelled,
    0x054: pkcs11.FunctionNotSupported,
    0x060: pkcs11.KeyHandleInvalid,
    0x062: pkcs11.KeySizeRange,
    0x063: pkcs11.KeyTypeInconsistent,
    0x068: KeyFunctionNotPermittedError,
    0x070: pkcs11.MechanismInvalid,
    0x071: pkcs11.MechanismParamInvalid,
    0x082: pkcs11.ObjectHandleInvalid,
    OPERATION_ACTIVE: pkcs11.OperationActive,
    0x091: pkcs11.OperationNotInitialized,
    0x0A0: pkcs11.PinIncorrect,
    0x0A1: pkcs11.PinInvalid,
    0x0A2: pkcs11.PinLenRange,
    0x0A3: pkcs11.PinExpired,
    0x0A4: pkcs11.PinLocked,
    0x0B0: pkcs11.SessionClosed,
    0x0B1: pkcs11.SessionCount,
    0x0B3: pkcs11.SessionHandleInvalid,
    0x0B5: pkcs11.SessionReadOnly,
    0x0B6: pkcs11.SessionExists,
    0x0B7: pkcs11.SessionReadOnlyExists,
    0x0B8: pkcs11.SessionReadWriteSOExists,
    0x0E0: pkcs11.TokenNotPresent,
    0x0E1: pkcs11.TokenNotRecognised,
    0x0E2: pkcs11.TokenWriteProtected,
    0x100: pkcs11.UserAlreadyLoggedIn,
    0x101: pkcs11.UserNotLoggedIn,
    0x102: pkcs11.UserPinNotInitialized,
    0x103: UserTypeInvalidError,
    0x104: pkcs11.AnotherUserAlreadyLoggedIn,
    0x105: pkcs11.UserTooManyTypes,
    0x140: CurveNotSupportedError,
    0x190: CryptokiNotInitializedError,
    0x191: CryptokiAlreadyInitializedError,
    0x200: pkcs11.FunctionRejected,
}


NOT_ABLE: Final = (  # numbers, for the direct calls
    0x007,  # CKR_ARGUMENTS_BAD, SoftHSM's word for parameters
    0x054,  # CKR_FUNCTION_NOT_SUPPORTED
    0x070,  # CKR_MECHANISM_INVALID
    0x071,  # CKR_MECHANISM_PARAM_INVALID
)
"""What says of a mechanism or its parameters that the token does not have it; another one may work."""


class UserType:
    """CKU_ values; python-pkcs11 lacks the last."""

    SECURITY_OFFICER: Final = 0
    USER: Final = 1
    CONTEXT_SPECIFIC: Final = 2


class CkMechanism(Structure):
    """CK_MECHANISM."""

    _fields_ = (("mechanism", c_ulong), ("parameter", c_void_p), ("parameter_size", c_ulong))


class PssParameters(Structure):
    """CK_RSA_PKCS_PSS_PARAMS."""

    _fields_ = (("hash", c_ulong), ("mgf", c_ulong), ("salt_size", c_ulong))


class EddsaParameters(Structure):
    """CK_EDDSA_PARAMS: no hash before and no context unless they are set."""

    _fields_ = (("prehash", c_ubyte), ("context_size", c_ulong), ("context", c_void_p))


class OaepParameters(Structure):
    """CK_RSA_PKCS_OAEP_PARAMS, with the label as CKZ_DATA_SPECIFIED."""

    _fields_ = (
        ("hash", c_ulong),
        ("mgf", c_ulong),
        ("source", c_ulong),
        ("label", c_char_p),
        ("label_size", c_ulong),
    )


def mechanism(kind: int, parameters: Structure | None = None) -> CkMechanism:
    """A CK_MECHANISM, to be built once and used by any number of threads.

    Args:
        kind: The CKM_ number.
        parameters: Its parameters, which are kept alive with it.
    """
    built = CkMechanism(kind, None, 0)
    if parameters is not None:
        built.parameter = ctypes.addressof(parameters)
        built.parameter_size = ctypes.sizeof(parameters)
        built.kept = parameters
    return built


class _InitializeArguments(Structure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_ = (
        ("create_mutex", c_void_p),
        ("destroy_mutex", c_void_p),
        ("lock_mutex", c_void_p),
        ("unlock_mutex", c_void_p),
        ("flags", c_ulong),
        ("reserved", c_void_p),
    )


_COUNT: Final = 44  # CK_FUNCTION_LIST has 68 pointers, of which the first 44 reach to C_Sign


class _CkFunctionList(Structure):
    """The head of CK_FUNCTION_LIST."""

    _fields_ = (("version", c_ubyte * 2), ("functions", c_void_p * _COUNT))


class _Info(Structure):
    """CK_INFO."""

    _fields_ = (
        ("cryptoki_version", c_ubyte * 2),
        ("manufacturer", c_ubyte * 32),
        ("flags", c_ulong),
        ("description", c_ubyte * 32),
        ("library_version", c_ubyte * 2),
    )


class _SessionInfo(Structure):
    """CK_SESSION_INFO."""

    _fields_ = (("slot_id", c_ulong), ("state", c_ulong), ("flags", c_ulong), ("device_error", c_ulong))


class _TokenInfo(Structure):
    """CK_TOKEN_INFO."""

    _fields_ = (
        ("names", c_ubyte * 96),  # label, manufacturerID, model, serialNumber
        ("flags", c_ulong),
        ("maximum_sessions", c_ulong),
        ("sessions", c_ulong),
        ("maximum_read_write_sessions", c_ulong),
        ("read_write_sessions", c_ulong),
        ("maximum_pin_size", c_ulong),
        ("minimum_pin_size", c_ulong),
        ("memory", c_ulong * 4),
        ("versions_and_time", c_ubyte * 20),
    )


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """What CK_TOKEN_INFO tells of a token's limits (PKCS#11 3.0 section 3.2).

    Attributes:
        maximum_sessions: How many sessions one process may have; None where there is no limit, or it is
            not told.
        maximum_read_write_sessions: How many of them may change the token; None as above.
        minimum_pin_size: Octets of the shortest PIN.
        maximum_pin_size: Octets of the longest PIN.
    """

    maximum_sessions: int | None
    maximum_read_write_sessions: int | None
    minimum_pin_size: int
    maximum_pin_size: int


class FunctionList:
    """The functions of one module that are called directly.

    Attributes:
        shared: Whether everybody gets these functions; p11-kit gives everybody other ones, which know
            nothing of each other (see `tokensign.token.quirks`).

    Args:
        path: The module.
        address: Where its CK_FUNCTION_LIST is; None to ask the module.

    Raises:
        OSError: It is not a library.
        AttributeError: It is a library without C_GetFunctionList.
        PKCS11Error: It does not give its functions away.
    """

    def __init__(self, path: Path, address: int | None = None) -> None:
        self._library = ctypes.CDLL(str(path))  # never closed, so that the functions stay valid
        given = address or self._ask()
        self.shared = address is None and given == self._ask()
        functions = _CkFunctionList.from_address(given).functions

        def function(position: int, *arguments: Any) -> Callable[..., int]:  # noqa: ANN401 - ctypes' types
            prototype: Any = CFUNCTYPE(c_ulong, *arguments)
            return prototype(functions[position])  # type: ignore[no-any-return]  # ctypes has no better type

        self._initialize = function(0, c_void_p)
        self._finalize = function(1, c_void_p)
        self._get_info = function(2, POINTER(_Info))
        self._get_token_info = function(6, c_ulong, POINTER(_TokenInfo))
        self._init_token = function(9, c_ulong, c_char_p, c_ulong, c_char_p)
        self._init_pin = function(10, c_ulong, c_char_p, c_ulong)
        self._set_pin = function(11, c_ulong, c_char_p, c_ulong, c_char_p, c_ulong)
        self._close_all_sessions = function(14, c_ulong)
        self._get_session_info = function(15, c_ulong, c_void_p)
        self._login = function(18, c_ulong, c_ulong, c_char_p, c_ulong)
        self._logout = function(19, c_ulong)
        # The four of the hot path have no wrapper; their callers look at the return code themselves.
        self.C_DecryptInit = function(33, c_ulong, POINTER(CkMechanism), c_ulong)
        self.C_Decrypt = function(34, c_ulong, c_char_p, c_ulong, c_void_p, POINTER(c_ulong))
        self.C_SignInit = function(42, c_ulong, POINTER(CkMechanism), c_ulong)
        self.C_Sign = function(43, c_ulong, c_char_p, c_ulong, c_void_p, POINTER(c_ulong))

    def _ask(self) -> int:
        """C_GetFunctionList: the address of the functions."""
        get_function_list = self._library.C_GetFunctionList
        get_function_list.restype = c_ulong
        pointer = c_void_p()
        check(get_function_list(byref(pointer)))
        return pointer.value or 0

    def initialize(self, *, locking: bool) -> None:
        """C_Initialize.

        Args:
            locking: Whether several threads will call the module, which then locks with the system's means.

        Raises:
            CannotLockError: The module is not safe for threads.
            CryptokiAlreadyInitializedError: Somebody else in this process has initialised it.
            PKCS11Error: It fails otherwise.
        """
        arguments = _InitializeArguments(flags=OS_LOCKING_OK)
        check(self._initialize(byref(arguments) if locking else None))

    def finalize(self) -> None:
        """C_Finalize: the end of all sessions and logins of this process."""
        check(self._finalize(None))

    def manufacturer(self) -> str:
        """C_GetInfo: who made the module."""
        info = _Info()
        check(self._get_info(byref(info)))
        return bytes(info.manufacturer).rstrip(b" \0").decode("utf-8", "replace")

    def init_token(self, slot_id: int, so_pin: Pin | None, label: str) -> None:
        """C_InitToken.

        Args:
            slot_id: The slot of the token.
            so_pin: The PIN of the security officer, from now on; None: it is typed on the token's PIN pad.
            label: At most 32 octets of UTF-8.
        """
        check(self._init_token(slot_id, *_octets(so_pin), label.encode().ljust(LABEL_SIZE)))

    def init_pin(self, session: int, new: Pin | None) -> None:
        """C_InitPIN: the security officer sets the user's PIN; None: it is typed on the token's PIN pad."""
        check(self._init_pin(session, *_octets(new)))

    def set_pin(self, session: int, old: Pin | None, new: Pin | None) -> None:
        """C_SetPIN: whoever is logged in, or else the user, changes the PIN; None: both come from the pad."""
        check(self._set_pin(session, *_octets(old), *_octets(new)))

    def login(self, session: int, user_type: int, pin: Pin | None) -> None:
        """C_Login, once; None: the PIN is typed on the token's PIN pad."""
        check(self._login(session, user_type, *_octets(pin)))

    def logout(self, session: int) -> None:
        """C_Logout."""
        check(self._logout(session))

    def is_logged_in(self, session: int) -> bool:
        """C_GetSessionInfo: whether the user or the security officer is logged in."""
        info = _SessionInfo()
        check(self._get_session_info(session, byref(info)))
        return info.state not in _PUBLIC_STATES

    def token_limits(self, slot_id: int) -> TokenLimits:
        """C_GetTokenInfo: the limits of the token in a slot."""
        info = _TokenInfo()
        check(self._get_token_info(slot_id, byref(info)))
        return TokenLimits(
            info.maximum_sessions if info.maximum_sessions not in _NO_LIMIT else None,
            info.maximum_read_write_sessions if info.maximum_read_write_sessions not in _NO_LIMIT else None,
            info.minimum_pin_size,
            info.maximum_pin_size,
        )

    def close_all_sessions(self, slot_id: int) -> None:
        """C_CloseAllSessions."""
        check(self._close_all_sessions(slot_id))


def _octets(pin: Pin | None) -> tuple[Array[c_char] | None, int]:
    """A PIN as PKCS#11 takes it: the address of its own octets, not of a copy, and their number.

    A protected authentication path wants a null pointer (PKCS#11 2.40 section 5.6, C_Login).
    """
    if pin is None:
        return None, 0
    octets = pin.octets
    return (c_char * len(octets)).from_buffer(octets), len(octets)


def function_list_of(library: object) -> int:
    """The address of the CK_FUNCTION_LIST that python-pkcs11 uses.

    Args:
        library: A `pkcs11._pkcs11.lib` that has loaded its module. The address is its first field.
    """
    return c_void_p.from_address(id(library) + object.__basicsize__).value or 0


def check(return_code: int) -> None:
    """Raise what a return code means, unless it is CKR_OK."""
    if return_code:
        raise error(return_code)


def error(return_code: int) -> PKCS11Error:
    """The exception for a return code other than CKR_OK."""
    kind = _RETURN_CODES.get(return_code)
    return kind() if kind else PKCS11Error(f"return code {return_code:#x}")
