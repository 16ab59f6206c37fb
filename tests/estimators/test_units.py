"""Units: which oriented scores count as 0 and 1, and where a logistic model may be believed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.estimators.units import Units, units_of
from evomerge.types import Estimate, Metric
from tests.estimators.irt_world import bank_of

UP, DOWN, PAIRS = Metric("acc", True), Metric("error", False), Metric("bits", True, "pairs")


def only(endpoints, metric=UP):
    units = units_of(bank_of(endpoints, metrics=(metric,)))
    return float(units.low[0]), float(units.high[0]), units.logistic[0]


@pytest.mark.parametrize("scores", [[[0.0, 1.0], [1.0, 1.0]], [[0.25, 0.5], [0.3, np.nan]], [[np.nan, np.nan]]])
def test_scores_between_0_and_1_stay_as_they_are(scores):
    assert only(scores) == (0.0, 1.0, True)


def test_negated_errors_lie_between_minus_1_and_0():
    assert only([[0.0, -1.0], [-0.5, 0.0]], DOWN) == (-1.0, 0.0, True)


def test_unbounded_scores_are_measured_by_quantiles_of_all_endpoints():
    assert only([np.arange(101.0), np.arange(101.0)]) == pytest.approx((1.0, 99.0, True))


def test_an_endpoint_far_beyond_the_others_makes_a_task_unfit_for_logistic_models():
    usual = np.tile(np.arange(101.0), (20, 1))
    far = np.where(np.arange(101) < 90, usual[0], 1000.0)[None]  # a tenth of its scores, half a percent of all
    assert only(usual)[2] and not only(np.concatenate([usual, far]))[2]


def test_pairs_are_never_logistic():
    assert only([[0.1, 0.5]], PAIRS) == (0.0, 1.0, False)


def test_equal_unbounded_scores_still_have_a_scale():
    low, high, logistic = only([[7.0, 7.0]])
    assert low < 7.0 < high and not logistic


def test_scores_beyond_the_scale_are_clipped_and_missing_ones_stay_missing():
    units = Units(np.array([0.0, 10.0]), np.array([1.0, 30.0]), (True, True))
    assert units.scaled(np.array([5.0, 20.0, 40.0]), 1).tolist() == [0.0, 0.5, 1.0]
    assert units.scaled(np.array([0.5, 20.0]), np.array([0, 1])).tolist() == [0.5, 0.5]
    assert np.isnan(units.scaled(np.array([np.nan]), 0)[0])


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.floats(0, 1))
def test_there_and_back_is_where_one_was(low, span, share):
    units = Units(np.array([low]), np.array([low + span]), (True,))
    value = low + share * span
    found = units.back(Estimate(float(units.scaled(np.array([value]), 0)[0]), 0.25, 3, "why"), 0)
    assert found.value == pytest.approx(value, abs=1e-6)
    assert (found.stderr, found.n_items, found.fallback) == (pytest.approx(0.25 * span), 3, "why")
