"""Items on which endpoints disagree are drawn more often; no item and no task is forgotten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.subsets.neyman import Neyman
from evomerge.types import Metric
from tests.subsets.banks import bank_of, one_task, per_task, shuffled

FOUR = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 0]])  # items of 3, 2, 0 and 1 right


def inclusion(bank, n, **settings):
    """float64 (N,): the chance of each place of the bank, from the sampler's own draws."""
    sampler, found = Neyman(n=n, **settings).fit(bank, 1), np.full(bank.size, np.nan)
    for number in range(300):
        draw = sampler.draw(number)
        found[draw.index] = bank.weights[draw.index] / draw.weights
    return found


def test_chances_are_in_proportion_to_the_priors_deviation():
    # q = 1/2, prior .875 .625 .125 .375, deviations .3307 .4841 .3307 .4841, their sum 1.6297
    assert inclusion(one_task(FOUR), 2, uniform=0.0) == pytest.approx([0.4059, 0.5941, 0.4059, 0.5941], abs=5e-5)


def test_a_quarter_of_the_draw_is_uniform():
    assert inclusion(one_task(FOUR), 2) == pytest.approx([0.4294, 0.5706, 0.4294, 0.5706], abs=5e-5)
    assert inclusion(one_task(FOUR), 2, uniform=1.0) == pytest.approx([0.5] * 4)


def test_weights_of_items_count_and_no_chance_exceeds_one():
    # weight x deviation .2315 .0484 .0331 .0484: twice the share of the first is 1.28, the rest share one item
    bank = one_task(FOUR, weights=[0.7, 0.1, 0.1, 0.1])
    assert inclusion(bank, 2, uniform=0.0) == pytest.approx([1.0, 0.3727, 0.2546, 0.3727], abs=5e-5)


def test_the_deviation_has_a_floor_of_its_task():
    rows = np.ones((400, 6))  # so many that the prior of agreed items is 0 or 1 but for .0025, its deviation .05
    rows[:200, :3] = 0
    rows[:, 3] = 0
    found = inclusion(one_task(rows), 2, uniform=0.0)
    assert found[4] / found[0] == pytest.approx(0.15, rel=1e-3)
    assert found[3] / found[0] == pytest.approx(0.15, rel=1e-3)


def test_fractions_count_as_shares_of_a_right_answer():
    # q = .5: priors .75 .5 .25
    found = inclusion(one_task([[1.0, 0.5, 0.0]]), 2, uniform=0.0)
    deviations = np.array([0.4330, 0.5, 0.4330])
    assert found == pytest.approx(2 * deviations / deviations.sum(), abs=1e-4)


def test_a_leaderboard_stands_in_for_the_grand_mean():
    bank = one_task([[1.0, 1.0, 1.0]])
    known = replace(bank, leaderboard=np.array([[1.0, 0.0, np.nan], [1.0, 0.0, np.nan]]))  # q = 1, 0, grand mean 1
    found = inclusion(known, 2, uniform=0.0)
    assert found == pytest.approx([0.5, 1.0, 0.5])  # priors 1, .5, 1


def test_lower_is_better_and_unanswered_items_do_not_mislead():
    turned = one_task(-FOUR, metric=Metric("error", False))
    assert inclusion(turned, 2) == pytest.approx(inclusion(one_task(1 - FOUR), 2))
    rows = np.array([[1, 1, 0, 1], [1, 1, 0, 0], [np.nan, 0, np.nan, 0]])
    # q = 5 / 10: priors 2.5 / 3, 2.5 / 4, .5 / 3, 1.5 / 4
    deviations = np.sqrt([5 / 36, 15 / 64, 5 / 36, 15 / 64])
    assert inclusion(one_task(rows), 2, uniform=0.0) == pytest.approx(2 * deviations / deviations.sum())


@pytest.mark.parametrize("kind", ["mean", "pairs"])
def test_without_bounds_the_endpoints_own_spread_counts(kind):
    rows = np.array([[-10.0, -50, -90, -20], [-14.0, -52, -90, -26]])  # deviations 2 1 0 3: the third has the floor
    found = inclusion(one_task(rows, metric=Metric("loglik", True, kind)), 2, uniform=0.0)
    assert found == pytest.approx(2 * np.array([2, 1, 0.45, 3]) / 6.45)


def test_pairs_are_no_bits_even_within_bounds():
    rows = np.array([[0.5, 0.25, 0.75], [0.5, 0.75, 0.5]])
    found = inclusion(one_task(rows, metric=Metric("loglik", True, "pairs")), 2, uniform=0.0)
    assert found == pytest.approx([0.15 / 0.65, 1.0, 0.5 / 0.65])


def test_equal_endpoints_leave_only_the_weights():
    for endpoints in (np.ones((3, 4)), np.zeros((3, 4)), np.full((3, 4), np.nan), np.zeros((0, 4)), [[7.0] * 4]):
        assert inclusion(one_task(endpoints), 2) == pytest.approx([0.5] * 4)


def test_items_that_all_endpoints_fail_are_drawn():
    rng = np.random.default_rng(0)
    rows = (rng.random((4, 200)) < 0.5).astype(float)
    rows[:, :100] = 0
    found = inclusion(one_task(rows), 40)
    assert (found[:100] >= 0.25 * 40 / 200).all()
    sampler, hits = Neyman(n=40).fit(one_task(rows), 1), np.zeros(200)
    for number in range(60):
        hits[sampler.draw(number).index] += 1
    assert (hits[:100] > 0).all()
    assert hits[:100].sum() < hits[100:].sum()


def test_quotas_follow_the_deviations_but_keep_half_of_an_equal_share():
    bank = bank_of({"settled": 300, "open": 300}, endpoints=8, leaderboard=0)
    rows = bank.endpoints.copy()
    rows[:, :300] = 1.0
    rows[:4, 300:], rows[4:, 300:] = 1.0, 0.0
    bank = replace(bank, endpoints=rows)
    assert per_task(bank, Neyman(n=60, uniform=0.0).fit(bank, 1).draw(0).index) == [15, 45]
    nearly = np.ones_like(rows)
    nearly[0, 300:] = 0.0  # even a small deviation is more than none
    nearly = replace(bank, endpoints=nearly)
    assert per_task(nearly, Neyman(n=60, uniform=0.0).fit(nearly, 1).draw(0).index) == [15, 45]
    even = replace(bank, endpoints=np.tile(rows[:, 300:], 2))
    assert per_task(even, Neyman(n=60).fit(even, 1).draw(0).index) == [30, 30]


def test_tasks_count_the_same_whatever_their_size():
    bank = bank_of({"large": 1000, "small": 50}, endpoints=0, designs=0, leaderboard=0)
    assert per_task(bank, Neyman(n=40).fit(bank, 1).draw(0).index) == [20, 20]


def test_a_task_in_other_units_has_an_equal_share():
    bank = bank_of({"acc": 100, "tokens": 100}, leaderboard=0)
    rows = bank.endpoints.copy()
    rows[:, 100:] = -np.random.default_rng(0).gamma(1, 400, (4, 100))
    bank = replace(bank, endpoints=rows, metrics=(bank.metrics[0], Metric("length", False)))
    assert per_task(bank, Neyman(n=40).fit(bank, 1).draw(0).index) == [20, 20]


def test_the_chances_do_not_depend_on_the_order_of_the_bank():
    bank = bank_of()
    one, other = inclusion(bank, 60), inclusion(shuffled(bank), 60)
    place = {item: i for i, item in enumerate(bank.items)}
    assert np.array_equal(other, one[[place[i] for i in shuffled(bank).items]])


@pytest.mark.parametrize("uniform", [-0.1, 1.5])
def test_a_share_beyond_the_whole_is_refused(uniform):
    with pytest.raises(ConfigError, match=rf"subset.uniform is {uniform}; wanted a share of the draw in \[0, 1\]"):
        Neyman(uniform=uniform)
