"""Post-stratified means: by hand, exact, unbiased under any draw, unmoved by collapsed merges."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.estimators.mean import weighted_mean
from evomerge.estimators.post_strat import PostStrat, join, strata_of
from evomerge.estimators.units import units_of
from evomerge.items import Observed
from evomerge.types import Metric
from tests.estimators.irt_world import bank_of
from tests.estimators.merge_world import merges, values_of


def one_of(bank, index, values, weights=None):
    index = np.asarray(index)
    weights = np.ones(len(index)) if weights is None else weights
    return PostStrat().fit(bank).estimate([Observed(0, index, np.asarray(values, dtype=float), weights)])[0][0]


def test_a_score_is_put_together_from_its_strata_by_hand():
    bank = bank_of([[0.0] * 30 + [1.0] * 70])  # hard: 30 items, easy: 70
    index = [*range(5), *range(30, 40)]
    found = one_of(bank, index, [1, 0, 0, 0, 0] + [1] * 8 + [0] * 2)
    assert found.value == pytest.approx(0.3 * 0.2 + 0.7 * 0.8)
    hard, easy = 0.2 * 0.8 / 4 * (1 - 5 / 30), 0.8 * 0.2 / 9 * (1 - 10 / 70)
    assert found.stderr == pytest.approx(np.sqrt(0.3**2 * hard + 0.7**2 * easy))


def test_strata_are_how_many_endpoints_are_right():
    bank = bank_of([[0, 1, 1, 0.5], [0, 0, 1, 0.4], [0, 0, 1, np.nan]])
    assert strata_of(bank, units_of(bank)).tolist() == [0, 1, 3, 1]


@pytest.mark.parametrize(
    ("counts", "joined"),
    [([5, 5], [0, 1]), ([4, 1, 5], [0, 0, 1]), ([9, 4], [0, 0]), ([0, 0], [0, 0]), ([6, 0, 2, 3, 4], [0, 1, 1, 1, 1])],
)
def test_thin_strata_are_joined_with_their_neighbours(counts, joined):
    assert join(np.array(counts)).tolist() == joined


def test_all_items_answered_is_the_exact_score():
    world = merges(0, candidates=4, items=90, tasks=3)
    index = np.random.default_rng(0).permutation(90)
    found = PostStrat().fit(world.bank).estimate([world.saw(m, index) for m in range(4)])
    np.testing.assert_allclose(values_of(found), world.truth(), atol=1e-12)
    assert all(e.stderr == 0 for each in found for e in each)


def test_over_many_draws_of_unequal_chances_there_is_no_bias_less_spread_and_an_honest_error():
    world = merges(0, candidates=1)
    rng = np.random.default_rng(1)
    chances = rng.uniform(0.05, 0.2, 1000)
    fitted, found, plain = PostStrat().fit(world.bank), [], []
    for _ in range(600):
        index = np.flatnonzero(rng.random(1000) < chances)
        seen = world.saw(0, index, 1 / chances[index])
        found.append(fitted.estimate([seen])[0][0])
        plain.append(weighted_mean(seen, world.bank, 0).value)
    values = np.array([e.value for e in found])
    assert values.mean() == pytest.approx(world.truth()[0, 0], abs=4 * values.std() / np.sqrt(600))
    assert values.std() < 0.97 * np.std(plain)
    assert np.mean([e.stderr for e in found]) == pytest.approx(values.std(), rel=0.12)


def test_a_collapsed_merge_is_seen_as_it_is_and_moves_nobody():
    world = merges(0, candidates=10, collapsed=2)
    fitted, seen = PostStrat().fit(world.bank), world.common(60, 0)
    found = fitted.estimate(seen)
    assert np.abs(values_of(found[8:]) - world.truth()[8:]).max() < 0.06
    assert fitted.estimate(seen[:8], seen[8:]) == found[:8] == fitted.frozen(seen).estimate(seen[:8])


@pytest.mark.parametrize("n", [0, 1, 9])
def test_few_answers_are_a_weighted_mean(n):
    world = merges(0, candidates=1)
    seen = world.saw(0, np.arange(n))
    assert PostStrat().fit(world.bank).estimate([seen])[0][0] == weighted_mean(seen, world.bank, 0)


def test_pairs_are_a_weighted_mean():
    bank = bank_of([-np.ones(40)], metrics=(Metric("bits", True, "pairs"),))
    seen = Observed(0, np.arange(20), -np.arange(20.0), np.ones(20), np.arange(1.0, 21))
    assert PostStrat().fit(bank).estimate([seen])[0][0] == weighted_mean(seen, bank, 0)
