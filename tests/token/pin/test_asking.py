"""How often a source is asked, and what it is told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from pkcs11 import Attribute, KeyType

from tokensign.algorithms import KeySpec, default_scheme
from tokensign.errors import PinIncorrectError
from tokensign.token import (
    InteractiveSource,
    Pin,
    PinRequest,
    change_pin,
    change_so_pin,
    generate_key,
    open_key,
    open_token,
    unblock_pin,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokensign.token import Module, TokenKey

MESSAGE = b"message"
EACH_TIME = "This key wants its PIN for each operation."


class CountingSource:
    """A source that has the PIN and remembers what it was asked."""

    def __init__(self, pin: str) -> None:
        self.pin = pin
        self.asked: list[PinRequest] = []

    def get(self, request: PinRequest) -> Pin:
        self.asked.append(request)
        return Pin(self.pin)


class Person(CountingSource, InteractiveSource):
    """One who is asked each time."""


def sign(key: TokenKey) -> bytes:
    return key.sign(MESSAGE, default_scheme(key.public_key))


@pytest.fixture
def careful(module: Module, new_token: Callable[..., str], user_pin: str) -> str:
    """The label of a token with the key "careful", which wants its PIN for each operation."""
    label = new_token()
    template = {Attribute.ALWAYS_AUTHENTICATE: True}
    with (
        open_token(module, label, Pin(user_pin), read_write=True) as token,
        token.borrow("generate", change=True) as session,
    ):
        session.binding.generate_keypair(
            KeyType.RSA, 2048, label="careful", id=b"1", store=True, private_template=template
        )
    return label


def test_a_thousand_signatures_ask_once(module: Module, new_token: Callable[..., str], user_pin: str) -> None:
    person = Person(user_pin)
    label = new_token()
    with open_token(module, label, person, read_write=True, action="sign a thousand files") as token:
        generate_key(token, "alice", KeySpec.parse("ec:p256"))
        key = open_key(token, "alice")
        with ThreadPoolExecutor(4) as pool:
            signatures = set(pool.map(lambda _: sign(key), range(1000)))
    assert len(signatures) == 1000
    assert person.asked == [
        PinRequest(purpose=f"the token {label}", action="sign a thousand files", account=label)
    ]


def test_a_key_that_wants_its_pin_each_time_asks_a_person_each_time(
    module: Module, careful: str, user_pin: str
) -> None:
    person = Person(user_pin)
    with open_token(module, careful, person) as token:
        key = open_key(token, "careful")
        for _ in range(2):
            sign(key)
    assert [(request.action, request.note) for request in person.asked] == [
        ("", ""),
        ("sign with the key careful", EACH_TIME),
        ("sign with the key careful", EACH_TIME),
    ]


def test_a_key_that_wants_its_pin_each_time_asks_another_source_once(
    module: Module, careful: str, user_pin: str
) -> None:
    source = CountingSource(user_pin)
    with open_token(module, careful, source) as token:
        key = open_key(token, "careful")
        for _ in range(3):
            sign(key)
    assert len(source.asked) == 1


def test_a_person_is_asked_one_thing_at_a_time(module: Module, careful: str, user_pin: str) -> None:
    class Busy(Person):
        asking = 0
        most = 0

        def get(self, request: PinRequest) -> Pin:
            self.asking += 1
            self.most = max(self.most, self.asking)
            pin = super().get(request)
            self.asking -= 1
            return pin

    person = Busy(user_pin)
    with open_token(module, careful, person) as token:
        key = open_key(token, "careful")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: sign(key), range(8)))
    assert len(person.asked) == 9
    assert person.most == 1


def test_a_wrong_pin_for_one_operation_ends_the_asking(module: Module, careful: str, user_pin: str) -> None:
    person = Person(user_pin)
    with open_token(module, careful, person) as token:
        key = open_key(token, "careful")
        person.pin = "wrong-pin"
        with pytest.raises(PinIncorrectError, match="tried once"):
            sign(key)
        with pytest.raises(PinIncorrectError, match="not tried again"):
            sign(key)
    assert len(person.asked) == 2


def test_the_pin_that_was_given_stays_with_who_gave_it(
    module: Module, new_token: Callable[..., str], user_pin: str
) -> None:
    pin = Pin(user_pin)
    with open_token(module, new_token(), pin) as token:
        token.log_in()
    assert pin.reveal() == user_pin.encode()


def test_a_warning_is_given_after_a_wrong_pin(
    module: Module, new_token: Callable[..., str], user_pin: str
) -> None:
    label = new_token()
    with open_token(module, label, Pin("wrong-pin")) as token, pytest.raises(PinIncorrectError):
        token.log_in()
    person = Person(user_pin)
    with open_token(module, label, person) as token:
        token.log_in()
    assert person.asked[0].note == "A wrong PIN was given before; a few more lock it."


def test_a_change_asks_for_the_old_pin_and_the_new_one(
    module: Module, new_token: Callable[..., str], user_pin: str
) -> None:
    label = new_token()
    old, new = Person(user_pin), Person("another-pin")
    with open_token(module, label, old) as token:
        change_pin(token, new=new)
    purpose = f"the token {label}"
    assert old.asked == [PinRequest(purpose=purpose, action="change it", account=label)]
    assert new.asked == [PinRequest(purpose=f"{purpose}, the new one", account=label, new=True)]


def test_the_officer_is_another_account(module: Module, new_token: Callable[..., str], so_pin: str) -> None:
    label = new_token()
    officer, user = Person(so_pin), Person("another-pin")
    unblock_pin(module, label, officer, user)
    change_so_pin(module, label, officer, officer)
    assert [(request.account, request.new) for request in officer.asked] == [
        (f"{label} (SO)", False),
        (f"{label} (SO)", False),
        (f"{label} (SO)", True),
    ]
    assert [request.account for request in user.asked] == [label]
