"""What every objective of conf/objective/ keeps: higher is better, on every task, and references do not move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from evomerge.config import CONF, choices, make
from evomerge.types import Estimate

MEMBERS = choices("objective")
FLOOR = (Estimate(0.2, 0.05, 10), Estimate(-1.0, 0.05, 20), Estimate(0.5, 0.1, 30))
PARENTS = [(Estimate(0.6, 0.05, 10), Estimate(-2.0, 0.05, 20), Estimate(0.4, 0.1, 30))]

pytestmark = pytest.mark.parametrize("name", MEMBERS)
values = st.lists(st.floats(-3, 3), min_size=3, max_size=3)


def fitness(name, found, stderr=0.1):
    objective = make("objective", OmegaConf.load(CONF / "objective" / f"{name}.yaml"))
    return objective.combine(tuple(Estimate(v, stderr, 10) for v in found), FLOOR, PARENTS)


@given(found=values, task=st.integers(0, 2), gain=st.floats(0, 2))
def test_a_better_score_on_a_task_is_never_worse(name, found, task, gain):
    better = [v + gain * (i == task) for i, v in enumerate(found)]
    for before, after in zip(fitness(name, found), fitness(name, better), strict=True):
        assert after.value >= before.value - 1e-12


@given(found=values)
def test_better_on_all_tasks_is_strictly_better_in_every_objective(name, found):
    for before, after in zip(fitness(name, found), fitness(name, [v + 0.01 for v in found]), strict=True):
        assert after.value > before.value


@given(found=values)
def test_estimates_are_finite_with_a_standard_error_that_grows_with_the_tasks(name, found):
    for sharp, noisy in zip(fitness(name, found, 0.1), fitness(name, found, 0.2), strict=True):
        assert np.isfinite([sharp.value, sharp.stderr]).all()
        assert noisy.stderr == pytest.approx(2 * sharp.stderr)
        assert sharp.n_items > 0


def test_one_task_is_enough(name):
    objective = make("objective", OmegaConf.load(CONF / "objective" / f"{name}.yaml"))
    (found,) = objective.combine((Estimate(0.4, 0.1, 10),), FLOOR[:1], [PARENTS[0][:1]])
    assert found.n_items == 10


@pytest.mark.parametrize("tasks", [("a",), ("a", "b", "c")])
def test_every_goal_has_a_name_of_its_own(name, tasks):
    objective = make("objective", OmegaConf.load(CONF / "objective" / f"{name}.yaml"))
    names = objective.goals(tasks)
    found = objective.combine(FLOOR[: len(tasks)], FLOOR[: len(tasks)], [PARENTS[0][: len(tasks)]])
    assert len(names) == len(set(names)) == len(found) and all(names)
