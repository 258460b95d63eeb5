from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pkcs11
import pytest

from tokensign.algorithms import KeySpec, KeyUsage, default_scheme
from tokensign.errors import (
    AmbiguousNameError,
    PinError,
    PinIncorrectError,
    PinLockedError,
    PinUnavailableError,
    TokenNotFoundError,
    TokenRemovedError,
    UsageError,
)
from tokensign.token import (
    Pin,
    PinState,
    TokenInfo,
    generate_key,
    list_certificates,
    list_keys,
    open_key,
    open_token,
)
from tokensign.token.connection import is_connected
from tokensign.token.cryptoki import UserType
from tokensign.token.info import pin_state
from tokensign.uri import KeyUri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokensign.token import Module, PinRequest, Token, TokenKey
    from tokensign.token.cryptoki import FunctionList


class CountingSource:
    """A PIN source that counts how often it is asked."""

    def __init__(self, pin: str) -> None:
        self.pin = pin
        self.asked: list[str] = []

    def get(self, request: PinRequest) -> Pin:
        self.asked.append(request.purpose)
        return Pin(self.pin)


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch, module: Module) -> list[int]:
    """The user types of every C_Login from now on, but for the security officer's."""
    seen: list[int] = []
    login = module.functions.login

    def count(session: int, user_type: int, pin: Pin) -> None:
        if user_type != UserType.SECURITY_OFFICER:
            seen.append(user_type)
        login(session, user_type, pin)

    monkeypatch.setattr(module.functions, "login", count)
    return seen


def test_a_token_is_opened_by_label(module: Module, token: Token) -> None:
    with open_token(module, "acme") as opened:
        assert opened.info.label == "acme"
        assert opened.info.serial == token.info.serial
        assert opened.uri == KeyUri(
            token="acme", manufacturer="SoftHSM project", model="SoftHSM v2", serial=token.info.serial
        )
        assert repr(opened) == "<Token 'acme'>"
        assert opened.module is module
    assert repr(opened) == "<Token 'acme' closed>"


def test_a_token_is_opened_by_uri_which_names_module_and_pin_file(
    module: Module, token: Token, pin_file: Path
) -> None:
    uri = f"{token.uri}?module-path={module.path}&pin-source=file:{pin_file}"
    with open_token(token=uri) as opened:
        assert opened.module is module
        assert list_keys(opened) is not None
    with open_token(module, KeyUri(serial=token.info.serial)) as opened:
        assert opened.info.label == "acme"


def test_an_unknown_token_is_answered_with_those_there_are(module: Module, token: Token) -> None:
    with pytest.raises(TokenNotFoundError) as failure:
        open_token(module, "nobody")
    assert "nobody" in failure.value.message
    assert str(token.uri) in failure.value.message


def test_several_tokens_and_no_name_are_listed(module: Module, new_token: Callable[..., str]) -> None:
    label = new_token()
    with pytest.raises(AmbiguousNameError) as failure:
        open_token(module)
    assert f"token={label}" in failure.value.message
    with pytest.raises(AmbiguousNameError, match="tokens fit pkcs11:model=SoftHSM"):
        open_token(module, "pkcs11:model=SoftHSM%20v2")


def test_the_only_token_needs_no_name(monkeypatch: pytest.MonkeyPatch, module: Module, token: Token) -> None:
    monkeypatch.setattr(module, "tokens", lambda: [token.info])
    with open_token(module) as opened:
        assert opened.info == token.info


def test_no_token_at_all_is_a_hint_to_make_one(monkeypatch: pytest.MonkeyPatch, module: Module) -> None:
    monkeypatch.setattr(module, "tokens", list)
    with pytest.raises(TokenNotFoundError, match="no initialised token") as failure:
        open_token(module)
    assert failure.value.hint
    assert "token init" in failure.value.hint


def test_public_objects_need_no_pin(module: Module, new_token: Callable[..., str]) -> None:
    source = CountingSource("wrong")
    with open_token(module, new_token(), source) as opened:
        assert list_certificates(opened) == []
        assert opened.read_info().pin_state is PinState.OK
    assert source.asked == []


def test_the_pin_is_asked_for_once_and_told_what_for(
    module: Module, new_token: Callable[..., str], user_pin: str
) -> None:
    source = CountingSource(user_pin)
    label = new_token()
    with open_token(module, label, source) as opened:
        opened.log_in()
        list_keys(opened)
    assert source.asked == [f"the token {label}"]


def test_a_token_opened_twice_has_one_login(
    module: Module, new_token: Callable[..., str], user_pin: str, logins: list[int]
) -> None:
    label = new_token()
    with open_token(module, label, Pin(user_pin)) as first:
        first.log_in()
        with open_token(module, label) as second:
            assert list_keys(second) == []
        second.close()
        assert list_keys(first) == []
        assert is_connected(module, first.info)
    assert not is_connected(module, first.info)
    assert logins == [1]
    with open_token(module, label, Pin(user_pin)) as again:
        again.log_in()
    assert logins == [1, 1]


def test_closing_logs_out(module: Module, new_token: Callable[..., str], user_pin: str) -> None:
    label = new_token()
    with open_token(module, label, Pin(user_pin), read_write=True) as opened:
        generate_key(opened, "alice", KeySpec.parse("ec:p256"))
    binding = pkcs11.lib(str(module.path)).get_token(token_label=label).open()
    assert list(binding.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY})) == []
    binding.close()


def test_a_pin_object_survives_the_token_it_opened(
    module: Module, new_token: Callable[..., str], user_pin: str
) -> None:
    pin, label = Pin(user_pin), new_token()
    for _ in range(2):
        with open_token(module, label, pin) as opened:
            opened.log_in()


def test_a_closed_token_refuses(module: Module, token: Token) -> None:
    opened = open_token(module, token.info.label)
    opened.close()
    opened.close()
    with pytest.raises(UsageError, match="was closed"):
        list_keys(opened)


def test_a_token_opened_for_reading_is_not_changed(module: Module, token: Token) -> None:
    with (
        open_token(module, token.info.label) as opened,
        pytest.raises(UsageError, match="opened for reading") as failure,
    ):
        generate_key(opened, "x", KeySpec.parse("ec:p256"))
    assert failure.value.hint == "open the token with read_write=True"


@pytest.mark.parametrize("on_pad", [False, True])
def test_a_person_at_a_pin_pad_has_more_time_than_an_operation(
    monkeypatch: pytest.MonkeyPatch, token: Token, *, on_pad: bool
) -> None:
    monkeypatch.setattr(token.module.gate, "timeout", 0.01)
    with token.borrow("type a PIN", public=True, on_pad=on_pad):
        time.sleep(0.05)
        assert token.module.gate.hangs is not on_pad


def test_wrong_pin_is_tried_once(
    module: Module, new_token: Callable[..., str], user_pin: str, logins: list[int]
) -> None:
    label = new_token()
    source = CountingSource("not the PIN")
    with open_token(module, label, source) as opened:
        with pytest.raises(PinIncorrectError) as failure:
            list_keys(opened)
        assert "tried once" in failure.value.message
        assert failure.value.hint == "a few more wrong PINs lock the token"
        assert "not the PIN" not in repr(failure.value)
        with pytest.raises(PinIncorrectError, match="not tried again"):
            list_keys(opened)
        assert opened.read_info().pin_state is PinState.COUNT_LOW
    assert (len(logins), len(source.asked)) == (1, 1)
    with open_token(module, label, Pin(user_pin)) as opened:
        assert list_keys(opened) == []
        assert opened.read_info().pin_state is PinState.OK


def test_wrong_pin_leaves_no_session(module: Module, new_token: Callable[..., str]) -> None:
    label = new_token()
    with open_token(module, label, Pin("wrong")) as opened, pytest.raises(PinIncorrectError):
        opened.log_in()
    # C_InitToken is refused as long as this process has a session with the token
    slot = pkcs11.lib(str(module.path)).get_token(token_label=label).slot
    with pytest.raises(pkcs11.PinIncorrect):
        module.functions.init_token(slot.slot_id, Pin("wrong officer"), label)


def test_a_missing_pin_tries_nothing(
    module: Module, new_token: Callable[..., str], logins: list[int]
) -> None:
    with (
        open_token(module, new_token(), "env:NOT_SET_ANYWHERE") as opened,
        pytest.raises(PinUnavailableError),
    ):
        opened.log_in()
    assert logins == []


def pretend(monkeypatch: pytest.MonkeyPatch, **changes: PinState | bool) -> None:
    """Let tokens report another state than SoftHSM ever has."""
    read = TokenInfo.read
    monkeypatch.setattr(TokenInfo, "read", lambda slot: replace(read(slot), **changes))


def test_the_last_try_is_refused_unless_allowed(
    monkeypatch: pytest.MonkeyPatch,
    module: Module,
    new_token: Callable[..., str],
    user_pin: str,
    logins: list[int],
) -> None:
    label = new_token()
    pretend(monkeypatch, pin_state=PinState.FINAL_TRY)
    with (
        open_token(module, label, Pin(user_pin)) as opened,
        pytest.raises(PinLockedError, match="one try left"),
    ):
        opened.log_in()
    assert logins == []
    with open_token(module, label, Pin(user_pin), allow_last_try=True) as opened:
        opened.log_in()
    assert logins == [1]


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [(PinState.LOCKED, PinLockedError, "is locked"), (PinState.NOT_SET, PinError, "has not been set")],
)
def test_a_pin_that_cannot_work_is_not_tried(
    *,
    monkeypatch: pytest.MonkeyPatch,
    module: Module,
    new_token: Callable[..., str],
    logins: list[int],
    state: PinState,
    error: type[PinError],
    message: str,
) -> None:
    label = new_token()
    pretend(monkeypatch, pin_state=state)
    with (
        open_token(module, label, Pin("x"), allow_last_try=True) as opened,
        pytest.raises(error, match=message) as failure,
    ):
        opened.log_in()
    assert failure.value.hint
    assert "unblock-pin" in failure.value.hint
    assert logins == []


def test_a_pin_that_locks_now_is_told(
    monkeypatch: pytest.MonkeyPatch, module: Module, new_token: Callable[..., str]
) -> None:
    def locked(*_: object) -> None:
        raise pkcs11.PinLocked

    label = new_token()
    monkeypatch.setattr(module.functions, "login", locked)
    with open_token(module, label, Pin("x")) as opened, pytest.raises(PinLockedError, match="is locked"):
        opened.log_in()


def test_a_token_without_login_needs_no_pin(
    monkeypatch: pytest.MonkeyPatch, module: Module, new_token: Callable[..., str], logins: list[int]
) -> None:
    label = new_token()
    pretend(monkeypatch, login_required=False)
    source = CountingSource("x")
    with open_token(module, label, source) as opened:
        opened.log_in()
    assert (source.asked, logins) == ([], [])


def test_somebody_elses_login_is_used_and_left(
    module: Module, new_token: Callable[..., str], user_pin: str
) -> None:
    label = new_token()
    other = pkcs11.lib(str(module.path)).get_token(token_label=label).open(user_pin=user_pin)
    with open_token(module, label, Pin(user_pin), read_write=True) as opened:
        generate_key(opened, "alice", KeySpec.parse("ec:p256"))
    assert len(list(other.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY}))) == 1
    other.close()


def test_a_login_that_somebody_ended_is_made_again(
    module: Module, new_token: Callable[..., str], user_pin: str, logins: list[int]
) -> None:
    label = new_token()
    with open_token(module, label, Pin(user_pin), read_write=True) as opened:
        generate_key(opened, "alice", KeySpec.parse("ec:p256"))
        key = open_key(opened, "alice")
        scheme = default_scheme(key.public_key)
        with opened.borrow("meddle") as session:
            module.functions.logout(session.handle)
        with pytest.raises(TokenRemovedError, match="was reset"):
            key.sign(b"x", scheme)
        assert key.sign(b"x", scheme)
    assert logins == [1, 1]


def flags_of(*names: str) -> pkcs11.TokenFlag:
    return pkcs11.TokenFlag(sum(pkcs11.TokenFlag[name] for name in names))


@pytest.mark.parametrize(
    ("names", "officer", "expected"),
    [
        ((), False, PinState.NOT_SET),
        ((), True, PinState.OK),
        (("USER_PIN_INITIALIZED",), False, PinState.OK),
        (("USER_PIN_INITIALIZED", "USER_PIN_COUNT_LOW"), False, PinState.COUNT_LOW),
        (("USER_PIN_INITIALIZED", "USER_PIN_COUNT_LOW", "USER_PIN_FINAL_TRY"), False, PinState.FINAL_TRY),
        (("USER_PIN_INITIALIZED", "USER_PIN_FINAL_TRY", "USER_PIN_LOCKED"), False, PinState.LOCKED),
        (("USER_PIN_INITIALIZED", "USER_PIN_TO_BE_CHANGED"), False, PinState.TO_BE_CHANGED),
        (("USER_PIN_INITIALIZED", "SO_PIN_LOCKED"), False, PinState.OK),
        (("SO_PIN_COUNT_LOW",), True, PinState.COUNT_LOW),
    ],
)
def test_the_counter_flags_are_read_most_serious_first(
    *,
    names: tuple[str, ...],
    officer: bool,
    expected: PinState,
) -> None:
    assert pin_state(flags_of(*names), security_officer=officer) is expected


@dataclass
class Removable:
    """An open token with the key "alice", whose store can be taken away and brought back."""

    token: Token
    source: CountingSource
    store: Path

    @property
    def away(self) -> Path:
        return self.store.parent.parent / f"away-{self.store.name}"

    def take_away(self) -> None:
        self.store.rename(self.away)

    def bring_back(self) -> None:
        self.away.rename(self.store)


@pytest.fixture
def removable(
    own_softhsm: Path, module: Module, new_token: Callable[..., str], user_pin: str
) -> Iterator[Removable]:
    before = set((own_softhsm / "tokens").iterdir())
    label = new_token()
    (store,) = set((own_softhsm / "tokens").iterdir()) - before
    source = CountingSource(user_pin)
    with open_token(module, label, source, read_write=True) as opened:
        generate_key(opened, "alice", KeySpec.parse("ec:p256"))
        yield Removable(opened, source, store)
    with module.gate.exclusive(10):
        module.reinitialize()  # or each list of the slots waits for the one whose store was away


def until_it_works(work: Callable[[], bytes], seconds: float = 60) -> bytes:
    end = time.monotonic() + seconds
    while True:
        try:
            return work()
        except TokenRemovedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def test_a_token_that_went_away_works_again_when_it_is_back(
    removable: Removable,
    token_key: Callable[..., TokenKey],
    logins: list[int],
) -> None:
    opened, source = removable.token, removable.source
    bystander = token_key("ec:p256")
    key = open_key(opened, "alice", KeyUsage.SIGN)
    scheme = default_scheme(key.public_key)
    key.sign(b"x", scheme)
    removable.take_away()
    for _ in range(3):
        with pytest.raises(TokenRemovedError) as failure:
            key.sign(b"x", scheme)
        assert failure.value.hint == "put the token back in and try again"
    with pytest.raises(TokenRemovedError):
        list_certificates(opened)
    removable.bring_back()
    assert until_it_works(lambda: key.sign(b"x", scheme))
    assert [info.label for info in list_keys(opened)] == ["alice"]
    assert len(source.asked) == 1
    assert bystander.sign(b"x", scheme)
    assert set(logins) == {1}


def test_a_pin_that_is_refused_after_the_return_is_not_tried_again(
    removable: Removable,
    monkeypatch: pytest.MonkeyPatch,
    module: Module,
) -> None:
    opened, source = removable.token, removable.source
    key = open_key(opened, "alice")
    scheme = default_scheme(key.public_key)
    removable.take_away()
    with pytest.raises(TokenRemovedError):
        key.sign(b"x", scheme)
    removable.bring_back()
    tried = []

    def refuse(*arguments: object) -> None:
        tried.append(arguments)
        raise pkcs11.PinIncorrect

    monkeypatch.setattr(module.functions, "login", refuse)
    with pytest.raises(PinIncorrectError, match="tried once"):
        until_it_works(lambda: key.sign(b"x", scheme))
    with pytest.raises(PinIncorrectError, match="not tried again"):
        key.sign(b"x", scheme)
    assert len(tried) == 1
    assert len(source.asked) == 1


def test_closing_a_token_that_is_gone_is_quiet(removable: Removable) -> None:
    opened = removable.token
    removable.take_away()
    with pytest.raises(TokenRemovedError):
        open_key(opened, "alice")
    opened.close()
    removable.bring_back()


@pytest.mark.parametrize(
    "code",
    [0x032, 0x0B0, 0x0B3, 0x0E0, 0x190],
    ids=[
        "DEVICE_REMOVED",
        "SESSION_CLOSED",
        "SESSION_HANDLE_INVALID",
        "TOKEN_NOT_PRESENT",
        "NOT_INITIALIZED",
    ],
)
def test_what_says_that_the_token_is_gone_is_recovered_from(
    monkeypatch: pytest.MonkeyPatch,
    module: Module,
    removable: Removable,
    code: int,
) -> None:
    opened = removable.token
    key = open_key(opened, "alice")
    scheme = default_scheme(key.public_key)
    functions: FunctionList = module.functions
    with monkeypatch.context() as patch:
        patch.setattr(functions, "C_SignInit", lambda *_: code)
        with pytest.raises(TokenRemovedError):
            key.sign(b"x", scheme)
    assert until_it_works(lambda: key.sign(b"x", scheme))


def test_a_failure_that_is_not_a_removal_leaves_the_login(
    monkeypatch: pytest.MonkeyPatch,
    module: Module,
    removable: Removable,
    logins: list[int],
) -> None:
    opened = removable.token
    key = open_key(opened, "alice")
    scheme = default_scheme(key.public_key)
    with monkeypatch.context() as patch:
        patch.setattr(module.functions, "C_Sign", lambda *_: 0x005)
        with pytest.raises(Exception, match="GeneralError"):
            key.sign(b"x", scheme)
    assert key.sign(b"x", scheme)
    assert logins == []
