from __future__ import annotations

import threading
import time

import pytest

from tokensign.errors import ModuleError, TokenRemovedError
from tokensign.token.gate import Gate


def in_thread(work: object) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_operations_share_the_gate() -> None:
    gate = Gate()
    both = threading.Barrier(2, timeout=10)

    def operate() -> None:
        with gate.shared():
            both.wait()

    other = in_thread(operate)
    operate()
    other.join(10)
    assert not other.is_alive()


def test_a_serial_gate_lets_one_thread_through() -> None:
    gate = Gate(serial=True)
    events = []

    def operate() -> None:
        with gate.shared():
            events.append("other")

    with gate.shared(), gate.shared():
        other = in_thread(operate)
        time.sleep(0.05)
        events.append("first")
    other.join(10)
    assert events == ["first", "other"]


def test_recovery_waits_for_operations_and_holds_new_ones_up() -> None:
    gate = Gate()
    events = []
    begun, may_end = threading.Event(), threading.Event()

    def operate() -> None:
        with gate.shared():
            begun.set()
            may_end.wait(10)
            events.append("operation")

    def operate_later() -> None:
        with gate.shared():
            events.append("later")

    first = in_thread(operate)
    begun.wait(10)
    threading.Timer(0.05, may_end.set).start()
    with gate.exclusive(10), gate.shared():
        later = in_thread(operate_later)
        time.sleep(0.05)
        events.append("recovery")
    first.join(10)
    later.join(10)
    assert events == ["operation", "recovery", "later"]


def test_recovery_gives_up_on_an_operation_that_hangs() -> None:
    gate = Gate()
    begun, may_end = threading.Event(), threading.Event()

    def hang() -> None:
        with gate.shared():
            begun.set()
            may_end.wait(10)

    hanging = in_thread(hang)
    begun.wait(10)
    with pytest.raises(TokenRemovedError, match="still busy"), gate.exclusive(0.05):
        pass
    may_end.set()
    hanging.join(10)


def hang_in(gate: Gate, begun: threading.Event, back: threading.Event) -> threading.Thread:
    def hang() -> None:
        with gate.shared():
            begun.set()
            back.wait(10)

    thread = in_thread(hang)
    begun.wait(10)
    return thread


@pytest.mark.parametrize("serial", [False, True])
def test_nobody_passes_while_a_thread_hangs_inside(*, serial: bool) -> None:
    gate = Gate("slow.so", serial=serial, timeout=0.05)
    begun, back = threading.Event(), threading.Event()
    hanging = hang_in(gate, begun, back)
    time.sleep(0.7)  # longer than it may take, and than it takes until somebody looks
    assert gate.hangs
    with pytest.raises(ModuleError, match=r"slow\.so hangs"), gate.shared():
        pass
    with pytest.raises(ModuleError, match=r"slow\.so hangs"), gate.exclusive(10):
        pass
    back.set()
    hanging.join(10)
    assert not gate.hangs
    with gate.shared():
        pass


def test_an_operation_may_be_given_more_time() -> None:
    gate = Gate(timeout=0.05)
    with gate.shared(at_least=60):
        time.sleep(0.1)
        assert not gate.hangs


def test_a_lock_of_a_thread_that_hangs_is_not_waited_for() -> None:
    gate = Gate(timeout=0.05)
    lock = threading.RLock()
    begun, back = threading.Event(), threading.Event()

    def hang() -> None:
        with gate.holding(lock), gate.shared():
            begun.set()
            back.wait(10)

    hanging = in_thread(hang)
    begun.wait(10)
    with pytest.raises(ModuleError, match="hangs"), gate.holding(lock):
        pass
    back.set()
    hanging.join(10)
    with gate.holding(lock):
        pass
