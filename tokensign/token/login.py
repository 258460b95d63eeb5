"""The login of one process on one token: each PIN is tried once, and a right one is remembered."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pkcs11
from pkcs11.exceptions import PKCS11Error

from tokensign.errors import PinIncorrectError, TokensignError
from tokensign.token.cryptoki import UserType
from tokensign.token.pin import InteractiveSource, PinRequest
from tokensign.token.tries import refused, warning

if TYPE_CHECKING:
    from tokensign.token.info import TokenInfo
    from tokensign.token.module import Module
    from tokensign.token.pin import Pin, PinSource
    from tokensign.token.session import Session

__all__ = ["Credential", "Login"]

_EACH_TIME: Final = "This key wants its PIN for each operation."
_asking = threading.Lock()  # so that one person is asked one thing at a time


@dataclass(frozen=True, slots=True)
class Credential:
    """How one who opened a token logs in.

    Attributes:
        source: Where the PIN comes from, when it is needed.
        allow_last_try: Whether the PIN may be tried when a wrong one would lock it.
        action: What is going to be done, for a person who is asked: "sign report.pdf with the key alice".
    """

    source: PinSource
    allow_last_try: bool = False
    action: str = ""


class Login:
    """Whether this process is logged in, and the PIN for the next time. Its `Connection` holds the lock.

    Attributes:
        done: Whether the process is logged in, or the token wants no login.
        refused: Whether the token refused the PIN, which is not tried again then.

    Args:
        module: The token's module.
    """

    def __init__(self, module: Module) -> None:
        self.done = False
        self.refused = False
        self._module = module
        self._anchor: Session | None = None  # the session that logged in, which must be closed last
        self._pin: Pin | None = None
        self._pin_lock = threading.Lock()  # an operation may take the PIN while another thread forgets it

    def pin_for_login(self, credential: Credential, info: TokenInfo) -> Pin | None:
        """The PIN that was right before, or a new one from its source; `log_in` takes it over.

        Raises:
            PinError: There is none, or it was refused before.
        """
        self._require_not_refused(info)
        return self._remembered() or _ask(credential, info)

    def pin_for_operation(self, credential: Credential, info: TokenInfo, doing: str) -> Pin | None:
        """The PIN for one operation of a key with CKA_ALWAYS_AUTHENTICATE, for `log_in_for_operation`.

        It is the one that logged in, unless it comes from a person, who is asked each time.

        Raises:
            PinError: There is none, or it was refused before.
        """
        self._require_not_refused(info)
        remembered = None if isinstance(credential.source, InteractiveSource) else self._remembered()
        return remembered or _ask(credential, info, action=credential.action or doing, note=_EACH_TIME)

    def log_in(self, session: Session, info: TokenInfo, pin: Pin | None) -> None:
        """C_Login, once, in a session that is kept open as long as the login lasts. Called inside the gate.

        Args:
            session: The session.
            info: The token.
            pin: The PIN, which is remembered when it is right and overwritten otherwise; None: it is typed on
                the token's PIN pad.

        Raises:
            PinError: The PIN is refused.
            PKCS11Error: It fails for another reason.
        """
        try:
            self._module.functions.login(session.handle, UserType.USER, pin)
        except pkcs11.UserAlreadyLoggedIn:  # another part of this process did, and will log out
            session.close()
        except PKCS11Error as error:
            session.close()
            if pin is not None:
                pin.wipe()
            self._raise_refused(error, info)
            raise
        else:
            self._anchor = session
        with self._pin_lock:
            self._pin = pin
        self.done = True

    def log_in_for_operation(self, session: Session, info: TokenInfo, pin: Pin | None) -> None:
        """The context-specific login that a key with CKA_ALWAYS_AUTHENTICATE wants for each operation.

        Called between the operation's Init and the operation, with nothing in between.

        Args:
            session: The session of the operation.
            info: The token.
            pin: The PIN, which is overwritten; None: it is typed on the token's PIN pad.

        Raises:
            PinError: The PIN is refused.
            PKCS11Error: It fails for another reason.
        """
        try:
            self._module.functions.login(session.handle, UserType.CONTEXT_SPECIFIC, pin)
        except pkcs11.UserAlreadyLoggedIn:  # NSS keeps the attribute, and takes no PIN for it
            pass
        except PKCS11Error as error:
            self._raise_refused(error, info)
            raise
        finally:
            if pin is not None:
                pin.wipe()

    def counts(self) -> bool:
        """Whether the token still takes us for logged in. Called inside the gate.

        Raises:
            PKCS11Error: The session that logged in is dead.
        """
        return self._anchor is None or self._module.functions.is_logged_in(self._anchor.handle)

    def adopt(self, pin: Pin | None) -> None:
        """Remember a PIN that was just changed, where the old one was remembered."""
        with self._pin_lock:
            if self._pin is not None:
                self._pin.wipe()
                self._pin = pin.duplicate() if pin is not None else None

    def allow(self) -> None:
        """Let a PIN be tried again after one was refused: somebody opened the token anew."""
        self.refused = False

    def lose(self) -> None:
        """The token was reset or went away, and the login with it; the PIN is kept for its return."""
        self._anchor = None
        self.done = False

    def forget_pin(self) -> None:
        """Wipe the PIN."""
        with self._pin_lock:
            if self._pin is not None:
                self._pin.wipe()
                self._pin = None

    def end(self) -> None:
        """Log out, where it was here that the login was made. Called inside the gate."""
        if self._anchor:
            with contextlib.suppress(PKCS11Error):
                self._module.functions.logout(self._anchor.handle)
            self._anchor.close()
        self.lose()

    def _remembered(self) -> Pin | None:
        with self._pin_lock:
            return self._pin.duplicate() if self._pin is not None else None

    def _require_not_refused(self, info: TokenInfo) -> None:
        if self.refused:
            raise PinIncorrectError(
                f"the PIN for the token {info.label} was refused before and is not tried again",
                hint="open the token again with the right PIN",
            )

    def _raise_refused(self, error: PKCS11Error, info: TokenInfo) -> None:
        """Raise what a failed login says about the PIN, with the counter flags as they are now."""
        with contextlib.suppress(PKCS11Error, TokensignError):
            info = self._module.read_token(info.slot_id)
        meaning = refused(error, info)
        if meaning is None:
            return
        self.refused = True
        self.forget_pin()
        raise meaning from error


def _ask(credential: Credential, info: TokenInfo, *, action: str = "", note: str = "") -> Pin | None:
    request = PinRequest(
        purpose=f"the token {info.label}",
        action=action or credential.action,
        note=" ".join(filter(None, (note, warning(info)))),
        account=info.label,
        pad=info.protected_authentication_path,
    )
    with _asking:
        return credential.source.get(request)
