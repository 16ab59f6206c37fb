"""Covariates: centred, only what varies, nothing for what no logistic model serves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evomerge.estimators.covariates import ENOUGH_MODELS, CovariateBank, covariates, endpoint_covariates
from evomerge.estimators.units import units_of
from evomerge.items import Observed
from evomerge.types import Metric
from tests.estimators.irt_world import bank_of, world

ACC, PAIRS = Metric("acc", True), Metric("bits", True, "pairs")


def of(bank, kind="bits"):
    return covariates(bank, units_of(bank), kind)


def test_intercept_endpoints_and_tasks_by_hand():
    bank = bank_of([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]], task=[0, 0, 1, 1])
    np.testing.assert_allclose(
        of(bank).T, [[1, 1, 1, 1], [0.75, -0.25, -0.25, -0.25], [0.5, 0.5, -0.5, -0.5], [-0.5, -0.5, 0.5, 0.5]]
    )


def test_columns_without_variance_are_dropped_and_missing_answers_are_the_mean():
    bank = bank_of([[1.0, 1.0, 1.0], [np.nan, 1.0, 0.0], [np.nan, np.nan, 1.0]])
    np.testing.assert_allclose(of(bank).T, [[1, 1, 1], [0, 0.5, -0.5]])


def test_margins_are_squashed_and_scores_stand_in_where_there_are_none():
    bank = replace(bank_of([[1.0, 0.0, 1.0]]), margins=np.array([[2.0, -1.0, np.nan]]))
    column = np.array([np.tanh(1.0), np.tanh(-0.5), 1.0])
    np.testing.assert_allclose(of(bank, "margins")[:, 1], column - column.mean())


def test_tasks_that_are_not_logistic_have_zeros_and_move_no_mean():
    bank = bank_of([[1.0, 0.0, 0.7, 0.1]], task=[0, 0, 1, 1], metrics=(ACC, PAIRS))
    np.testing.assert_allclose(of(bank), [[1, 0.5], [1, -0.5], [0, 0], [0, 0]])
    np.testing.assert_allclose(endpoint_covariates(bank, units_of(bank), 1), [[0.3], [-0.3]])


@pytest.mark.parametrize(("others", "columns"), [(ENOUGH_MODELS - 1, 3), (ENOUGH_MODELS, 5)])
def test_enough_other_models_add_difficulty_and_slope(others, columns):
    answers = world(0, models=others + 2, items=60).answers
    x = of(bank_of(answers[:2], leaderboard=answers[2:]))
    assert x.shape == (60, columns)
    np.testing.assert_allclose(x[:, 1:].mean(0), 0, atol=1e-12)
    if columns == 5:
        assert np.corrcoef(x[:, 3], answers.mean(0))[0, 1] > 0.8  # easy items are high


def test_answers_come_in_bank_order_without_missing_ones_and_beyond_the_scale_only_unclipped():
    bank = bank_of([np.arange(101.0)])
    units = units_of(bank)
    known = CovariateBank(bank, units, of(bank))
    found = known.answers(Observed(0, np.array([7, 3, 5]), np.array([50.0, 148.0, np.nan]), np.ones(3)))
    assert found.index.tolist() == [3, 7]
    np.testing.assert_allclose(found.right, [1.0, 0.5])
    np.testing.assert_allclose(found.unclipped, [1.5, 0.5])
