"""The share of the best parent's score that is kept, by hand."""

from __future__ import annotations

import math

import pytest

from evomerge.errors import ConfigError
from evomerge.objectives.normalised_mean import NormalisedMean
from evomerge.types import Estimate


def estimates(*values, stderr=0.0):
    return tuple(Estimate(v, stderr, 10) for v in values)


PARENTS = [estimates(0.5, 0.3), estimates(0.2, 0.8)]  # best: 0.5 and 0.8


def test_it_is_the_mean_of_scores_over_the_best_parents():
    (found,) = NormalisedMean().combine(estimates(0.4, 0.6), (), PARENTS)
    assert found.value == pytest.approx((0.4 / 0.5 + 0.6 / 0.8) / 2)


def test_the_best_parents_are_worth_one_whatever_the_sign_and_size_of_their_scores():
    parents = [estimates(0.5, -2.0, 0.001)]
    assert NormalisedMean().combine(parents[0], (), parents)[0].value == pytest.approx(1.0)


def test_scores_below_zero_still_rise_with_the_score():
    error_rates = [estimates(-0.2)]
    better, worse = (NormalisedMean().combine(estimates(v), (), error_rates)[0].value for v in (-0.1, -0.4))
    assert (better, worse) == (pytest.approx(1.5), pytest.approx(0.0))


def test_a_best_score_near_zero_does_not_blow_up_the_mean():
    (found,) = NormalisedMean(min_score=0.1).combine(estimates(0.05), (), [estimates(0.0)])
    assert found.value == pytest.approx(1.5)


def test_standard_errors_are_scaled_and_added_as_squares():
    (found,) = NormalisedMean().combine(estimates(0.4, 0.6, stderr=0.04), (), PARENTS)
    assert found.stderr == pytest.approx(math.hypot(0.04 / 0.5, 0.04 / 0.8) / 2)


def test_a_smallest_score_that_is_not_positive_is_refused():
    with pytest.raises(ConfigError, match=r"objective.min_score is 0; wanted a positive number"):
        NormalisedMean(0)
