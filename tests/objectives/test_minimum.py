"""The worst task's score."""

from __future__ import annotations

from evomerge.objectives.minimum import Minimum
from evomerge.types import Estimate


def test_it_is_the_estimate_of_the_worst_task_with_its_own_standard_error():
    tasks = (Estimate(0.5, 0.1, 10), Estimate(-0.3, 0.2, 20, "jeffreys"), Estimate(0.9, 0.3, 30))
    assert Minimum().combine(tasks, (), ()) == (tasks[1],)


def test_a_gain_on_the_best_task_does_not_count():
    before, after = (Minimum().combine((Estimate(0.1, 0, 5), Estimate(best, 0, 5)), (), ()) for best in (0.5, 0.9))
    assert before == after


def test_of_equal_tasks_the_first_counts():
    tasks = (Estimate(0.5, 0.1, 10), Estimate(0.5, 0.2, 20))
    assert Minimum().combine(tasks, (), ()) == (tasks[0],)
