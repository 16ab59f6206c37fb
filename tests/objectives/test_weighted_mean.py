"""The weighted mean of task scores, by hand."""

from __future__ import annotations

import math

import pytest

from evomerge.errors import ConfigError
from evomerge.objectives.weighted_mean import WeightedMean
from evomerge.types import Estimate

TASKS = (Estimate(0.2, 0.03, 10), Estimate(0.8, 0.04, 30))


def test_without_weights_it_is_the_plain_mean():
    (found,) = WeightedMean().combine(TASKS, (), ())
    assert found.value == pytest.approx(0.5)
    assert found.stderr == pytest.approx(math.hypot(0.03, 0.04) / 2)
    assert found.n_items == 40


def test_weights_count_in_proportion():
    (found,) = WeightedMean([3, 1]).combine(TASKS, (), ())
    assert found.value == pytest.approx(0.75 * 0.2 + 0.25 * 0.8)
    assert found.stderr == pytest.approx(math.hypot(0.75 * 0.03, 0.25 * 0.04))


def test_a_common_factor_of_the_weights_does_not_matter():
    one, other = (WeightedMean(w).combine(TASKS, (), ())[0] for w in ([3, 1], [0.3, 0.1]))
    assert (one.value, one.stderr) == pytest.approx((other.value, other.stderr))


def test_a_weight_of_zero_takes_its_task_out():
    (found,) = WeightedMean([0, 2]).combine(TASKS, (), ())
    assert (found.value, found.stderr) == pytest.approx((0.8, 0.04))


@pytest.mark.parametrize("weights", [[-1, 2], [0, 0], [], [float("nan"), 1], [1, float("inf")]])
def test_weights_without_a_positive_finite_sum_are_refused(weights):
    with pytest.raises(ConfigError, match=r"objective.weights is .* wanted numbers >= 0 with a positive sum"):
        WeightedMean(weights)


def test_another_number_of_weights_than_tasks_is_refused():
    with pytest.raises(ConfigError, match=r"objective.weights has 3 numbers for 2 tasks; wanted one per task"):
        WeightedMean([1, 1, 1]).combine(TASKS, (), ())
    with pytest.raises(ConfigError, match=r"objective.weights has 3 numbers for 2 tasks; wanted one per task"):
        WeightedMean([1, 1, 1]).goals(("sums", "letters"))
    assert WeightedMean([1, 1]).goals(("sums", "letters")) == ("weighted_mean",)


@pytest.mark.parametrize("stderr", [math.inf, math.nan])
def test_an_unknown_error_of_a_task_that_does_not_count_is_not_the_means(stderr):
    tasks = (Estimate(0.2, 0.03, 10), Estimate(0.8, stderr, 30))
    assert WeightedMean([2, 0]).combine(tasks, (), ())[0].stderr == pytest.approx(0.03)
    assert not math.isfinite(WeightedMean([2, 1]).combine(tasks, (), ())[0].stderr)
