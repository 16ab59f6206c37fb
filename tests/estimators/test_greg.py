"""Pooled regression: by hand, unbiased, surer than the mean, exact at the ends."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.estimators.greg import greg, regress
from evomerge.estimators.mean import prior_mean, weighted_mean
from evomerge.estimators.units import units_of
from evomerge.items import Observed
from evomerge.types import Metric
from tests.estimators.irt_world import bank_of

PAIRS = Metric("bits", True, "pairs")


def continuous(seed, *, candidates=20, items=400):
    """Scores that follow one endpoint's, with noise: (bank, answers)."""
    rng = np.random.default_rng(seed)
    parent = 30 + 10 * rng.standard_t(3, size=items)
    answers = 5 + 0.8 * parent + 3 * rng.normal(size=(candidates, items))
    return bank_of(parent[None]), answers


def saw(m, index, answers, weights=None, sizes=None):
    weights = np.ones(len(index)) if weights is None else weights
    return Observed(m, index, answers[m, index], weights, np.ones(len(index)) if sizes is None else sizes)


def fit(rows, bank):
    return regress(rows, bank, units_of(bank), 0)


def test_a_score_by_hand():
    bank = bank_of([[0.0, 1.0, 0.0, 1.0]])
    rows = [Observed(0, np.array([0, 1]), np.array([0.2, 1.0]), np.ones(2))]
    found = fit(rows, bank)
    slope = (0.5 * 0.4 + 0.5 * 0.4) / (0.5 + 2)  # sum xc yc / (sum xc^2 + ridge)
    assert found.slopes == pytest.approx([slope])
    one = Observed(1, np.array([1, 3, 0]), np.array([1.0, 0.6, 0.1]), np.ones(3))
    x_mean = (0.5 + 0.5 - 0.5) / 3
    assert greg(one, bank, found).value == pytest.approx((1.0 + 0.6 + 0.1) / 3 - x_mean * slope)
    assert greg(one, bank, found).fallback == "greg"


def test_over_many_draws_there_is_no_bias_a_smaller_error_and_an_honest_one():
    bank, answers = continuous(0)
    rng = np.random.default_rng(1)
    truth, found, plain = answers.mean(1), [], []
    for _ in range(300):
        index = rng.permutation(400)[:40]
        rows = [saw(m, index, answers) for m in range(6)]
        regression = fit(rows, bank)
        found.append([greg(r, bank, regression) for r in rows])
        plain.append([weighted_mean(r, bank, 0).value for r in rows])
    values = np.array([[e.value for e in each] for each in found])
    spread = values.std(0)
    assert np.abs(values.mean(0) - truth[:6]).max() < 5 * spread.max() / np.sqrt(300)
    assert spread.mean() < 0.6 * np.std(plain, axis=0).mean()
    assert np.mean([[e.stderr for e in each] for each in found]) == pytest.approx(spread.mean(), rel=0.15)


def test_units_change_nothing_but_the_units():
    bank, answers = continuous(0)
    index = np.arange(0, 400, 9)
    one = greg(saw(0, index, answers), bank, fit([saw(m, index, answers) for m in range(5)], bank))
    scaled_bank, scaled = bank_of(1000 * bank.endpoints), 1000 * answers
    other = greg(saw(0, index, scaled), scaled_bank, fit([saw(m, index, scaled) for m in range(5)], scaled_bank))
    assert (other.value, other.stderr) == (pytest.approx(1000 * one.value), pytest.approx(1000 * one.stderr))


def test_pairs_are_regressed_around_their_ratio():
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 60, 300).astype(float)
    hard = rng.normal(size=300)
    rates = -2 - 0.5 * hard + 0.1 * rng.normal(size=(10, 300))
    bank = bank_of((-2 - 0.5 * hard)[None], metrics=(PAIRS,))
    errors = []
    for seed in range(20):
        index = np.random.default_rng(seed).permutation(300)[:30]
        rows = [Observed(m, index, (rates * sizes)[m, index], np.ones(30), sizes[index]) for m in range(10)]
        regression = fit(rows, bank)
        truth = (rates * sizes).sum(1) / sizes.sum()
        errors.append([abs(greg(r, bank, regression).value - t) for r, t in zip(rows, truth, strict=True)])
        errors[-1] += [-abs(weighted_mean(r, bank, 0).value - t) for r, t in zip(rows, truth, strict=True)]
    assert np.mean(errors) < 0  # the regression's errors are the smaller ones


def test_at_the_ends_it_is_the_exact_score_or_the_endpoints_word():
    bank, answers = continuous(0, items=30)
    regression = fit([saw(m, np.arange(10), answers) for m in range(5)], bank)
    whole = greg(saw(0, np.arange(30), answers), bank, regression)
    assert (whole.value, whole.stderr, whole.fallback) == (pytest.approx(answers[0].mean()), 0.0, None)
    nothing = Observed(0, np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
    assert greg(nothing, bank, regression) == prior_mean(bank, 0)


def test_one_item_has_the_spread_of_all_candidates_around_the_regression():
    bank, answers = continuous(0)
    regression = fit([saw(m, np.arange(40), answers) for m in range(20)], bank)
    found = greg(saw(0, np.array([7]), answers), bank, regression)
    assert found.stderr == pytest.approx(regression.residual) == pytest.approx(3.0, rel=0.15)


def test_no_endpoints_and_no_candidates_leave_the_mean():
    bank = bank_of(np.zeros((0, 20)), metrics=(PAIRS,))
    one = Observed(0, np.arange(5), np.arange(5.0), np.ones(5))
    assert greg(one, bank, fit([], bank)).value == pytest.approx(2.0)
