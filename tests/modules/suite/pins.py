"""PINs: a wrong one is one try, the last try is kept back, a locked one is told. These cases come last."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from tests.modules.suite.cells import CannotDoError, Case
from tests.modules.suite.direct import answer_to
from tokensign.errors import PinError, PinIncorrectError, PinLockedError, TokenError
from tokensign.token import Pin, PinState, change_pin, parse_pin_source, unblock_pin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.modules.suite.bench import Bench
    from tokensign.token import PinSource

__all__ = ["SO_PIN_FILE", "cases"]

TABLE: Final = "PIN"
SO_PIN_FILE: Final = "so-pin-of-the-suite"
_WRONG: Final = "765432"  # of a form and length that every module takes
_OTHER: Final = "246810"
_TRIES: Final = 3  # after which every module has locked that locks


def cases(bench: Bench) -> Iterator[Case]:
    """In this order; each leaves the PIN as it was, and unlocked."""
    for row, run in (
        ("a wrong one is tried once, and the right one works after it", _try_once),
        ("the last try is refused unless asked for", _keep_the_last_try),
        ("a locked one is told, and it works again when unlocked", _lock),
        ("change", _change),
        ("unblock as the security officer", _unblock),
    ):
        yield Case(TABLE, row, partial(run, bench))


def _log_in(
    bench: Bench, pin: PinSource | str | None = None, *, allow_last_try: bool = False
) -> PinError | None:
    """Log in with a PIN, or else the right one; how it is refused."""
    source = Pin(pin) if isinstance(pin, str) else pin or bench.pin_source
    with bench.open(source, allow_last_try=allow_last_try) as token:
        try:
            token.log_in()
        except PinError as refusal:
            return refusal
    return None


def _require_login(bench: Bench) -> None:
    refusal = _log_in(bench)
    assert refusal is None, refusal


def _state(bench: Bench) -> PinState:
    with bench.open(bench.pin_source) as token:
        return token.read_info().pin_state


def _try_once(bench: Bench) -> None:
    before = bench.control.counts()
    refusal = _log_in(bench, _WRONG)
    assert isinstance(refusal, PinIncorrectError), refusal
    assert _WRONG not in f"{refusal}{refusal.hint}"
    counts = bench.control.counts()
    assert counts["wrong PIN"] - before["wrong PIN"] == (1 if counts else 0)  # only the card counts for us
    assert _state(bench) in (PinState.OK, PinState.COUNT_LOW)
    _require_login(bench)


def _keep_the_last_try(bench: Bench) -> None:
    try:
        for _ in range(2):
            assert isinstance(_log_in(bench, _WRONG), PinIncorrectError)
        state = _state(bench)
        if state is not PinState.FINAL_TRY:
            raise CannotDoError(f"CKF_USER_PIN_FINAL_TRY is not set after two wrong PINs: {state.value}")
        before = bench.control.counts()
        for pin in (None, _WRONG):
            assert isinstance(_log_in(bench, pin), PinLockedError)
        assert bench.control.counts()["VERIFY"] == before["VERIFY"]
        assert _log_in(bench, allow_last_try=True) is None
    finally:
        _unlock(bench)


def _lock(bench: Bench) -> None:
    try:
        refusals = [_log_in(bench, _WRONG, allow_last_try=True) for _ in range(_TRIES)]
        assert all(isinstance(refusal, PinIncorrectError) for refusal in refusals), refusals
        refusal = _log_in(bench, _WRONG, allow_last_try=True)
        if not isinstance(refusal, PinLockedError):
            assert isinstance(refusal, PinIncorrectError), refusal
            raise CannotDoError(f"CKR_PIN_INCORRECT after {_TRIES} wrong PINs, as after the first")
        assert isinstance(_log_in(bench), PinLockedError)
    finally:
        _unlock(bench)
    _require_login(bench)


def _unlock(bench: Bench) -> None:
    """Make the PIN usable again by the means of the module's own world, where it needs that."""
    if _state(bench) in (PinState.FINAL_TRY, PinState.LOCKED) or _log_in(bench) is not None:
        bench.control.unlock()


def _change(bench: Bench) -> None:
    own = bench.pin_source
    with bench.open(own) as token:
        change_pin(token, own, Pin(_OTHER))
    try:
        _require_that(_log_in(bench, _OTHER) is None, "the new PIN is refused")
    finally:
        with bench.open(Pin(_OTHER)) as token:
            change_pin(token, Pin(_OTHER), own)
    _require_login(bench)


def _require_that(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - as for assert, in a try block
    assert holds, otherwise


def _unblock(bench: Bench) -> None:
    officer = parse_pin_source(f"file:{bench.folder / SO_PIN_FILE}")
    try:
        unblock_pin(bench.module, bench.token_label, officer, bench.pin_source)
    except TokenError as refusal:
        answer = answer_to(refusal)
        if answer is None:
            raise
        raise CannotDoError(f"C_Login as the security officer: {answer}") from None
    finally:
        _require_login(bench)
