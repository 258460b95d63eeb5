"""Getting on with the other processes that use a token.

SoftHSM rewrites a file of the token in C_Login. A process that initialises the module in that moment sees no
token, one that asks for the token gets CKR_GENERAL_ERROR, and so may one that logs in itself. A question can
be asked again; a PIN cannot, so processes log in one after the other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING, Final, TypeVar

from tokensign.token.failures import UNSURE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["until_answered", "while_nobody_logs_in"]

_Answer = TypeVar("_Answer")

_TURN_TIMEOUT: Final = (
    5.0  # seconds to wait for the turn: a login takes milliseconds, and anybody can hold the lock
)
_TURN_PAUSE: Final = 0.005  # seconds between two looks
_PAUSES: Final = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.08,
    0.08,
    0.08,
)  # seconds; 0.4 in all, until a failure is believed


@contextlib.contextmanager
def while_nobody_logs_in(module: Path) -> Iterator[None]:
    """Do something while no other process of tokensign is in such a block with the same module.

    The lock (flock) is on the module's file, which all of them can read. Whoever does not get it in time goes
    on without.

    Args:
        module: The PKCS#11 module.
    """
    try:
        descriptor = os.open(module, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        end = time.monotonic() + _TURN_TIMEOUT
        while not _locked(descriptor) and time.monotonic() < end:
            time.sleep(_TURN_PAUSE)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def until_answered(ask: Callable[[], _Answer]) -> _Answer:
    """Ask a module something that changes nothing, several times if it fails in a way that may pass.

    Args:
        ask: The call; never one with a PIN.

    Raises:
        PKCS11Error: It fails each time, or in a way that does not pass.
    """
    for pause in _PAUSES:
        try:
            return ask()
        except UNSURE:
            time.sleep(pause)
    return ask()
