"""What one process shares about one token: the login, the sessions, and the way back after a removal.

PKCS#11 logs in the application, not a session: the first login counts for all sessions of the process,
and closing the session that logged in must come last. So there is one `Connection` a token and process,
however often the token is opened; each operation borrows a session from it for itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pkcs11
from pkcs11.attributes import ATTRIBUTE_TYPES, AttributeMapper, handle_ulong
from pkcs11.constants import Attribute
from pkcs11.exceptions import PKCS11Error

from tokensign.errors import DecryptionError, PinIncorrectError, TokenRemovedError, TokensignError
from tokensign.token.cryptoki import UserType
from tokensign.token.failures import BACK_HINT, STALE, SUSPICIOUS, is_gone, translated
from tokensign.token.info import TokenInfo
from tokensign.token.pin import Pin
from tokensign.token.tries import refused, require_tries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from pkcs11 import Session as Binding

    from tokensign.token.cryptoki import FunctionList
    from tokensign.token.module import Module
    from tokensign.token.pin import PinSource

__all__ = ["Borrowed", "Connection", "Credential", "Session", "connect", "is_connected", "release"]

_OUTPUT_SIZE: Final = 4627  # octets of the longest signature: ML-DSA-87 (FIPS 204 section 4)
_QUIET_TIMEOUT: Final = 10.0  # seconds that recovery waits for running operations to end
_REINITIALIZE_PAUSE: Final = (
    1.0  # seconds at the least between two while other tokens of the module are in use
)


@dataclass(frozen=True, slots=True)
class Credential:
    """How one who opened a token logs in.

    Attributes:
        source: Where the PIN comes from, when it is needed.
        allow_last_try: Whether the PIN may be tried when a wrong one would lock it.
    """

    source: PinSource
    allow_last_try: bool = False


class _Attributes(AttributeMapper):
    """python-pkcs11's attributes, without failing on key types and labels that it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.register_handler(Attribute.KEY_TYPE, *handle_ulong)
        pack, _ = ATTRIBUTE_TYPES[Attribute.LABEL]
        self.register_handler(Attribute.LABEL, pack, lambda octets: octets.decode("utf-8", "replace"))


_ATTRIBUTES: Final = _Attributes()


class Session:
    """A PKCS#11 session while one thread uses it.

    Attributes:
        binding: python-pkcs11's session, for everything that is not in a hurry.
        handle: Its number, for the direct calls.
        objects: Handles that were looked up in this session, by whatever key the looker chose.
        output: A buffer for the result of an operation.
        size: Octets of the result; set to the buffer's size before the call.
    """

    __slots__ = ("_functions", "binding", "epoch", "handle", "objects", "output", "read_write", "size")

    def __init__(self, binding: Binding, functions: FunctionList, epoch: int, *, read_write: bool) -> None:
        self._functions = functions
        self.epoch = epoch
        self.read_write = read_write
        self.output = ctypes.create_string_buffer(_OUTPUT_SIZE)
        self.size = ctypes.c_ulong(_OUTPUT_SIZE)
        self.adopt(binding)

    def adopt(self, binding: Binding) -> None:
        """Stand for a session of python-pkcs11 that was just opened."""
        self.binding = binding
        self.handle: int = binding.handle  # type: ignore[attr-defined]  # the stub leaves it out
        self.objects: dict[Any, int] = {}

    def require_valid(self) -> None:
        """Make sure that the session lives, before python-pkcs11 searches in it.

        When C_FindObjectsInit fails, python-pkcs11 ends a search that never began, and the failure of that is
        printed with a traceback.

        Raises:
            PKCS11Error: It does not.
        """
        self._functions.is_logged_in(self.handle)

    def rewind(self) -> None:
        """Make the whole buffer available to the next call."""
        self.size.value = _OUTPUT_SIZE

    def take_output(self) -> bytes:
        """The result of the last call."""
        return ctypes.string_at(self.output, self.size.value)

    def close(self) -> None:
        """Close it; one that is dead already is left alone."""
        with contextlib.suppress(PKCS11Error):
            self.binding.close()


class Connection:
    """The shared state about one token. Safe for threads.

    Attributes:
        module: The token's module.
        info: The token, as it was when it was last found.
        remembered: What was found out about the token's keys, such as the OAEP parameters they take.

    Args:
        module: The token's module.
        info: The token.
    """

    def __init__(self, module: Module, info: TokenInfo) -> None:
        self.module = module
        self.info = info
        self.remembered: dict[Any, Any] = {}
        self._users = 0
        self._lock = threading.RLock()  # for login, recovery and close; a running operation never takes it
        self._idle: dict[bool, deque[Session]] = {False: deque(), True: deque()}
        self._anchor: Session | None = None  # the session that logged in
        self._pin: Pin | None = None
        self._pin_refused = False
        self._logged_in = False
        self._lost = False
        self._module_epoch = module.epoch
        self._epoch = 0  # grows when the handles that sessions remember are not to be trusted any more
        self._pid = os.getpid()

    def borrow(self, doing: str, credential: Credential | None, *, read_write: bool = False) -> Borrowed:
        """A session for one operation, as a context manager.

        PKCS#11's exceptions in the block become errors of tokensign, after which the session is not used
        again. Blocks of one thread do not nest.

        Args:
            doing: What is done, for messages.
            credential: How to log in; None for what everybody may do.
            read_write: Whether the token is changed.

        Raises:
            TokenRemovedError: The token is gone. When it is back, the next operation finds it.
            PinError: It wants a PIN and does not get a right one.
            TokenError: See `tokensign.token.failures`.
        """
        return Borrowed(self, doing, credential, read_write=read_write)

    @property
    def lost(self) -> bool:
        """Whether the sessions are dead and the next operation has to find the token again."""
        return self._lost or self._module_epoch != self.module.epoch

    def require_token(self) -> None:
        """Make sure that a search found nothing because there is nothing; SoftHSM does not say it otherwise.

        To be called inside the block of `borrow`.

        Raises:
            TokenNotPresent: The token is gone, or somebody else logged it out.
        """
        if not self._intact():
            raise pkcs11.TokenNotPresent

    def forget_objects(self) -> None:
        """Let no session use a handle that it looked up before now; called when objects were deleted."""
        self._epoch += 1

    def adopt_pin(self, pin: Pin) -> None:
        """Remember a PIN that was just changed, where the old one was remembered."""
        with self._lock:
            if self._pin is not None:
                self._pin.wipe()
                self._pin = Pin(pin.reveal())

    def require_tries_for(self, credential: Credential) -> None:
        """Refuse a context-specific login that could lock the PIN.

        To be called inside the block of `borrow`.

        Raises:
            PinLockedError: The PIN is locked, or one try is left and that is not allowed.
        """
        info = TokenInfo.read(self.module.slot(self.info.slot_id))
        require_tries(info, allow_last_try=credential.allow_last_try)

    def log_in_for(self, session: Session, credential: Credential) -> None:
        """The context-specific login that a key with CKA_ALWAYS_AUTHENTICATE wants for each operation.

        To be called between the operation's Init and the operation, inside the block of `borrow`.

        Raises:
            PinError: The PIN is refused, and so is not tried again.
        """
        pin = self._usable_pin(credential, f"the key on the token {self.info.label}")
        try:
            self.module.functions.login(session.handle, UserType.CONTEXT_SPECIFIC, pin)
        except PKCS11Error as error:
            self._raise_refused(error)
            raise

    # What follows is for Borrowed; all but `prepare` is called inside the gate.

    def prepare(self, credential: Credential | None) -> None:
        """Find the token again and log in, where that is needed."""
        if self._pid != os.getpid():
            self.module.require_process()
        if self.lost:
            self._recover()
        if credential and not self._logged_in:
            self._log_in(credential)

    def take(self, *, read_write: bool) -> Session:
        """An idle session, or a new one."""
        if self.lost:  # between `prepare` and now
            raise pkcs11.SessionClosed
        idle = self._idle[read_write]
        while idle:
            try:
                session = idle.pop()
            except IndexError:  # another thread was faster
                break
            if session.epoch == self._epoch:
                return session
            session.close()
        return self._open(read_write=read_write)

    def give_back(self, session: Session) -> None:
        """Keep a session for the next operation."""
        if session.epoch == self._epoch and self._users:
            self._idle[session.read_write].append(session)
        else:
            session.close()

    def discard(self, session: Session, error: BaseException) -> None:
        """Let a session go in which something failed."""
        if isinstance(error, PKCS11Error):
            self.notice(error)
        if not self._lost:
            session.close()

    def notice(self, error: PKCS11Error) -> None:
        """Find out whether a failure means that the token or an object on it is gone."""
        if self._means_loss(error):
            self._lost = True
        elif isinstance(error, STALE):
            self.forget_objects()

    def explain(self, error: PKCS11Error, doing: str) -> TokensignError:
        """The error to raise for one of PKCS#11, knowing whether the token is gone."""
        if self._lost:
            return TokenRemovedError(
                f"cannot {doing}: the token {self.info.label} went away or was reset", hint=BACK_HINT
            )
        return translated(error, doing)

    def renew(self, session: Session) -> None:
        """Put a new PKCS#11 session in the place of one that is spoiled."""
        session.close()
        session.adopt(self._open_binding(read_write=session.read_write))

    def _means_loss(self, error: PKCS11Error) -> bool:
        if is_gone(error) or (isinstance(error, pkcs11.UserNotLoggedIn) and self._logged_in):
            return True
        return isinstance(error, SUSPICIOUS) and not self._intact()

    def _intact(self) -> bool:
        """Whether the token is in its slot, and our login still counts."""
        try:
            if self._anchor and not self.module.functions.is_logged_in(self._anchor.handle):
                return False
            return TokenInfo.read(self.module.slot(self.info.slot_id)).identity == self.info.identity
        except (PKCS11Error, TokensignError):
            return False

    def _open(self, *, read_write: bool) -> Session:
        binding = self._open_binding(read_write=read_write)
        return Session(binding, self.module.functions, self._epoch, read_write=read_write)

    def _open_binding(self, *, read_write: bool) -> Binding:
        token = self.module.slot(self.info.slot_id).get_token()
        return token.open(rw=read_write, attribute_mapper=_ATTRIBUTES)

    # --- login

    def _log_in(self, credential: Credential) -> None:
        doing = f"log in to the token {self.info.label}"
        with self._lock:
            if self._logged_in:
                return
            if not self.info.login_required:
                self._logged_in = True
                return
            with self.module.gate.shared(), self._noticing(doing):
                info = TokenInfo.read(self.module.slot(self.info.slot_id))
            require_tries(info, allow_last_try=credential.allow_last_try)
            pin = self._usable_pin(credential, f"the token {self.info.label}")
            with self.module.gate.shared(), self._noticing(doing):
                anchor = self._open(read_write=False)
                try:
                    self.module.functions.login(anchor.handle, UserType.USER, pin)
                except pkcs11.UserAlreadyLoggedIn:  # another part of this process did, and will log out
                    anchor.close()
                except PKCS11Error as error:
                    anchor.close()
                    self._raise_refused(error)
                    raise
                else:
                    self._anchor = anchor
            self._pin = Pin(pin.reveal())  # our own copy, since we wipe it
            self._logged_in = True

    def _usable_pin(self, credential: Credential, purpose: str) -> Pin:
        if self._pin_refused:
            raise PinIncorrectError(
                f"the PIN for the token {self.info.label} was refused before and is not tried again",
                hint="open the token again with the right PIN",
            )
        return self._pin or credential.source.get(purpose)

    def _raise_refused(self, error: PKCS11Error) -> None:
        """Raise what a failed login says about the PIN, with the counter flags as they are now."""
        info = self.info
        with contextlib.suppress(PKCS11Error, TokensignError):
            info = TokenInfo.read(self.module.slot(self.info.slot_id))
        meaning = refused(error, info.label, info.pin_state)
        if meaning is None:
            return
        self._pin_refused = True
        if self._pin:
            self._pin.wipe()
            self._pin = None
        raise meaning from error

    @contextlib.contextmanager
    def _noticing(self, doing: str) -> Iterator[None]:
        try:
            yield
        except PKCS11Error as error:
            self.notice(error)
            raise self.explain(error, doing) from error

    # --- recovery

    def _recover(self) -> None:
        """Find the token again, and leave the login to the operation that wants it.

        Some modules (SoftHSM) see a token that came back only after C_Finalize and C_Initialize. That ends
        the sessions of the module's other tokens too; their next operation recovers as well.
        """
        with self._lock:
            if not self.lost:
                return
            with self.module.gate.exclusive(_QUIET_TIMEOUT):
                self._epoch += 1
                self._anchor = None
                self._logged_in = False
                for idle in self._idle.values():
                    idle.clear()
                if self._module_epoch == self.module.epoch:
                    with contextlib.suppress(PKCS11Error):
                        self.module.functions.close_all_sessions(self.info.slot_id)
                found = self._find()
                if found is None and self._may_reinitialize():
                    self.module.reinitialize()
                    found = self._find()
                if found is None:
                    self._lost = True
                    raise TokenRemovedError(f"the token {self.info.label} is gone", hint=BACK_HINT)
                self.info = found
                self._module_epoch = self.module.epoch
                self._lost = False

    def _find(self) -> TokenInfo | None:
        return next((one for one in self.module.tokens() if one.identity == self.info.identity), None)

    def _may_reinitialize(self) -> bool:
        alone = all(
            other is self or other.lost
            for other in list(_connections.values())
            if other.module is self.module
        )
        return alone or time.monotonic() - self.module.reinitialized > _REINITIALIZE_PAUSE

    # --- the end

    def open(self) -> None:
        """Count one more user, who may give the PIN anew."""
        with self._lock:
            self._users += 1
            self._pin_refused = False

    def close(self) -> bool:
        """Count one user less. The last one, for whom it is true, closes all sessions and logs out."""
        with self._lock:
            self._users -= 1
            if self._users:
                return False
            if self._pin:
                self._pin.wipe()
                self._pin = None
            if self._pid != os.getpid() or self.lost:
                return True
            with self.module.gate.shared():
                for idle in self._idle.values():
                    while idle:
                        idle.pop().close()
                if self._anchor:
                    with contextlib.suppress(PKCS11Error):
                        self.module.functions.logout(self._anchor.handle)
                    self._anchor.close()
                    self._anchor = None
            self._logged_in = False
            return True


class Borrowed:
    """The block in which a thread has a session for itself."""

    __slots__ = ("_connection", "_credential", "_doing", "_read_write", "_session")

    def __init__(
        self, connection: Connection, doing: str, credential: Credential | None, *, read_write: bool
    ) -> None:
        self._connection = connection
        self._doing = doing
        self._credential = credential
        self._read_write = read_write

    def __enter__(self) -> Session:
        connection = self._connection
        connection.prepare(self._credential)
        connection.module.gate.enter()
        try:
            self._session = connection.take(read_write=self._read_write)
        except BaseException as error:
            connection.module.gate.leave()
            if isinstance(error, PKCS11Error):
                with connection.module.gate.shared():
                    connection.notice(error)
                raise connection.explain(error, self._doing) from error
            raise
        return self._session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        connection = self._connection
        try:
            if error is None or isinstance(error, DecryptionError):  # the operation ended in good order
                connection.give_back(self._session)
            else:
                connection.discard(self._session, error)
        finally:
            connection.module.gate.leave()
        if isinstance(error, PKCS11Error):
            raise connection.explain(error, self._doing) from error


_connections: dict[tuple[str, ...], Connection] = {}
_connecting = threading.Lock()


def connect(module: Module, info: TokenInfo) -> Connection:
    """The connection of this process to a token; each `connect` needs its `release`."""
    key = (str(module.path), *info.identity)
    with _connecting:
        connection = _connections.get(key)
        if connection is None:
            connection = _connections[key] = Connection(module, info)
        connection.open()
        return connection


def release(connection: Connection) -> None:
    """The end of a `connect`."""
    with _connecting:
        if connection.close():
            for key, value in list(_connections.items()):
                if value is connection:
                    del _connections[key]


def is_connected(module: Module, info: TokenInfo) -> bool:
    """Whether this process has the token open."""
    return (str(module.path), *info.identity) in _connections


def _forget_after_fork() -> None:
    global _connections, _connecting  # the lock may have been held by a thread that is not here
    _connections, _connecting = {}, threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
