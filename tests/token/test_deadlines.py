from __future__ import annotations

import os
import time

from tokensign.token import deadlines
from tokensign.token.deadlines import Deadlines


def test_a_call_that_is_not_back_in_time_is_seen() -> None:
    watched = Deadlines()
    late = watched.start(time.monotonic() - 1)
    in_time = watched.start(time.monotonic() + 60)
    assert watched.is_missed(late)
    assert not watched.is_missed(in_time)
    assert watched.any_missed(stopped=0)
    assert not watched.any_missed(stopped=5)
    watched.end(late)
    assert not watched.any_missed(stopped=0)


def test_a_parent_sees_what_its_child_writes_down() -> None:
    watched = Deadlines()
    child = os.fork()
    if not child:
        watched.start(time.monotonic() - 1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert watched.any_missed(stopped=0)


def test_a_child_has_deadlines_of_its_own_unless_it_takes_others_over() -> None:
    before = deadlines.current()
    child = os.fork()
    if not child:
        fresh = deadlines.current() is not before
        deadlines.install(before)
        os._exit(0 if fresh and deadlines.current() is before else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert deadlines.current() is before


def test_more_threads_than_places_work_and_are_not_watched() -> None:
    watched = Deadlines()
    places = [watched.start(time.monotonic() + 60) for _ in range(2000)]
    unwatched = watched.start(time.monotonic() - 1)
    assert not watched.is_missed(unwatched)
    assert not watched.any_missed(stopped=0)
    for place in (*places, unwatched):
        watched.end(place)
    late = watched.start(time.monotonic() - 1)
    assert watched.is_missed(late)
