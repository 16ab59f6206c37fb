"""The mean and its standard error, against numbers worked out by hand and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.estimators.mean import Mean, task_mean, weighted_mean
from evomerge.items import Observed
from evomerge.types import ItemScores, Metric
from tests.estimators.irt_world import bank_of

UP, DOWN, PAIRS = Metric("acc", True), Metric("loss", False), Metric("word_perplexity", True, "pairs")


def scores(values, task="t"):
    values = np.array(values, dtype=float)
    return ItemScores(task, tuple(map(str, range(len(values)))), values)


def test_mean_and_standard_error_by_hand():
    found = task_mean(scores([1.0, 0.0, 1.0, 1.0]), UP)
    assert found.value == 0.75
    assert found.stderr == pytest.approx(0.25)  # sample variance (3/4 * 1/4) * 4/3 = 1/4, over n = 4
    assert (found.n_items, found.fallback) == (4, None)


def test_a_loss_is_turned_round_with_the_same_standard_error():
    found = task_mean(scores([2.0, 4.0]), DOWN)
    assert found.value == -3.0
    assert found.stderr == pytest.approx(1.0)


@pytest.mark.parametrize(("bit", "n"), [(0.0, 4), (1.0, 4), (1.0, 1), (0.0, 100)])
def test_all_right_or_all_wrong_has_the_standard_error_of_jeffreys(bit, n):
    found = task_mean(scores([bit] * n), UP)
    p = (n * bit + 0.5) / (n + 1)
    assert found.value == bit
    assert found.stderr == pytest.approx(math.sqrt(p * (1 - p) / (n + 1)))
    assert found.fallback == "jeffreys"


def test_jeffreys_by_hand():
    assert task_mean(scores([1.0] * 4), UP).stderr == pytest.approx(math.sqrt(0.9 * 0.1 / 5))


def test_jeffreys_holds_for_errors_that_are_better_low():
    found = task_mean(scores([0.0] * 4), DOWN)
    assert found.value == 0.0
    assert found.stderr == pytest.approx(math.sqrt(0.9 * 0.1 / 5))


def test_equal_scores_that_are_no_bits_are_no_case_for_jeffreys():
    found = task_mean(scores([0.5] * 4), UP)
    assert (found.value, found.stderr, found.fallback) == (0.5, 0.0, None)


def test_one_item_says_nothing_about_its_spread():
    assert task_mean(scores([0.3]), UP).stderr == math.inf
    assert task_mean(scores([[-3.0, 2.0]]), PAIRS).stderr == math.inf


def test_pairs_are_a_ratio_of_sums_by_hand():
    found = task_mean(scores([[-1.0, 1.0], [-5.0, 3.0]]), PAIRS)
    assert found.value == -1.5  # (-1 - 5) / (1 + 3), not the mean of -1 and -5/3
    residuals = 0.5**2 + 0.5**2  # loglik - ratio * weight
    assert found.stderr == pytest.approx(math.sqrt(residuals * 2 / 1) / 4)


def test_pairs_of_one_weight_have_the_standard_error_of_the_mean():
    values = np.array([-1.0, -2.5, -0.5, -4.0])
    paired = task_mean(scores(np.stack([3.0 * values, np.full(4, 3.0)], axis=1)), PAIRS)
    single = task_mean(scores(values), UP)
    assert (paired.value, paired.stderr) == pytest.approx((single.value, single.stderr))


def test_pairs_are_never_turned_round():
    assert task_mean(scores([[-1.0, 1.0], [-5.0, 3.0]]), Metric("bits", False, "pairs")).value == -1.5


@pytest.mark.parametrize("n", [30, 200])
def test_standard_errors_of_pairs_are_the_spread_over_repeated_samples(n):
    rng = np.random.default_rng(0)
    weights = rng.integers(5, 60, size=(2000, n)).astype(float)
    logliks = -weights * rng.gamma(8.0, 0.3, size=(2000, n))
    found = [task_mean(scores(np.stack(pair, axis=1)), PAIRS) for pair in zip(logliks, weights, strict=True)]
    assert np.mean([f.value for f in found]) == pytest.approx(-2.4, abs=0.02)
    assert np.mean([f.stderr for f in found]) == pytest.approx(np.std([f.value for f in found]), rel=0.06)


def test_standard_errors_of_means_are_the_spread_over_repeated_samples():
    rng = np.random.default_rng(0)
    found = [task_mean(scores(rng.random(50) < 0.3), UP) for _ in range(3000)]
    assert np.mean([f.stderr for f in found]) == pytest.approx(np.std([f.value for f in found]), rel=0.06)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30))
def test_the_order_of_items_does_not_matter(values):
    one, other = task_mean(scores(values), UP), task_mean(scores(sorted(values)), UP)
    assert one.value == pytest.approx(other.value, abs=1e-12)
    assert one.stderr == pytest.approx(other.stderr, abs=1e-12)


def test_estimating_leaves_the_scores_alone():
    given_scores = scores([0.5, 1.0, 0.0])
    before = given_scores.values.tobytes()
    task_mean(given_scores, DOWN)
    assert given_scores.values.tobytes() == before


# ---------------------------------------------------------------- weighted means over a bank


def saw(index, values, weights=None, sizes=None):
    n = len(index)
    parts = (
        np.ones(n) if weights is None else np.array(weights, float),
        np.ones(n) if sizes is None else np.array(sizes),
    )
    return Observed(0, np.array(index, dtype=np.int64), np.array(values, dtype=float), *parts)


HALVES = bank_of([[1.0, 0.0] * 50, [1.0] * 100])


def test_equal_weights_give_the_plain_mean_less_the_share_of_the_bank_that_was_seen():
    values = [1.0, 0.0, 1.0, 1.0]
    found, plain = weighted_mean(saw([3, 9, 50, 98], values), HALVES, 0), task_mean(scores(values), UP)
    assert found.value == plain.value
    assert found.stderr == pytest.approx(plain.stderr * math.sqrt(1 - 4 / 100))


def test_unequal_weights_by_hand():
    found = weighted_mean(saw([0, 1, 2], [1.0, 0.0, 1.0], [3.0, 2.0, 1.0]), HALVES, 0)
    mean = (3 * 1 + 2 * 0 + 1 * 1) / 6
    # chances of inclusion: in proportion to 1 / weight, such that their inverses add up to 100 items
    chance = [1 / (100 / 6 * w) for w in (3, 2, 1)]
    terms = [(1 - chance[0]) * (3 / 6 * (1 - mean)) ** 2, (1 - chance[1]) * (2 / 6 * mean) ** 2]
    terms.append((1 - chance[2]) * (1 / 6 * (1 - mean)) ** 2)
    assert found.value == pytest.approx(mean)
    assert found.stderr == pytest.approx(math.sqrt(3 / 2 * sum(terms)))


def test_a_task_that_was_answered_in_full_is_known_by_the_banks_weights_whatever_the_draws():
    bank = bank_of([[1.0, 0.0, 1.0]], weights=[1, 2, 5])
    found = weighted_mean(saw([2, 0, 1], [1.0, 0.0, 0.5], [7.0, 1.0, 1.0]), bank, 0)
    assert (found.value, found.stderr, found.fallback) == (pytest.approx((1 * 0 + 2 * 0.5 + 5 * 1) / 8), 0.0, None)


def test_balance_weights_make_a_full_score_the_mean_of_its_sub_tasks_means():
    sizes, shares = np.array([2, 5, 13]), np.array([0.5, 0.4, 1.0])
    values = np.concatenate([np.arange(n) < s * n for n, s in zip(sizes, shares, strict=True)]).astype(float)
    bank = bank_of([values], weights=np.repeat(1 / (3 * sizes), sizes))
    assert weighted_mean(saw(range(20), values), bank, 0).value == pytest.approx(shares.mean())


@pytest.mark.parametrize(("bit", "metric"), [(0.0, UP), (1.0, UP), (0.0, DOWN), (-1.0, DOWN)])
def test_equal_bits_of_a_draw_have_the_jeffreys_error(bit, metric):
    bank = bank_of([[0.0] * 100], metrics=(metric,))
    found = weighted_mean(saw([1, 2, 3], [bit] * 3), bank, 0)
    p = 0.5 / 4
    assert (found.value, found.fallback) == (bit, "jeffreys")
    assert found.stderr == pytest.approx(math.sqrt(p * (1 - p) / 4 * (1 - 3 / 100)))


def test_nothing_answered_is_as_good_as_the_endpoints():
    found = weighted_mean(saw([], []), HALVES, 0)
    assert (found.value, found.n_items, found.fallback) == (0.75, 0, "no-items")
    assert found.stderr == pytest.approx(np.std([0.5, 1.0], ddof=1))


def test_without_endpoints_nothing_answered_is_half():
    bank = bank_of(np.zeros((0, 4)), metrics=(UP,))
    assert weighted_mean(saw([], []), bank, 0).value == 0.5


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3]])
def test_without_spread_the_error_is_that_of_the_endpoints_items(values):
    found = weighted_mean(saw(range(len(values)), values), HALVES, 0)
    assert (found.value, found.fallback) == (pytest.approx(0.3), "no-spread")
    assert found.stderr == pytest.approx(np.std([1.0, 0.0] * 50 + [1.0] * 100) / math.sqrt(len(values)))


def test_a_missing_answer_is_no_answer():
    assert weighted_mean(saw([0, 1, 2], [1.0, np.nan, 0.0]), HALVES, 0).n_items == 2
    assert weighted_mean(saw([0, 1, 2], [1.0, np.nan, 0.0]), HALVES, 0).value == 0.5


def test_pairs_of_a_draw_are_a_ratio_of_weighted_sums():
    bank = bank_of([[-1.0] * 10], metrics=(PAIRS,))
    found = weighted_mean(saw([0, 1], [-1.0, -5.0], [1.0, 2.0], [1.0, 3.0]), bank, 0)
    assert found.value == pytest.approx((-1 - 2 * 5) / (1 + 2 * 3))


def test_pairs_of_equal_chances_have_the_error_of_their_ratio():
    bank, pairs = bank_of([[-1.0] * 40], metrics=(PAIRS,)), np.array([[-1.0, 1.0], [-5.0, 3.0], [-4.0, 2.0]])
    found = weighted_mean(saw([0, 1, 2], pairs[:, 0], None, pairs[:, 1]), bank, 0)
    assert found.stderr == pytest.approx(task_mean(scores(pairs), PAIRS).stderr * math.sqrt(1 - 3 / 40))


def test_draws_of_unequal_chances_have_no_bias_and_honest_errors():
    rng = np.random.default_rng(0)
    values = (rng.random(400) < 0.6).astype(float)
    chances = np.where(values > 0, 0.3, 0.1) * rng.uniform(0.5, 1.5, 400)  # right answers are drawn more often
    bank = bank_of([values])
    found = []
    for _ in range(1500):
        index = np.flatnonzero(rng.random(400) < chances)
        found.append(weighted_mean(saw(index, values[index], 1 / chances[index]), bank, 0))
    spread = np.std([f.value for f in found])
    assert np.mean([f.value for f in found]) == pytest.approx(values.mean(), abs=4 * spread / math.sqrt(1500) + 0.003)
    assert np.mean([f.stderr for f in found]) == pytest.approx(spread, rel=0.1)


def test_a_mean_has_one_estimate_a_task_and_learns_from_nobody():
    bank = bank_of([[1.0, 0.0, 1.0, 0.0]], task=[0, 0, 1, 1])
    fitted, one = Mean().fit(bank), saw([0, 3, 1], [1.0, 1.0, 0.0])
    (found,) = fitted.estimate([one])
    assert [e.value for e in found] == [0.5, 1.0]
    assert fitted.estimate([one], [saw([2], [1.0])]) == [found]
    assert fitted.frozen([saw([2], [1.0])]).estimate([one]) == [found]
