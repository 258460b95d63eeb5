"""What one process shares about one token: its login, its sessions, and the way back after a removal.

PKCS#11 logs in the application, not a session: the first login counts for all sessions of the process,
and closing the session that logged in must come last. So there is one `Connection` a token and process,
however often the token is opened; each operation borrows a session from it for itself.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import pkcs11
from pkcs11.exceptions import PKCS11Error

from tokensign.errors import ModuleError, TokenRemovedError, TokensignError
from tokensign.token.borrowing import Borrowed
from tokensign.token.deadlines import PERSON_TIMEOUT
from tokensign.token.failures import BACK_HINT, STALE, SUSPICIOUS, UNSURE, is_gone, translated
from tokensign.token.login import Login
from tokensign.token.quirks import Quirk, has_quirk
from tokensign.token.session import ATTRIBUTES, Session
from tokensign.token.state import TokenState
from tokensign.token.tries import require_tries
from tokensign.token.turns import until_answered, while_nobody_logs_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkcs11 import Session as Binding

    from tokensign.token.info import TokenInfo
    from tokensign.token.login import Credential
    from tokensign.token.module import Module
    from tokensign.token.pin import Pin

__all__ = ["Connection", "connect", "is_connected", "release"]

_END_PAUSE: Final = 0.5  # seconds between two looks whether a connection that is being closed hangs
_IDLE_TIME: Final = 0.25  # seconds without an operation; nobody pulls a card out and puts it back faster
_SETTLING_TIME: Final = 0.5  # seconds until a removal is noticed; pcscd looks every 0.4 s
_SETTLING_PAUSE: Final = 0.05  # seconds between two looks, which are commands to the card
_QUIET_TIMEOUT: Final = 10.0  # seconds that recovery waits for running operations to end
_REINITIALIZE_PAUSE: Final = (
    1.0  # seconds at the least between two while other tokens of the module are in use
)


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
        self.users = 1  # guarded by _connecting; at 0 it is being closed
        self._ended = threading.Event()
        self._lock = threading.RLock()  # for login, recovery and close; a running operation never takes it
        self._idle: dict[bool, deque[Session]] = {False: deque(), True: deque()}
        self._login = Login(module)
        self._lost = False
        self._used = time.monotonic()  # when it was last known to work
        self._module_epoch = module.epoch
        self._epoch = 0  # grows when the handles that sessions remember are not to be trusted any more
        self._pid = os.getpid()

    def borrow(
        self, doing: str, credential: Credential | None, *, read_write: bool = False, on_pad: bool = False
    ) -> Borrowed:
        """A session for one operation, as a context manager.

        PKCS#11's exceptions in the block become errors of tokensign, after which the session is not used
        again. Blocks of one thread do not nest.

        Args:
            doing: What is done, for messages.
            credential: How to log in; None for what everybody may do.
            read_write: Whether the token is changed.
            on_pad: Whether somebody types a PIN on the token's PIN pad meanwhile.

        Raises:
            TokenRemovedError: The token is gone. When it is back, the next operation finds it.
            PinError: It wants a PIN and does not get a right one.
            TokenError: See `tokensign.token.failures`.
        """
        return Borrowed(self, doing, credential, read_write=read_write, on_pad=on_pad)

    @property
    def state(self) -> TokenState:
        """What the next operation meets."""
        if self._pid != os.getpid():
            return TokenState.FORKED
        if not self.users:
            return TokenState.CLOSED
        if self.module.gate.hangs:
            return TokenState.HUNG
        if self.lost:
            return TokenState.LOST
        if self._login.done:
            return TokenState.LOGGED_IN
        return TokenState.REFUSED if self._login.refused else TokenState.OPEN

    @property
    def lost(self) -> bool:
        """Whether the sessions are dead and the next operation has to find the token again."""
        return self._lost or self._module_epoch != self.module.epoch

    def require_token(self, failure: PKCS11Error | None = None) -> None:
        """Make sure that a search found nothing, or that an operation failed, though the token is there.

        Not every module says it otherwise. To be called inside the block of `borrow`.

        Args:
            failure: What the operation answered.

        Raises:
            TokenNotPresent: The token is gone, or somebody else logged it out.
        """
        if not self._intact(failure):
            raise pkcs11.TokenNotPresent

    def is_there(self) -> bool:
        """Whether the token is in its slot, and our login still counts. Called inside the gate."""
        try:  # the token first: OpenSC notices while it lists the slots that sessions have ended
            there = self.module.read_token(self.info.slot_id)
            return there.identity == self.info.identity and self._login.counts()
        except (PKCS11Error, TokensignError):
            return False

    def forget_objects(self) -> None:
        """Let no session use a handle that it looked up before now; called when objects were deleted."""
        self._epoch += 1

    def adopt_pin(self, pin: Pin | None) -> None:
        """Remember a PIN that was just changed, where the old one was remembered."""
        with self._lock:
            self._login.adopt(pin)

    def pin_for_operation(self, credential: Credential, doing: str) -> Pin | None:
        """The PIN for one operation of a key with CKA_ALWAYS_AUTHENTICATE, to be given to `log_in_for`.

        To be called outside the block of `borrow`, because a person may be asked.

        Args:
            credential: How to log in.
            doing: What is done, for the person and for messages.

        Raises:
            PinLockedError: The PIN is locked, or one try is left and that is not allowed.
            PinError: There is none, or it was refused before.
        """
        self.prepare(credential)
        with self.module.gate.shared(), self._noticing(doing):
            info = self.module.read_token(self.info.slot_id)
        require_tries(info, allow_last_try=credential.allow_last_try)
        return self._login.pin_for_operation(credential, info, doing)

    def log_in_for(self, session: Session, pin: Pin | None) -> None:
        """The context-specific login that a key with CKA_ALWAYS_AUTHENTICATE wants for each operation.

        To be called between the operation's Init and the operation, inside the block of `borrow`.

        Raises:
            PinError: The PIN is refused, and so is not tried again.
        """
        self._login.log_in_for_operation(session, self.info, pin)

    # What follows is for Borrowed; all but `prepare` is called inside the gate.

    def prepare(self, credential: Credential | None) -> None:
        """Find the token again and log in, where that is needed."""
        if self._pid != os.getpid():
            self.module.require_process()
        if time.monotonic() - self._used > _IDLE_TIME:
            self._look_after_pause()
        if self.lost:
            self._recover()
        if credential and not self._login.done:
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
        self._used = time.monotonic()
        if session.epoch == self._epoch and self.users:
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
        if is_gone(error) or (isinstance(error, pkcs11.UserNotLoggedIn) and self._login.done):
            return True
        return isinstance(error, SUSPICIOUS) and not self._intact(error)

    def _intact(self, failure: PKCS11Error | None = None) -> bool:
        """Whether the token is in its slot, and our login still counts.

        Args:
            failure: Why it is asked. Where that may be a removal which the module has not noticed yet, it is
                asked until it must have.
        """
        late = isinstance(failure, UNSURE) and has_quirk(Quirk.NOTICES_LATE, self.module, self.info)
        end = time.monotonic() + (_SETTLING_TIME if late else 0.0)
        while self.is_there():
            if time.monotonic() >= end:
                return True
            time.sleep(_SETTLING_PAUSE)
        return False

    def _look_after_pause(self) -> None:
        """See whether the token was away meanwhile; then it is lost, before anything is asked of it."""
        with self._locked():
            if self.lost or time.monotonic() - self._used <= _IDLE_TIME:
                return
            with self.module.gate.shared():
                self._lost = not (self.is_there() and self._idle_sessions_live())
            self._used = time.monotonic()

    def _idle_sessions_live(self) -> bool:
        for idle in self._idle.values():
            try:
                self.module.functions.is_logged_in(idle[-1].handle)
            except IndexError:  # there is none
                continue
            except PKCS11Error:
                return False
        return True

    def _open(self, *, read_write: bool) -> Session:
        binding = self._open_binding(read_write=read_write)
        return Session(binding, self.module.functions, self._epoch, read_write=read_write)

    def _open_binding(self, *, read_write: bool) -> Binding:
        try:
            return self._attempt_to_open(read_write=read_write)
        except pkcs11.SessionCount:
            if not self._close_idle():
                raise
            return self._attempt_to_open(read_write=read_write)

    def _attempt_to_open(self, *, read_write: bool) -> Binding:
        def attempt() -> Binding:
            token = self.module.slot(self.info.slot_id).get_token()
            return token.open(rw=read_write, attribute_mapper=ATTRIBUTES)

        return until_answered(attempt)

    def _close_idle(self) -> int:
        """Close the sessions that nobody uses; how many those were."""
        closed = 0
        for idle in self._idle.values():
            with contextlib.suppress(IndexError):  # there is none, or another thread was faster
                while True:
                    idle.pop().close()
                    closed += 1
        return closed

    # --- login

    def _log_in(self, credential: Credential) -> None:
        doing = f"log in to the token {self.info.label}"
        with self._locked():
            if self._login.done:
                return
            if not self.info.login_required:
                self._login.done = True
                return
            with self.module.gate.shared(), self._noticing(doing):
                info = self.module.read_token(self.info.slot_id)
            require_tries(info, allow_last_try=credential.allow_last_try)
            pin = self._login.pin_for_login(credential, info)
            on_pad = info.protected_authentication_path
            turn = contextlib.nullcontext() if on_pad else while_nobody_logs_in(self.module.path)
            with turn, self.module.gate.shared(PERSON_TIMEOUT if on_pad else 0.0), self._noticing(doing):
                self._login.log_in(self._open(read_write=False), info, pin)

    @contextlib.contextmanager
    def _noticing(self, doing: str) -> Iterator[None]:
        try:
            yield
        except PKCS11Error as error:
            self.notice(error)
            raise self.explain(error, doing) from error

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return self.module.gate.holding(self._lock)

    # --- recovery

    def _recover(self) -> None:
        """Find the token again, and leave the login to the operation that wants it.

        Some modules (SoftHSM) see a token that came back only after C_Finalize and C_Initialize. That ends
        the sessions of the module's other tokens too; their next operation recovers as well.
        """
        with self._locked():
            if not self.lost:
                return
            with self.module.gate.exclusive(_QUIET_TIMEOUT):
                self._epoch += 1
                self._login.lose()
                for idle in self._idle.values():
                    idle.clear()
                if self._module_epoch == self.module.epoch:
                    with contextlib.suppress(PKCS11Error):
                        self.module.functions.close_all_sessions(self.info.slot_id)
                found = self._find() if self.module.is_up else None
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

    def allow_pin(self) -> None:
        """Let a PIN be tried again after one was refused."""
        self._login.allow()

    def end(self) -> None:
        """Close all sessions, log out and forget the PIN.

        A module that hangs is left as it is: to call it would hang as well.
        """
        self._login.forget_pin()
        try:
            if self._pid != os.getpid() or self.lost:
                return
            with contextlib.suppress(ModuleError), self._locked(), self.module.gate.shared():
                self._close_idle()
                self._login.end()
        finally:
            self._ended.set()

    def wait_for_end(self) -> None:
        """Wait until the thread that closes it is done.

        Raises:
            ModuleError: The module hangs.
        """
        while not self._ended.wait(_END_PAUSE):
            self.module.gate.require_no_hang()


_connections: dict[tuple[str, ...], Connection] = {}
_connecting = threading.Lock()


def connect(module: Module, info: TokenInfo) -> Connection:
    """The connection of this process to a token; each `connect` needs its `release`."""
    key = (str(module.path), *info.identity)
    while True:
        with _connecting:
            connection = _connections.get(key)
            if connection is None:
                connection = _connections[key] = Connection(module, info)
                return connection
            if connection.users:
                connection.users += 1
                break
        connection.wait_for_end()
    connection.allow_pin()
    return connection


def release(connection: Connection) -> None:
    """The end of a `connect`; the last one closes the sessions and logs out."""
    with _connecting:
        connection.users -= 1
        if connection.users:
            return
    try:
        connection.end()  # before it leaves the table, so that nobody logs in meanwhile
    finally:
        with _connecting:
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
