"""The login: when it ends, and what comes then."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.agent.conftest import logged_in
from tokensign.agent.custody import Custody, Limits
from tokensign.errors import AgentError, PinIncorrectError
from tokensign.token.connection import is_connected

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.agent.conftest import CountingSource
    from tokensign.token import Module


def held(module: Module, label: str, source: CountingSource, *, idle: float, lifetime: float) -> Custody:
    return Custody(logged_in(module, label, source), source, Limits(idle, lifetime))


def is_refused(custody: Custody) -> bool:
    try:
        with custody.use():
            return False
    except AgentError:
        return True


def test_the_pin_is_asked_for_once(custody: Custody, source: CountingSource) -> None:
    for _ in range(10):
        with custody.use() as opened:
            opened.token.log_in()
    assert source.asked == 1


def test_lock_logs_out_and_unlock_asks_again(
    custody: Custody, source: CountingSource, module: Module
) -> None:
    custody.lock()
    assert custody.locked
    assert custody.seconds_left is None
    assert not is_connected(module, custody.info)  # so its connection has logged out and wiped the PIN
    assert is_refused(custody)
    assert source.asked == 1
    custody.unlock()
    custody.unlock()
    assert not is_refused(custody)
    assert source.asked == 2


def test_a_wrong_pin_leaves_it_locked(custody: Custody, source: CountingSource, user_pin: str) -> None:
    custody.lock()
    source.pin = "wrong"
    with pytest.raises(PinIncorrectError):
        custody.unlock()
    assert is_refused(custody)
    source.pin = user_pin
    custody.unlock()
    assert not is_refused(custody)
    assert source.asked == 3


def test_use_puts_the_idle_timeout_off(
    module: Module, new_token: Callable[..., str], source: CountingSource
) -> None:
    custody = held(module, new_token(), source, idle=2.0, lifetime=60)
    for _ in range(8):
        time.sleep(0.3)
        assert not is_refused(custody)
    time.sleep(2.2)
    assert is_refused(custody)
    assert custody.locked


def test_use_does_not_put_the_lifetime_off(
    module: Module, new_token: Callable[..., str], source: CountingSource
) -> None:
    custody = held(module, new_token(), source, idle=60, lifetime=0.8)
    end = time.monotonic() + 0.8
    while not is_refused(custody):
        assert time.monotonic() < end + 2
        time.sleep(0.05)
    assert time.monotonic() >= end - 0.2
    assert source.asked == 1


def test_an_operation_that_runs_is_not_idle(
    module: Module, new_token: Callable[..., str], source: CountingSource
) -> None:
    custody = held(module, new_token(), source, idle=0.2, lifetime=60)
    with custody.use():
        time.sleep(0.5)
        custody.lock_when_due()
        assert not custody.locked
    custody.lock()


def test_lock_waits_for_operations_that_run(custody: Custody) -> None:
    entered, leave, order = threading.Event(), threading.Event(), list[str]()

    def operate() -> None:
        with custody.use() as opened:
            entered.set()
            leave.wait(10)
            opened.token.log_in()  # still works
            order.append("operation")

    def lock() -> None:
        custody.lock()
        order.append("lock")

    threads = [threading.Thread(target=operate), threading.Thread(target=lock)]
    threads[0].start()
    entered.wait(10)
    threads[1].start()
    while not custody.locked:
        time.sleep(0.01)
    assert is_refused(custody)
    leave.set()
    for thread in threads:
        thread.join(20)
    assert order == ["operation", "lock"]
