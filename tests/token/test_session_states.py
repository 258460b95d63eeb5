"""Each transition between the states of an open token; the list of them is the table of docs/sessions.md."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pkcs11
import pytest

from tokensign.algorithms import KeySpec, default_scheme
from tokensign.errors import (
    ModuleError,
    PinIncorrectError,
    PinUnavailableError,
    TokenError,
    TokenRemovedError,
)
from tokensign.token import Pin, TokenState, generate_key, list_certificates, list_keys, open_key, open_token
from tokensign.token.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tokensign.token import Module, Token

    Steps = Generator[Token, None, None]

DOCUMENT = Path(__file__).parents[2] / "docs" / "sessions.md"
TRANSITIONS: list[tuple[str, str, str]] = []
IDLE = 0.3  # seconds: as long as it takes until it is asked before an operation whether the token was away
HANG = 0.8  # seconds: longer than an operation may take here, and than it takes until somebody looks


def transition(before: str, event: str, after: str) -> Callable[[Any], Any]:
    """A test of a transition: it yields a token in the state before, goes on, and has it in the state after.

    A test that runs in a process of its own sees to that itself.
    """

    def register(test: Any) -> Any:  # noqa: ANN401 - a test, with whatever fixtures
        TRANSITIONS.append((before, event, after))

        @functools.wraps(test)
        def run(**fixtures: Any) -> None:  # noqa: ANN401 - as above
            steps = test(**fixtures)
            if isinstance(steps, Generator):
                token = next(steps)
                assert token.state == before
                next(steps, None)
                assert token.state == after

        return run

    return register


class Removable:
    """A token whose store can be taken away and brought back."""

    def __init__(self, label: str, store: Path) -> None:
        self.label = label
        self.was_away = False
        self._store = store
        self._away = store.parent.parent / f"away-{store.name}"

    def take_away(self) -> None:
        self.was_away = True
        self._store.rename(self._away)

    def bring_back(self) -> None:
        if self._away.exists():
            self._away.rename(self._store)


@pytest.fixture
def removable(own_softhsm: Path, module: Module, new_token: Callable[..., str]) -> Iterator[Removable]:
    before = set((own_softhsm / "tokens").iterdir())
    label = new_token()
    (store,) = set((own_softhsm / "tokens").iterdir()) - before
    removable = Removable(label, store)
    yield removable
    removable.bring_back()
    if removable.was_away:  # let later tests find a module that knows the token again
        with module.gate.exclusive(10):
            module.reinitialize()


@pytest.fixture
def opened(module: Module, removable: Removable, user_pin: str) -> Iterator[Token]:
    """Open, with the right PIN."""
    with open_token(module, removable.label, Pin(user_pin), read_write=True) as token:
        yield token


@pytest.fixture
def logged_in(opened: Token) -> Token:
    """Logged in, with a key "alice"."""
    generate_key(opened, "alice", KeySpec.parse("ec:p256"))
    return opened


@pytest.fixture
def refused(module: Module, removable: Removable) -> Iterator[Token]:
    with open_token(module, removable.label, Pin("not the PIN")) as token:
        with pytest.raises(PinIncorrectError):
            token.log_in()
        yield token


@pytest.fixture
def lost(logged_in: Token, removable: Removable) -> Token:
    removable.take_away()
    with pytest.raises(TokenRemovedError):
        list_keys(logged_in)
    return logged_in


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch, module: Module) -> list[object]:
    """Every C_Login from now on."""
    seen: list[object] = []
    login = module.functions.login

    def count(*arguments: Any) -> None:  # noqa: ANN401 - those of login
        seen.append(arguments)
        login(*arguments)

    monkeypatch.setattr(module.functions, "login", count)
    return seen


def sign(token: Token) -> bytes:
    key = open_key(token, "alice")
    return key.sign(b"message", default_scheme(key.public_key))


def until_it_is_found(work: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            work()
        except TokenRemovedError:
            assert time.monotonic() < end
            time.sleep(0.1)
        else:
            return


class Hanging:
    """A thread that is inside the module for longer than it may."""

    def __init__(self, token: Token) -> None:
        self._back = threading.Event()
        self._inside = threading.Event()
        self._thread = threading.Thread(target=self._hang, args=(token,))

    def _hang(self, token: Token) -> None:
        with token.module.gate.shared():
            self._inside.set()
            self._back.wait(30)

    def start(self) -> None:
        self._thread.start()
        self._inside.wait(10)
        time.sleep(HANG)

    def come_back(self) -> None:
        self._back.set()
        if self._thread.ident:
            self._thread.join(10)


@pytest.fixture
def hanging(logged_in: Token, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    """Not yet started; it uses the module of `logged_in`."""
    monkeypatch.setattr(logged_in.module.gate, "timeout", HANG / 2)
    hanging = Hanging(logged_in)
    yield hanging
    hanging.come_back()


# --- closed


@transition("closed", "it is opened", "open")
def test_opening(module: Module, removable: Removable) -> None:
    token = open_token(module, removable.label)
    token.close()
    assert token.state == "closed"
    with open_token(module, removable.label) as again:
        assert again.state == "open"
    assert token.state == "closed"


# --- open


@transition("open", "an operation needs no login", "open")
def test_public_operation_does_not_log_in(opened: Token, logins: list[object]) -> Steps:
    yield opened
    assert list_certificates(opened) == []
    assert logins == []


@transition("open", "an operation needs a login, and the PIN is right", "logged-in")
def test_right_pin(opened: Token, logins: list[object]) -> Steps:
    yield opened
    assert list_keys(opened) == []
    assert len(logins) == 1


@transition("open", "an operation needs a login, and there is no PIN to try", "open")
def test_no_pin(module: Module, removable: Removable, logins: list[object]) -> Steps:
    with open_token(module, removable.label, "env:NOT_SET_ANYWHERE") as token:
        yield token
        with pytest.raises(PinUnavailableError):
            list_keys(token)
        assert logins == []
        yield token


@transition("open", "an operation needs a login, and the PIN is refused", "refused")
def test_refused_pin(module: Module, removable: Removable, logins: list[object]) -> Steps:
    with open_token(module, removable.label, Pin("not the PIN")) as token:
        yield token
        with pytest.raises(PinIncorrectError):
            list_keys(token)
        assert len(logins) == 1
        yield token


@transition("open", "the login fails, but not because of the PIN", "open")
def test_failed_login(opened: Token, monkeypatch: pytest.MonkeyPatch, module: Module) -> Steps:
    yield opened
    tried = []

    def fail(*arguments: object) -> None:
        tried.append(arguments)
        raise pkcs11.FunctionFailed

    with monkeypatch.context() as patch:
        patch.setattr(module.functions, "login", fail)
        with pytest.raises(TokenError, match="FunctionFailed"):
            list_keys(opened)
    assert len(tried) == 1


@transition("open", "the token goes", "lost")
def test_open_token_goes(opened: Token, removable: Removable) -> Steps:
    yield opened
    removable.take_away()
    with pytest.raises(TokenRemovedError):
        list_keys(opened)


@transition("open", "it is closed", "closed")
def test_closing(opened: Token) -> Steps:
    yield opened
    opened.close()


# --- logged in


@transition("logged-in", "an operation succeeds", "logged-in")
def test_success(logged_in: Token, logins: list[object]) -> Steps:
    yield logged_in
    assert sign(logged_in)
    assert logins == []


@transition("logged-in", "an operation fails", "logged-in")
def test_failure(
    logged_in: Token, monkeypatch: pytest.MonkeyPatch, module: Module, logins: list[object]
) -> Steps:
    key = open_key(logged_in, "alice")
    yield logged_in
    with monkeypatch.context() as patch:
        patch.setattr(module.functions, "C_Sign", lambda *_: 0x005)  # CKR_GENERAL_ERROR
        with pytest.raises(TokenError, match="GeneralError"):
            key.sign(b"message", default_scheme(key.public_key))
    assert sign(logged_in)
    assert logins == []


@transition("logged-in", "the module runs out of sessions", "logged-in")
def test_idle_sessions_are_closed_when_there_are_no_more(
    logged_in: Token, monkeypatch: pytest.MonkeyPatch
) -> Steps:
    sign(logged_in)
    yield logged_in
    with logged_in.borrow("use the idle session", change=True):
        pass
    refusals = [True]

    def open_binding(self: Connection, *, read_write: bool) -> Any:  # noqa: ANN401 - python-pkcs11's session
        if refusals.pop() if refusals else False:
            raise pkcs11.SessionCount
        return attempt(self, read_write=read_write)

    attempt = Connection._attempt_to_open  # noqa: SLF001 - SoftHSM never runs out
    monkeypatch.setattr(Connection, "_attempt_to_open", open_binding)
    with logged_in.borrow("use the idle session"):
        assert logged_in.read_info()
    assert refusals == []


@transition("logged-in", "it is opened again, and closed once", "logged-in")
def test_one_of_two_users_closes(logged_in: Token, module: Module) -> Steps:
    yield logged_in
    open_token(module, logged_in.info.label).close()
    assert sign(logged_in)


@transition("logged-in", "the last user closes it", "closed")
def test_last_user_closes(logged_in: Token) -> Steps:
    yield logged_in
    logged_in.close()
    with pytest.raises(Exception, match="was closed"):
        list_keys(logged_in)


@transition("logged-in", "the token goes", "lost")
def test_token_goes(logged_in: Token, removable: Removable) -> Steps:
    yield logged_in
    removable.take_away()
    with pytest.raises(TokenRemovedError):
        sign(logged_in)


@transition("logged-in", "the token goes and is back before the next operation", "logged-in")
def test_token_that_went_while_nothing_was_done(
    logged_in: Token, removable: Removable, module: Module, logins: list[object]
) -> Steps:
    key = open_key(logged_in, "alice")
    yield logged_in
    removable.take_away()
    assert logged_in.info.label not in [info.label for info in module.tokens()]
    time.sleep(IDLE)
    removable.bring_back()
    assert key.sign(b"message", default_scheme(key.public_key))
    assert len(logins) == 1


@transition("logged-in", "the login ends while nothing is done, and the PIN is refused now", "refused")
def test_changed_pin_is_not_tried_again(
    logged_in: Token, monkeypatch: pytest.MonkeyPatch, module: Module
) -> Steps:
    key = open_key(logged_in, "alice")
    yield logged_in
    with logged_in.borrow("meddle") as session:
        module.functions.logout(session.handle)
    time.sleep(IDLE)
    tried = []

    def refuse(*arguments: object) -> None:
        tried.append(arguments)
        raise pkcs11.PinIncorrect

    monkeypatch.setattr(module.functions, "login", refuse)
    for _ in range(2):
        with pytest.raises(PinIncorrectError):
            key.sign(b"message", default_scheme(key.public_key))
    assert len(tried) == 1


@transition("logged-in", "somebody else in the process logs out", "lost")
def test_login_ends(logged_in: Token, module: Module) -> Steps:
    key = open_key(logged_in, "alice")
    yield logged_in
    with logged_in.borrow("meddle") as session:
        module.functions.logout(session.handle)
    with pytest.raises(TokenRemovedError, match="was reset"):
        key.sign(b"message", default_scheme(key.public_key))


@transition("logged-in", "the module is initialised anew for another token", "lost")
def test_module_is_initialised_anew(logged_in: Token, module: Module) -> Steps:
    yield logged_in
    with module.gate.exclusive(10):
        module.reinitialize()


@transition("logged-in", "a call does not come back", "hung")
def test_call_that_does_not_come_back(logged_in: Token, hanging: Hanging) -> Steps:
    yield logged_in
    hanging.start()


# --- refused


@transition("refused", "an operation needs no login", "refused")
def test_public_operation_after_a_refusal(refused: Token) -> Steps:
    yield refused
    assert list_certificates(refused) == []


@transition("refused", "an operation needs a login", "refused")
def test_no_second_try(refused: Token, logins: list[object]) -> Steps:
    yield refused
    with pytest.raises(PinIncorrectError, match="not tried again"):
        list_keys(refused)
    assert logins == []


@transition("refused", "it is opened again", "open")
def test_opening_after_a_refusal(refused: Token, module: Module, user_pin: str) -> Steps:
    yield refused
    with open_token(module, refused.info.label, Pin(user_pin)) as again:
        assert again.state == "open"
        yield refused


@transition("refused", "it is closed", "closed")
def test_closing_after_a_refusal(refused: Token) -> Steps:
    yield refused
    refused.close()


# --- lost


@transition("lost", "the token is still away", "lost")
def test_token_stays_away(lost: Token) -> Steps:
    yield lost
    with pytest.raises(TokenRemovedError, match="is gone"):
        list_keys(lost)


@transition("lost", "it is back, and an operation needs no login", "open")
def test_public_operation_after_the_return(lost: Token, removable: Removable, logins: list[object]) -> Steps:
    yield lost
    removable.bring_back()
    until_it_is_found(lambda: list_certificates(lost))
    assert logins == []


@transition("lost", "it is back, and an operation needs a login", "logged-in")
def test_login_after_the_return(lost: Token, removable: Removable, logins: list[object]) -> Steps:
    yield lost
    removable.bring_back()
    until_it_is_found(lambda: sign(lost))
    assert len(logins) == 1


@transition("lost", "it is back, and the PIN is refused", "refused")
def test_refusal_after_the_return(
    lost: Token, removable: Removable, monkeypatch: pytest.MonkeyPatch, module: Module
) -> Steps:
    yield lost
    removable.bring_back()
    tried = []

    def refuse(*arguments: object) -> None:
        tried.append(arguments)
        raise pkcs11.PinIncorrect

    monkeypatch.setattr(module.functions, "login", refuse)
    with pytest.raises(PinIncorrectError):
        until_it_is_found(lambda: sign(lost))
    assert len(tried) == 1


@transition("lost", "it is closed", "closed")
def test_closing_a_lost_token(lost: Token) -> Steps:
    yield lost
    lost.close()


# --- hung


@transition("hung", "another operation begins", "hung")
def test_nobody_else_is_let_in(logged_in: Token, hanging: Hanging) -> Steps:
    hanging.start()
    yield logged_in
    with pytest.raises(ModuleError, match="hangs") as failure:
        list_certificates(logged_in)
    assert failure.value.hint
    assert "restart" in failure.value.hint


@transition("hung", "the call comes back", "logged-in")
def test_call_comes_back(logged_in: Token, hanging: Hanging) -> Steps:
    hanging.start()
    yield logged_in
    hanging.come_back()
    assert sign(logged_in)


@transition("hung", "it is closed", "closed")
def test_closing_does_not_hang(logged_in: Token, hanging: Hanging) -> Steps:
    hanging.start()
    yield logged_in
    begun = time.monotonic()
    logged_in.close()
    assert time.monotonic() - begun < 5


# --- forked

FORK = """
    import os, sys
    from tokensign.errors import ModuleError
    from tokensign.token import Pin, list_keys, open_token

    def in_child(work):
        child = os.fork()
        if child:
            assert os.waitpid(child, 0)[1] == 0
            return
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)

    token = open_token(token={label!r}, pin_source="env:TOKEN_PIN")
    list_keys(token)
    assert token.state == "logged-in"
"""


def run_forking(label: str, user_pin: str, program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK).format(label=label) + textwrap.dedent(program)],
        env=os.environ | {"TOKEN_PIN": user_pin},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


@transition("logged-in", "the process is forked, in the child", "forked")
@transition("forked", "an operation begins", "forked")
def test_child_of_a_fork_is_refused(removable: Removable, user_pin: str) -> None:
    program = """
    def use():
        assert token.state == "forked"
        try:
            list_keys(token)
        except ModuleError as error:
            assert "before this process was forked" in error.message
        else:
            raise AssertionError("it worked")
        assert token.state == "forked"
    in_child(use)
    """
    run_forking(removable.label, user_pin, program)


@transition("logged-in", "the process is forked, in the parent", "logged-in")
@transition("forked", "it is closed", "closed")
@transition("forked", "the child opens the token itself", "logged-in")
def test_child_of_a_fork_opens_the_token_itself_and_the_parent_goes_on(
    removable: Removable, user_pin: str
) -> None:
    program = """
    def reopen():
        token.close()
        assert token.state == "closed"
        with open_token(token={label!r}, pin_source="env:TOKEN_PIN") as own:
            list_keys(own)
            assert own.state == "logged-in"
    in_child(reopen)
    assert token.state == "logged-in"
    list_keys(token)
    token.close()
    """
    run_forking(removable.label, user_pin, program.format(label=removable.label))


# --- the document


def test_the_document_has_just_these_transitions() -> None:
    rows = [line.strip("| \n").split(" | ") for line in DOCUMENT.read_text().splitlines() if "→" in line]
    documented = [(before.strip(), event.strip(), after.strip("→ `")) for before, event, after in rows]
    told = [(before.strip("`"), event, after) for before, event, after in documented]
    assert sorted(told) == sorted(TRANSITIONS)
    assert len(set(TRANSITIONS)) == len(TRANSITIONS)


def test_every_state_is_reached_and_left() -> None:
    assert {after for _, _, after in TRANSITIONS} == set(TokenState)
    assert {before for before, _, _ in TRANSITIONS} == set(TokenState)
