"""PKCS#11 modules: finding, loading and initialising them so that threads may use them.

python-pkcs11 initialises a module without asking it to lock, and releases the GIL in every call; two
threads then crash SoftHSM. So the module is initialised here with CKF_OS_LOCKING_OK, or, when it cannot
lock, or must not, used by one thread at a time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pkcs11
from pkcs11 import _pkcs11
from pkcs11.constants import MechanismFlag
from pkcs11.exceptions import PKCS11Error
from pkcs11.mechanisms import Mechanism

from tokensign.errors import ModuleError, TokenNotFoundError
from tokensign.token.cryptoki import (
    MECHANISMS,
    CannotLockError,
    CryptokiAlreadyInitializedError,
    FunctionList,
    function_list_of,
)
from tokensign.token.deadlines import OPERATION_TIMEOUT
from tokensign.token.failures import failures, module_error
from tokensign.token.gate import Gate
from tokensign.token.info import MechanismInfo, TokenInfo
from tokensign.token.quirks import Quirk, maker_has_quirk
from tokensign.token.turns import until_answered, while_nobody_logs_in

if TYPE_CHECKING:
    from pkcs11 import Slot

__all__ = ["Module", "find_module", "load_module", "modules_in_usual_places"]

USUAL_PLACES: Final = (  # SoftHSM first, then p11-kit's proxy to all that is configured, then smartcards
    "/usr/lib/softhsm/libsofthsm2.so",  # Debian, Ubuntu
    "/usr/lib64/pkcs11/libsofthsm2.so",  # Fedora
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",  # macOS
    "/usr/local/lib/softhsm/libsofthsm2.so",
    f"/usr/lib/{os.uname().machine}-linux-gnu/p11-kit-proxy.so",
    "/usr/lib64/p11-kit-proxy.so",
    "/opt/homebrew/lib/p11-kit-proxy.dylib",
    f"/usr/lib/{os.uname().machine}-linux-gnu/opensc-pkcs11.so",
    "/usr/lib64/pkcs11/opensc-pkcs11.so",
    "/Library/OpenSC/lib/opensc-pkcs11.so",
    "/opt/homebrew/lib/opensc-pkcs11.so",
)


def find_module(explicit: Path | str | None = None) -> Path:
    """The module to use: the one that was named, or the first in the usual places.

    Args:
        explicit: A path, or None to look for SoftHSM, p11-kit and OpenSC.

    Raises:
        ModuleError: It does not exist, or none was found.
    """
    if explicit is not None:
        path = Path(explicit).expanduser()
        if not path.exists():
            raise ModuleError(
                f"there is no PKCS#11 module {explicit}", hint="check --module or TOKENSIGN_MODULE"
            )
        return path
    there = modules_in_usual_places()
    if not there:
        raise ModuleError(
            "no PKCS#11 module was found in the usual places",
            hint="install softhsm2 or opensc, or name the module with --module or TOKENSIGN_MODULE",
        )
    return there[0]


def modules_in_usual_places() -> list[Path]:
    """The modules of SoftHSM, p11-kit and OpenSC that are installed, the default one first."""
    return [Path(place) for place in USUAL_PLACES if Path(place).exists()]


class _LockingLibrary(_pkcs11.lib):
    """python-pkcs11's library, initialised our way.

    Args:
        so: The path of the module.
    """

    _process: int | None = None  # who initialised it; nobody yet
    _owned = False  # whether it was us and not another part of the process

    def __init__(self, so: str) -> None:
        self._path = Path(so)
        self.functions = FunctionList(self._path)
        self.serial = False
        super().__init__(so)

    @property
    def initialized(self) -> bool:  # type: ignore[override]  # the base has an attribute, which stays False
        """Whether this process has initialised it; a fork has not."""
        return self._process == os.getpid()

    def initialize(self) -> None:
        """C_Initialize with locking; without it where the module refuses or must not, which sets `serial`."""
        if self.initialized:
            return
        self._owned = True
        if not self.functions.shared:  # p11-kit: what is initialised must be what python-pkcs11 uses
            self.functions = FunctionList(self._path, function_list_of(self))
        try:
            until_answered(lambda: self.functions.initialize(locking=not self.serial))  # many start at a time
            if not self.serial and self._must_not_lock():
                self.functions.finalize()
                self.serial = True
                self.functions.initialize(locking=False)
        except CannotLockError:
            self.serial = True
            self.functions.initialize(locking=False)
        except CryptokiAlreadyInitializedError:
            self.serial = True  # who knows with which arguments
            self._owned = False
        self._process = os.getpid()

    def _must_not_lock(self) -> bool:
        return maker_has_quirk(Quirk.LOCK_STAYS_TAKEN, self.functions.manufacturer())

    def finalize(self) -> None:
        """C_Finalize, if this process initialised it here."""
        if self.initialized and self._owned:
            self.functions.finalize()
        self._process = None

    def reinitialize(self) -> None:
        """Down and up again; every session and login of this process ends."""
        self.finalize()
        self.initialize()

    def unload(self) -> None:
        """C_Finalize, then close the library; python-pkcs11 calls it when the object dies."""
        with contextlib.suppress(PKCS11Error):
            self.finalize()
        super().unload()


class Module:
    """A PKCS#11 module, loaded and initialised. `load_module` makes it; there is one a path and process.

    Safe for threads.

    Attributes:
        path: Where it was loaded from.
        functions: What is called directly.
        gate: Every call to the module is made inside of it.
        epoch: Grows with each reinitialisation, which ends every session.
        reinitialized: When that was, on the monotonic clock.
        is_up: Whether it is initialised; not after a reinitialisation that failed, which may be tried again.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self.epoch = 0
        self.reinitialized = float("-inf")
        self.is_up = True
        self._pid = os.getpid()
        self.gate = Gate(str(path), timeout=timeout)
        with while_nobody_logs_in(path), self.gate.shared():
            try:
                FunctionList(path)  # tells apart what is wrong with a file, other than python-pkcs11
                self._library = _LockingLibrary(str(path))
            except (OSError, AttributeError, PKCS11Error) as error:
                raise module_error(path, error) from error
        # It lives as long as the process, also in forked ones: in an interpreter that is being taken apart,
        # its destructor finds no methods any more and complains.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._library))
        self.functions = self._library.functions
        if self._library.serial:
            self.gate = Gate(str(path), serial=True, timeout=timeout)
        pkcs11._loaded[str(path)] = self._library  # noqa: SLF001 - so that pkcs11.lib() finds it initialised

    @property
    def description(self) -> str:
        """What the module says of itself."""
        return self._library.library_description

    @property
    def manufacturer(self) -> str:
        """Who made it."""
        return self._library.manufacturer_id

    @property
    def library_version(self) -> tuple[int, int]:
        """Its version, major and minor."""
        return self._library.library_version

    @property
    def cryptoki_version(self) -> tuple[int, int]:
        """The version of PKCS#11 that it follows."""
        return self._library.cryptoki_version

    @property
    def locks(self) -> bool:
        """Whether threads use the module at the same time; otherwise they wait for each other."""
        return not self._library.serial

    @property
    def properties(self) -> dict[str, str | bytes | int | None]:
        """What `tokensign.uri.KeyUri.matches` compares."""
        return {
            "library_manufacturer": self.manufacturer,
            "library_description": self.description,
            "library_version": ".".join(map(str, self.library_version)),
        }

    def require_process(self) -> None:
        """Refuse to go on in a forked process, whose copy of the module's state is not its own.

        Raises:
            ModuleError: The process was forked after the module was loaded.
        """
        if self._pid != os.getpid():
            raise ModuleError(
                f"the PKCS#11 module {self.path} was loaded before this process was forked",
                hint="start worker processes with spawn, or open the token after the fork",
            )

    def tokens(self, *, uninitialized: bool = False) -> list[TokenInfo]:
        """The tokens that are there now.

        Args:
            uninitialized: Also those that `initialize_token` can set up.

        Raises:
            ModuleError: The module cannot tell.
        """
        self.require_process()
        found = []
        with self.gate.shared(), failures(f"list the slots of {self.path}"):
            for slot in self._library.get_slots():
                info = _answer(slot)
                if info and (info.initialized or uninitialized):
                    found.append(info)
        return found

    def read_token(self, slot_id: int) -> TokenInfo:
        """The token in a slot as it is now. To be called inside the gate.

        Raises:
            TokenNotFoundError: There is no such slot.
            PKCS11Error: There is no token in it, or it does not answer.
        """
        return until_answered(lambda: TokenInfo.read(self.slot(slot_id)))

    def slot(self, slot_id: int) -> Slot:
        """The slot with a number. To be called inside the gate.

        Raises:
            TokenNotFoundError: There is none.
        """
        for slot in self._library.get_slots():
            if slot.slot_id == slot_id:
                return slot
        raise TokenNotFoundError(f"there is no slot {slot_id} any more")

    def mechanisms(self, slot_id: int) -> list[MechanismInfo]:
        """What a slot can do, by name.

        Raises:
            TokenNotFoundError: There is no such slot.
            ModuleError: The module cannot tell.
        """
        self.require_process()
        with self.gate.shared(), failures(f"list the slots of {self.path}"):
            slot = self.slot(slot_id)
            listed = [slot.get_mechanism_info(kind) for kind in slot.get_mechanisms()]
        return sorted(
            (
                MechanismInfo(
                    name=_name(info.mechanism),
                    minimum_size=info.min_key_length or 0,
                    maximum_size=info.max_key_length or 0,
                    uses=frozenset(
                        flag.name.lower() for flag in MechanismFlag if flag.name and info.flags & flag
                    ),
                )
                for info in listed
            ),
            key=lambda info: info.name,
        )

    def reinitialize(self) -> None:
        """Take the module down and up again, to be called with the gate held exclusively.

        Raises:
            ModuleError: It does not come up, or another part of the process initialised it.
        """
        self.epoch += 1
        self.reinitialized = time.monotonic()
        self.is_up = False
        try:
            with while_nobody_logs_in(self.path):
                self._library.reinitialize()
        except PKCS11Error as error:
            raise module_error(self.path, error) from error
        self.is_up = True


def _name(mechanism: int) -> str:
    """A mechanism's name without "CKM_"; of one that nobody here knows, its number."""
    known = MECHANISMS.get(mechanism, mechanism)
    return known.name if isinstance(known, Mechanism) else f"{known:#x}"


def _answer(slot: Slot) -> TokenInfo | None:
    """The token in a slot; None without one, or when it does not answer."""
    try:
        return until_answered(lambda: TokenInfo.read(slot))
    except PKCS11Error:
        return None


_modules: dict[Path, Module] = {}
_loading = threading.Lock()


def load_module(path: Path | str | None = None, timeout: float = OPERATION_TIMEOUT) -> Module:
    """Load a module, or give the one that this process has loaded.

    Args:
        path: See `find_module`.
        timeout: Seconds after which an operation that has not come back is taken for hanging; see
            `tokensign.token.gate`. The one that loads the module decides.

    Raises:
        ModuleError: There is none, it is no PKCS#11 module, it cannot be initialised, or it hangs.
    """
    found = find_module(path).resolve()
    if not _loading.acquire(timeout=timeout):
        raise ModuleError("a PKCS#11 module that another thread loads hangs", hint="restart this program")
    try:
        if found not in _modules:
            _modules[found] = Module(found, timeout)
        return _modules[found]
    finally:
        _loading.release()


def _forget_after_fork() -> None:
    """In the child nothing is loaded: its modules need a C_Initialize of their own."""
    global _modules, _loading  # the lock may have been held by a thread that is not here
    _modules, _loading = {}, threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
