"""Share of the gap closed, by hand."""

from __future__ import annotations

import math

import pytest

from evomerge.errors import ConfigError
from evomerge.objectives.gap_closed import GapClosed
from evomerge.types import Estimate


def estimates(*values, stderr=0.0, n=10):
    return tuple(Estimate(v, stderr, n) for v in values)


BASE = estimates(0.2, 0.4)
PARENTS = [estimates(0.6, 0.3), estimates(0.1, 0.8)]  # best: 0.6 and 0.8, gaps of 0.4 and 0.4


def test_the_base_is_zero_and_every_expert_on_its_own_task_is_one():
    assert GapClosed().combine(BASE, BASE, PARENTS)[0].value == pytest.approx(0.0)
    assert GapClosed().combine(estimates(0.6, 0.8), BASE, PARENTS)[0].value == pytest.approx(1.0)


def test_shares_are_averaged_over_tasks():
    (found,) = GapClosed().combine(estimates(0.3, 0.7), BASE, PARENTS)
    assert found.value == pytest.approx((0.25 + 0.75) / 2)


def test_a_merge_may_beat_the_experts_or_lose_to_the_base():
    assert GapClosed().combine(estimates(0.8, 0.8), BASE, PARENTS)[0].value == pytest.approx(1.25)
    assert GapClosed().combine(estimates(0.0, 0.4), BASE, PARENTS)[0].value == pytest.approx(-0.25)


def test_standard_errors_are_scaled_by_their_gaps_and_added_as_squares():
    parents = [estimates(0.6, 1.2)]  # gaps of 0.4 and 0.8
    tasks = (Estimate(0.3, 0.04, 10), Estimate(0.7, 0.16, 30))
    (found,) = GapClosed().combine(tasks, BASE, parents)
    assert found.stderr == pytest.approx(math.hypot(0.1, 0.2) / 2)
    assert found.n_items == 40


@pytest.mark.parametrize("best", [0.4001, 0.4, 0.1])
def test_a_gap_too_small_or_negative_counts_as_the_smallest_allowed(best):
    parents = [estimates(0.6, best)]
    (found,) = GapClosed(min_gap=0.1).combine(estimates(0.2, 0.5), BASE, parents)
    assert found.value == pytest.approx((0.0 + 0.1 / 0.1) / 2)


def test_an_improvement_is_never_a_loss_even_where_no_parent_is_better_than_the_base():
    parents = [estimates(0.1, 0.1)]
    better = GapClosed().combine(estimates(0.3, 0.5), BASE, parents)[0].value
    assert better > GapClosed().combine(BASE, BASE, parents)[0].value == 0.0


def test_it_works_for_scores_below_zero():
    floor, parents = estimates(-5.0), [estimates(-3.0)]
    assert GapClosed().combine(estimates(-3.5), floor, parents)[0].value == pytest.approx(0.75)


@pytest.mark.parametrize("gap", [0.0, -0.1, float("nan")])
def test_a_smallest_gap_that_is_not_positive_is_refused(gap):
    with pytest.raises(ConfigError, match=r"objective.min_gap is .* wanted a positive number"):
        GapClosed(gap)
