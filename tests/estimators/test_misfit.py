"""The screen for collapsed merges: exact chances, robust levels, few false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom, norm

from evomerge.estimators.misfit import Levels, collapsed, levels_of


def threshold(n, p, levels):
    """The most right answers that still count as collapsed, by brute force over a fine grid of levels."""
    z = np.linspace(-8, 8, 4001)
    weight = norm.pdf(z) / norm.pdf(z).sum()
    chance = [
        weight @ binom.cdf(s, n, expit(np.log(p / (1 - p)) + levels.centre + levels.sd * z)) for s in range(n + 1)
    ]
    return int(np.sum(np.array(chance) < 1e-4)) - 1


@pytest.mark.parametrize(("n", "p"), [(25, 0.7), (60, 0.6), (200, 0.8)])
@pytest.mark.parametrize("levels", [Levels(0.0, 0.0), Levels(0.2, 0.4)])
def test_the_limit_is_that_of_the_binomial_distribution_over_all_levels(n, p, levels):
    limit = threshold(n, p, levels)
    assert limit >= 0
    for right, flagged in ((limit, True), (limit + 1, False)):
        answers = (np.arange(n) < right).astype(float)
        assert collapsed(np.full(n, p), answers, levels) == flagged


def test_fractions_count_up_to_the_next_whole_answer():
    limit = threshold(60, 0.6, Levels(0.0, 0.3))
    assert collapsed(np.full(60, 0.6), np.full(60, limit / 60), Levels(0.0, 0.3))
    assert not collapsed(np.full(60, 0.6), np.full(60, (limit + 0.2) / 60), Levels(0.0, 0.3))


def test_too_good_is_no_misfit_and_nothing_answered_neither():
    assert not collapsed(np.full(60, 0.2), np.ones(60), Levels(0.0, 0.1))
    assert not collapsed(np.zeros(0), np.zeros(0), Levels(0.0, 0.1))


def test_levels_are_those_of_the_usual_even_if_many_have_collapsed():
    rng = np.random.default_rng(0)
    level = np.where(np.arange(100) < 70, 0.3 + 0.4 * rng.normal(size=100), -4.0)
    right = [(rng.random(400) < expit(z)).astype(float) for z in level]
    found = levels_of([np.full(400, 0.5)] * 100, right)
    assert found.centre == pytest.approx(0.3, abs=0.35)
    assert found.sd < 1.0
    assert all(collapsed(np.full(400, 0.5), y, found) == (z == -4.0) for y, z in zip(right, level, strict=True))


def test_noise_of_few_items_is_not_taken_for_a_spread_of_levels():
    rng = np.random.default_rng(0)
    found = levels_of([np.full(25, 0.5)] * 300, [(rng.random(25) < 0.5).astype(float) for _ in range(300)])
    assert found.sd < 0.3


def test_without_candidates_any_level_is_usual():
    assert levels_of([], []) == Levels(0.0, 1.0)
