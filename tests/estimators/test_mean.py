"""The mean and its standard error, against numbers worked out by hand and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.estimators.mean import Mean, task_mean
from evomerge.types import Evaluation, ItemScores, Metric

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


def test_estimates_come_in_the_order_of_the_metrics_one_tuple_an_evaluation():
    def evaluation(ident, a, b):
        return Evaluation(ident, "search", "d", {}, (scores([b, b + 1], "b"), scores([a, a + 1], "a")))

    view = [evaluation(0, 10.0, 20.0), evaluation(1, 30.0, 40.0)]
    found = Mean().estimate(view, {"a": UP, "b": DOWN})
    assert [[e.value for e in each] for each in found] == [[10.5, -20.5], [30.5, -40.5]]


def test_estimating_leaves_the_scores_alone():
    given_scores = scores([0.5, 1.0, 0.0])
    before = given_scores.values.tobytes()
    task_mean(given_scores, DOWN)
    assert given_scores.values.tobytes() == before
