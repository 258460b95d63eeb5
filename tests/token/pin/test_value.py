from __future__ import annotations

import copy
import gc
import pickle

import pytest

from tokensign.errors import PinUnavailableError
from tokensign.token import Pin, PinRequest

PIN = "correct horse"


def test_a_pin_is_hidden_wherever_it_is_shown() -> None:
    pin = Pin(PIN)
    assert pin.reveal() == PIN.encode()
    for shown in (repr(pin), str(pin), f"{pin}", f"{[pin]!r}"):
        assert PIN not in shown
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not copied or stored"):
            attempt(pin)


def test_a_wiped_pin_is_gone() -> None:
    pin = Pin(PIN)
    octets = pin.octets
    pin.wipe()
    assert octets == bytes(len(PIN))
    for use in (pin.reveal, pin.duplicate, lambda: pin.octets):
        with pytest.raises(PinUnavailableError, match="forgotten"):
            use()


def test_a_pin_is_overwritten_when_nothing_refers_to_it_any_more() -> None:
    pin = Pin(PIN)
    octets = pin.octets
    del pin
    gc.collect()
    assert octets == bytes(len(PIN))


def test_a_pin_as_a_source_gives_a_duplicate_that_can_be_wiped() -> None:
    pin = Pin(PIN)
    given = pin.get(PinRequest(purpose="the token acme"))
    given.wipe()
    assert pin.reveal() == PIN.encode()


def test_what_is_given_is_not_changed_when_the_pin_is_wiped() -> None:
    given = bytearray(PIN.encode())
    Pin(given).wipe()
    assert given == PIN.encode()


def test_pins_are_compared() -> None:
    assert Pin(PIN).matches(Pin(PIN))
    assert not Pin(PIN).matches(Pin(f"{PIN}s"))


@pytest.mark.parametrize("value", ["", "x" * 256, "ä" * 128])
def test_what_cannot_be_a_pin_is_refused(value: str) -> None:
    with pytest.raises(PinUnavailableError, match="1 to 255 bytes"):
        Pin(value)
