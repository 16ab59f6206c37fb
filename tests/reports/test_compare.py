"""Paired differences: by hand, by symmetry, and by how often the interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.reports.compare import RESAMPLES, aligned, differences, interval, optimism, resampled
from evomerge.reports.nouns import Standing
from evomerge.types import Estimate, ItemScores, Metric

ACC, PPL, BITS = Metric("acc", True), Metric("ppl", False), Metric("bits", True, "pairs")


def scores(values, task="a", order=None):
    values = np.asarray(values, dtype=np.float64)
    order = list(range(len(values))) if order is None else order
    return ItemScores(task, tuple(f"i{k:04d}" for k in order), values[order])


def one_task(a, b, metric=ACC):
    found = differences("test", {"a": {"t": scores(a)}, "b": {"t": scores(b)}}, {"t": metric}, "a", ["b"])
    return found[0].mean


def bounds(interval):
    return (interval.value, interval.low, interval.high)


rows = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*(st.lists(st.floats(-5, 5, width=32), min_size=n, max_size=n) for _ in range(2)))
)


@settings(deadline=None, max_examples=25)
@given(rows)
def test_turning_the_difference_round_turns_its_interval_round(pair):
    a, b = pair
    there, back = one_task(a, b), one_task(b, a)
    assert bounds(there) == pytest.approx((-back.value, -back.high, -back.low), abs=1e-11)


@settings(deadline=None, max_examples=25)
@given(rows)
def test_a_finalist_against_itself_differs_by_exactly_zero(pair):
    assert bounds(one_task(pair[0], pair[0])) == (0.0, 0.0, 0.0)


@settings(deadline=None, max_examples=25)
@given(rows)
def test_the_difference_is_that_of_the_means_and_lies_in_its_interval_bounds(pair):
    a, b = map(np.array, pair)
    d = one_task(a, b)
    assert d.value == pytest.approx(a.mean() - b.mean(), abs=1e-9)
    assert (a - b).min() - 1e-9 <= d.low <= d.high <= (a - b).max() + 1e-9


def test_a_constant_difference_has_an_interval_of_that_one_number():
    b = np.random.default_rng(3).random(17)
    assert bounds(one_task(b + 0.1, b)) == (0.1, 0.1, 0.1)


def test_items_are_matched_by_id_not_by_place():
    rng = np.random.default_rng(5)
    a, b = rng.random(40), rng.random(40)
    order = rng.permutation(40).tolist()
    straight = differences("test", {"a": {"t": scores(a)}, "b": {"t": scores(b)}}, {"t": ACC}, "a", ["b"])
    mixed = {"a": {"t": scores(a, order=order)}, "b": {"t": scores(b)}}
    assert differences("test", mixed, {"t": ACC}, "a", ["b"]) == straight


def test_only_items_that_both_have_are_compared():
    table = aligned([scores([1.0, 2.0, 3.0]), scores([10.0, 20.0, 30.0], order=[2, 1])])
    assert table.tolist() == [[2.0, 3.0], [20.0, 30.0]]


def test_where_lower_is_better_the_lower_one_is_ahead():
    assert bounds(one_task([2.0, 3.0], [3.0, 4.0], PPL)) == (1.0, 1.0, 1.0)


def test_tasks_count_the_same_whatever_their_size():
    many, few = [1.0] * 90, [0.0] * 10
    found = differences(
        "test",
        {
            "a": {"big": scores(many), "small": scores(few)},
            "b": {"big": scores([0.5] * 90), "small": scores([1.0] * 10)},
        },
        {"big": ACC, "small": ACC},
        "a",
        ["b"],
    )[0]
    assert (found.mean.value, found.tasks["big"].value, found.tasks["small"].value) == (-0.25, 0.5, -1.0)
    assert found.n_items == 100


def test_two_tasks_together_are_known_better_than_each():
    rng = np.random.default_rng(9)
    a = {task: scores(rng.normal(size=200), task) for task in "tu"}
    b = {task: scores(np.zeros(200), task) for task in "tu"}
    found = differences("test", {"a": a, "b": b}, {"t": ACC, "u": ACC}, "a", ["b"])[0]
    alone = np.mean([i.high - i.low for i in found.tasks.values()])
    assert found.mean.high - found.mean.low == pytest.approx(alone / np.sqrt(2), rel=0.08)


def test_pairs_are_compared_by_their_ratio_of_sums():
    a, b = [(-1.0, 1.0), (-2.0, 4.0)], [(-2.0, 1.0), (-2.0, 4.0)]
    d = one_task(a, b, BITS)
    assert d.value == pytest.approx(-3 / 5 + 4 / 5)
    assert (d.low, d.high) == (0.0, 1.0)  # draws of the second pair alone, of the first alone


def test_pairs_of_one_weight_have_the_interval_of_plain_means():
    rng = np.random.default_rng(2)
    a, b = rng.random(50), rng.random(50)
    ones = np.ones(50)
    pairs = one_task(np.stack([a, ones], axis=1), np.stack([b, ones], axis=1), BITS)
    assert bounds(pairs) == pytest.approx(bounds(one_task(a, b)), abs=1e-11)


def test_a_rival_without_scores_is_left_out():
    found = differences("test", {"a": {"t": scores([1.0])}, "b": {}}, {"t": ACC}, "a", ["b", "c"])
    assert found == []


def test_the_interval_of_a_normal_mean_is_two_standard_errors_wide():
    rng = np.random.default_rng(7)
    d = rng.normal(0.3, 1.0, 400)
    found = one_task(d, np.zeros(400))
    assert found.high - found.low == pytest.approx(2 * 1.96 * d.std() / 20, rel=0.06)


def test_the_interval_holds_the_true_difference_in_95_of_100_simulated_tests():
    """400 pairs of finalists that answer 300 items of two tasks right with known chances, dependent item by item."""
    n, simulations, truth = 150, 400, 0.1
    rng = np.random.default_rng(11)
    drawn, points = [], []
    for _ in range(2):
        luck = rng.random((simulations, n))  # a hard item is hard for both
        own = rng.random((simulations, n)) < 0.3
        other = rng.random((simulations, n))
        a, b = luck < 0.7, np.where(own, other, luck) < 0.6
        values = np.concatenate([a, b]).astype(np.float64)
        both = resampled(values, ACC, rng)
        drawn.append(both[:simulations] - both[simulations:])
        points.append(a.mean(axis=1) - b.mean(axis=1))
    found = [interval(p, d) for p, d in zip(np.mean(points, axis=0), np.mean(drawn, axis=0), strict=True)]
    assert 0.92 <= np.mean([i.low <= truth <= i.high for i in found]) <= 0.98
    assert np.mean([i.value for i in found]) == pytest.approx(truth, abs=0.01)


def test_draws_are_as_many_as_promised_and_from_the_given_generator_alone():
    values = np.random.default_rng(0).random((3, 8))
    np.random.seed(1)
    first = resampled(values, ACC, np.random.default_rng(4))
    np.random.seed(2)
    assert first.shape == (3, RESAMPLES)
    assert np.array_equal(first, resampled(values, ACC, np.random.default_rng(4)))


def standing(ident, **means):
    by_split = {split: {"t": Estimate(value, 0.0, 1)} for split, value in means.items()}
    return Standing(ident, ident, "d", None, by_split)


def test_optimism_is_what_the_search_overrated_and_references_show_the_drift_of_the_splits():
    refs = [standing("base", search=0.5, test=0.25), standing("average", search=0.5, test=0.5)]
    found = optimism(standing("search:1", search=0.75, selection=0.5, test=0.25), refs)
    assert (found.search, found.selection, found.test, found.optimism, found.drift) == (0.75, 0.5, 0.25, 0.5, 0.125)


def test_the_mean_over_tasks_has_the_error_of_independent_tasks():
    two = Standing("a", "a", "d", None, {"test": {"t": Estimate(1.0, 0.75, 5), "u": Estimate(2.0, 1.0, 7)}})
    assert two.mean("test") == Estimate(1.5, 0.625, 12)
    assert two.mean("search") is None


def test_optimism_of_a_winner_the_search_never_scored_is_unknown():
    found = optimism(standing("mean", selection=0.5, test=0.25), [])
    assert (found.search, found.optimism, found.drift) == (None, None, None)
