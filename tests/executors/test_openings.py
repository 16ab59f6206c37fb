"""When workers are due, late, or beyond hope."""

from __future__ import annotations

import math

from evomerge.executors.openings import Openings, pause


def test_pauses_grow_to_a_minute():
    assert [pause(n) for n in range(5)] == [0.0, 0.5, 1.0, 2.0, 4.0]
    assert pause(50) == 60.0


def test_all_are_due_at_once_and_each_is_taken_once():
    openings = Openings(3, None, 5.0)
    assert openings.next(5.0) == 0.0
    assert (openings.take(5.0), openings.take(5.0)) == ([0, 1, 2], [])
    assert all(worker in openings for worker in range(3))
    assert openings.next(5.0) == math.inf


def test_who_died_while_it_served_is_due_at_once_and_who_failed_to_open_after_a_pause():
    openings = Openings(2, None, 0.0)
    openings.take(0.0)
    openings.ready(0)
    assert (openings.ended(0, 7.0), openings.ended(1, 7.0)) == (0, 1)
    assert openings.take(7.0) == [0]
    assert openings.next(7.0) == pause(1)
    assert openings.take(7.0 + pause(1)) == [1]
    assert openings.ended(1, 9.0) == 2


def test_who_is_late_is_told_once_and_counted_from_its_own_beginning():
    openings = Openings(2, 10.0, 0.0)
    openings.take(0.0)
    openings.ended(1, 3.0)
    openings.take(3.5)
    assert openings.next(3.5) == 6.5
    assert (openings.late(9.9), openings.late(10.0), openings.late(11.0)) == ([], [0], [])
    assert openings.next(11.0) == 2.5
    assert openings.late(13.5) == [1]


def test_one_success_is_hope_again():
    openings = Openings(2, None, 0.0)
    for _ in range(3):
        assert not openings.hopeless()
        openings.take(100.0)
        openings.ended(0, 0.0), openings.ended(1, 0.0)
    assert openings.hopeless()
    openings.take(100.0)
    openings.ready(1)
    assert not openings.hopeless()
    openings.ended(1, 100.0)
    assert not openings.hopeless()
