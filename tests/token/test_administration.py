from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tokensign.errors import (
    PinError,
    PinIncorrectError,
    PinLockedError,
    TokenNotFoundError,
    TokenRemovedError,
    UsageError,
)
from tokensign.token import (
    Pin,
    PinState,
    TokenInfo,
    change_pin,
    initialize_token,
    list_keys,
    open_token,
    unblock_pin,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.token import Module, Token

NEW = "another-pin"


def opens_with(module: Module, label: str, pin: str) -> bool:
    with open_token(module, label, Pin(pin)) as opened:
        try:
            opened.log_in()
        except PinIncorrectError:
            return False
        return True


def test_a_fresh_token_is_set_up(module: Module, so_pin: str, user_pin: str) -> None:
    info = initialize_token(module, "fresh", Pin(so_pin), Pin(user_pin))
    assert (info.label, info.initialized, info.pin_state) == ("fresh", True, PinState.OK)
    assert info.serial
    assert opens_with(module, "fresh", user_pin)


def test_a_token_in_a_named_slot_is_set_up(module: Module, so_pin: str, user_pin: str) -> None:
    free = next(info for info in module.tokens(uninitialized=True) if not info.initialized)
    info = initialize_token(module, "by slot", Pin(so_pin), Pin(user_pin), free.slot_id)
    assert info.label == "by slot"


def test_an_initialised_token_is_left_alone(module: Module, token: Token, so_pin: str, user_pin: str) -> None:
    with pytest.raises(UsageError, match="is initialised as acme"):
        initialize_token(module, "again", Pin(so_pin), Pin(user_pin), token.info.slot_id)


@pytest.mark.parametrize("label", ["", "x" * 33, "ä" * 17])
def test_a_label_must_fit(module: Module, so_pin: str, user_pin: str, label: str) -> None:
    with pytest.raises(UsageError, match="1 to 32 bytes"):
        initialize_token(module, label, Pin(so_pin), Pin(user_pin))


@pytest.mark.usefixtures("token")
def test_a_label_must_be_free(module: Module, so_pin: str, user_pin: str) -> None:
    with pytest.raises(UsageError, match="there is a token acme already"):
        initialize_token(module, "acme", Pin(so_pin), Pin(user_pin))


def test_a_slot_without_token_is_refused(module: Module, so_pin: str, user_pin: str) -> None:
    with pytest.raises(TokenNotFoundError, match="no token in slot 12345"):
        initialize_token(module, "x", Pin(so_pin), Pin(user_pin), 12345)


def test_a_pin_that_the_token_does_not_take_is_refused(module: Module, so_pin: str, user_pin: str) -> None:
    with pytest.raises(PinError, match="does not take this PIN for the security officer"):
        initialize_token(module, "short", Pin("1"), Pin(user_pin))
    assert "short" not in {info.label for info in module.tokens()}
    with pytest.raises(PinError, match="is set up, but does not take this PIN for the user"):
        initialize_token(module, "short", Pin(so_pin), Pin("1"))
    unblock_pin(module, "short", Pin(so_pin), Pin(user_pin))
    assert opens_with(module, "short", user_pin)


def test_the_pin_is_changed(module: Module, new_token: Callable[..., str], user_pin: str) -> None:
    label = new_token()
    with open_token(module, label, Pin(user_pin)) as opened:
        change_pin(opened, Pin(user_pin), Pin(NEW))
    assert opens_with(module, label, NEW)
    assert not opens_with(module, label, user_pin)


def test_a_login_goes_on_after_the_pin_was_changed(
    module: Module, new_token: Callable[..., str], user_pin: str
) -> None:
    with open_token(module, new_token(), Pin(user_pin)) as opened:
        opened.log_in()
        change_pin(opened, Pin(user_pin), Pin(NEW))
        module.functions.close_all_sessions(opened.info.slot_id)  # so that it has to log in again
        with pytest.raises(TokenRemovedError):
            list_keys(opened)
        assert list_keys(opened) == []


def test_a_wrong_old_pin_is_refused_and_the_counter_told(
    module: Module, new_token: Callable[..., str], user_pin: str
) -> None:
    label = new_token()
    with open_token(module, label, Pin(user_pin)) as opened:
        with pytest.raises(PinIncorrectError) as failure:
            change_pin(opened, Pin("wrong-pin"), Pin(NEW))
        assert failure.value.hint == "a few more wrong PINs lock the token"
        assert "wrong-pin" not in repr(failure.value)
        with pytest.raises(PinError, match="PinLenRange"):
            change_pin(opened, Pin(user_pin), Pin("1"))
    assert opens_with(module, label, user_pin)


def test_changing_the_pin_respects_the_last_try(
    monkeypatch: pytest.MonkeyPatch, module: Module, new_token: Callable[..., str], user_pin: str
) -> None:
    label = new_token()
    read = TokenInfo.read
    monkeypatch.setattr(TokenInfo, "read", lambda slot: replace(read(slot), pin_state=PinState.FINAL_TRY))
    with open_token(module, label) as opened, pytest.raises(PinLockedError, match="one try left"):
        change_pin(opened, Pin(user_pin), Pin(NEW))


def test_the_security_officer_sets_a_new_pin(
    module: Module, new_token: Callable[..., str], so_pin: str
) -> None:
    label = new_token()
    assert not opens_with(module, label, "wrong-pin")
    unblock_pin(module, label, Pin(so_pin), Pin(NEW))
    assert opens_with(module, label, NEW)


def test_a_wrong_officer_changes_nothing(
    module: Module, new_token: Callable[..., str], user_pin: str, so_pin: str
) -> None:
    label = new_token()
    with pytest.raises(PinIncorrectError):
        unblock_pin(module, label, Pin("wrong-pin"), Pin(NEW))
    with pytest.raises(PinError, match="PinLenRange"):
        unblock_pin(module, label, Pin(so_pin), Pin("1"))
    assert opens_with(module, label, user_pin)


def test_an_open_token_is_not_unblocked(module: Module, token: Token, so_pin: str) -> None:
    with pytest.raises(UsageError, match="close the token acme"):
        unblock_pin(module, token.info.label, Pin(so_pin), Pin(NEW))


@pytest.mark.parametrize(
    ("state", "message"), [(PinState.LOCKED, "is locked"), (PinState.FINAL_TRY, "one try left")]
)
def test_the_officers_last_try_is_respected(
    monkeypatch: pytest.MonkeyPatch,
    module: Module,
    new_token: Callable[..., str],
    so_pin: str,
    state: PinState,
    message: str,
) -> None:
    label = new_token()
    read = TokenInfo.read
    monkeypatch.setattr(TokenInfo, "read", lambda slot: replace(read(slot), so_pin_state=state))
    with pytest.raises(PinLockedError, match=message):
        unblock_pin(module, label, Pin(so_pin), Pin(NEW))
