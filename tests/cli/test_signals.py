"""Signals that come where Python does not let their exception through."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

LOST = """
import os, signal, sys, time, weakref
from tokensign.cli import signals

class Thing:
    pass

signals._LOOK = 0.2
signals.catch_signals()
signals.say_no_lost_signal()
thing = Thing()
reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), int(sys.argv[1])))
try:
    del thing  # the callback is interrupted, and the interpreter drops its exception
    time.sleep(60)
except signals.SignalError as error:
    print(error.number.name)
"""
SWALLOWED = """
import os, sys, time
from tokensign.cli import signals

signals._LOOK = 0.2
signals.catch_signals()
try:
    os.kill(os.getpid(), int(sys.argv[1]))
except:
    pass
try:
    time.sleep(60)
except signals.SignalError as error:
    print(error.number.name)
"""
SLOW = """
import os, sys, time
from tokensign.cli import signals

signals._LOOK = 0.2
signals.catch_signals()
try:
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
    finally:
        time.sleep(2.5 * signals._LOOK)
        print("cleared up", flush=True)
except signals.SignalError as error:
    signals.tell_the_end(error.number, as_json=False)
    time.sleep(1.5 * signals._LOOK)
print("done")
"""
WRAPPED = """
import os, signal, sys
from tokensign import cli
from tokensign.cli.root import root

class Attribute:
    def __set_name__(self, owner, name):  # whose exceptions become a RuntimeError
        os.kill(os.getpid(), int(sys.argv[1]))

root.main = lambda *_, **__: type("Thing", (), {"attribute": Attribute()})
cli.main(["key", "list"])
"""
ENDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "the terminal is gone"}

every_signal = pytest.mark.parametrize("number", ENDS, ids=lambda number: number.name)


def run(program: str, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, str(int(number))],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@every_signal
def test_a_signal_in_a_callback_of_the_interpreter_comes_again(number: signal.Signals) -> None:
    done = run(LOST, number)
    assert (done.stdout, done.stderr) == (f"{number.name}\n", "")


@every_signal
def test_a_signal_that_a_library_swallows_comes_again(number: signal.Signals) -> None:
    done = run(SWALLOWED, number)
    assert (done.stdout, done.stderr) == (f"{number.name}\n", "")


def test_a_slow_ending_is_not_spoiled_by_looking_after_it() -> None:
    assert run(SLOW, signal.SIGTERM).stdout == "cleared up\ndone\n"


@every_signal
def test_a_signal_in_the_making_of_a_class_is_no_bug(number: signal.Signals) -> None:
    done = run(WRAPPED, number)
    assert done.returncode == 128 + number
    assert done.stderr.startswith(f"error: {ENDS[number]}\n")


def test_other_exceptions_that_are_dropped_are_told_as_ever() -> None:
    program = LOST.replace("os.kill(os.getpid(), int(sys.argv[1]))", "1 / 0").replace("sleep(60)", "sleep(0)")
    assert "ZeroDivisionError" in run(program, signal.SIGHUP).stderr
