"""The mean of the worst tasks, by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import ConfigError
from evomerge.objectives.cvar import CVaR
from evomerge.objectives.gap_closed import GapClosed
from evomerge.types import Estimate


def estimates(*values, stderr=0.0):
    return tuple(Estimate(v, stderr, 10 * (i + 1)) for i, v in enumerate(values))


FLOOR, PARENTS = estimates(0, 0, 0, 0), [estimates(1, 1, 1, 1)]  # scores are shares of the gap


def test_the_worst_half_of_four_tasks_is_the_mean_of_two():
    (found,) = CVaR(0.5).combine(estimates(0.9, 0.1, 0.8, 0.4, stderr=0.2), FLOOR, PARENTS)
    assert found.value == pytest.approx((0.1 + 0.4) / 2)
    assert found.stderr == pytest.approx(math.hypot(0.1, 0.1))
    assert found.n_items == 20 + 40


def test_a_task_at_the_edge_counts_in_part():
    (found,) = CVaR(0.5).combine(estimates(0.9, 0.1, 0.4), FLOOR[:3], [PARENTS[0][:3]])
    assert found.value == pytest.approx((0.1 + 0.5 * 0.4) / 1.5)


@given(scores=st.lists(st.floats(-1, 2), min_size=4, max_size=4))
def test_of_all_tasks_it_is_the_gap_closed_and_of_few_the_worst_task(scores):
    tasks = estimates(*scores)
    assert CVaR(1.0).combine(tasks, FLOOR, PARENTS)[0].value == pytest.approx(
        GapClosed().combine(tasks, FLOOR, PARENTS)[0].value
    )
    assert CVaR(0.1).combine(tasks, FLOOR, PARENTS)[0].value == pytest.approx(min(scores))


def test_an_unknown_error_of_a_task_that_does_not_count_is_not_the_goals():
    tasks = (Estimate(0.1, 0.2, 10), Estimate(0.9, math.inf, 10))
    assert CVaR(0.5).combine(tasks, FLOOR[:2], [PARENTS[0][:2]])[0].stderr == pytest.approx(0.2)
    assert CVaR(0.9).combine(tasks, FLOOR[:2], [PARENTS[0][:2]])[0].stderr == math.inf


@pytest.mark.parametrize("share", [0, -0.5, 1.5, float("nan")])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ConfigError, match=r"objective.share is .*; wanted a share of the tasks"):
        CVaR(share)
