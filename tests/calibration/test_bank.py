"""The item bank: places, weights and oriented answers; what a candidate has answered over draws and rungs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.calibration.bank import balance, item_bank, observe
from evomerge.types import Evaluation, ItemScores
from tests.calibration.made import BANK, QUIZZES, answer, evaluated

ITEMS = {quiz.name: quiz.items["search"] for quiz in QUIZZES}
METRICS = {quiz.name: quiz.metric for quiz in QUIZZES}
KNOWN = evaluated()


def bank(**changes):
    return item_bank(**{"items": ITEMS, "metrics": METRICS, "known": KNOWN, **changes})


def test_items_lie_task_after_task_and_are_found_by_name():
    made = bank()
    assert made.size == 12 and made.tasks == ("one", "two", "three") and made.items == tuple(i for _, i in BANK)
    assert made.task.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert made.find({"two": ("search3", "search0")}).tolist() == [7, 4]


def test_base_parents_and_average_are_endpoints_and_the_rest_are_designs():
    made = bank(known={**KNOWN, "design:0": KNOWN["average"]})
    assert made.endpoints.shape == (4, 12) and made.designs.shape == (1, 12) and made.leaderboard.shape == (0, 12)
    one, two, three = QUIZZES
    for row, weight in zip([*made.endpoints, *made.designs], (0.0, 1.0, 2.0, 3.0, 3.0), strict=True):
        pairs = answer(weight, three, ITEMS["three"]).values
        assert row[:4].tolist() == answer(weight, one, ITEMS["one"]).values.tolist()
        assert row[4:8].tolist() == (-answer(weight, two, ITEMS["two"]).values).tolist()  # lower is better
        assert row[8:].tolist() == (pairs[:, 0] / pairs[:, 1]).tolist()


def test_answers_find_their_places_whatever_their_order():
    turned = {name: _turned(e) for name, e in KNOWN.items()}
    assert np.array_equal(bank(known=turned).endpoints, bank().endpoints)
    assert np.array_equal(bank(known=turned).margins, bank().margins, equal_nan=True)


def _turned(e: Evaluation) -> Evaluation:
    scores = [
        ItemScores(s.task, s.items[::-1], s.values[::-1], None if s.margins is None else s.margins[::-1])
        for s in e.scores[::-1]
    ]
    return replace(e, scores=tuple(scores))


def test_margins_are_those_of_the_endpoints_and_nan_without_choices():
    made = bank()
    assert made.margins.shape == (4, 12) and np.isnan(made.margins[:, 4:]).all()
    assert np.array_equal(made.margins[:, :4], made.endpoints[:, :4] - 7)
    without = {n: replace(e, scores=tuple(replace(s, margins=None) for s in e.scores)) for n, e in KNOWN.items()}
    assert bank(known=without).margins is None


def test_items_that_were_not_asked_are_nan():
    part = {n: replace(e, scores=tuple(_first(s) for s in e.scores)) for n, e in KNOWN.items()}
    found = bank(known=part).endpoints
    assert np.isnan(found[:, [3, 7, 11]]).all() and np.isfinite(found[:, [0, 4, 8]]).all()


def _first(s: ItemScores) -> ItemScores:
    return ItemScores(s.task, s.items[:3], s.values[:3])


def test_an_item_of_size_zero_has_no_score_per_unit():
    scores = ItemScores("three", ITEMS["three"], np.array([[-1.0, 2.0], [0.0, 0.0], [-3.0, 1.0], [-2.0, 4.0]]))
    known = {"base": Evaluation("base", "references", "", ITEMS, (scores,))}
    assert np.array_equal(bank(known=known).endpoints[0, 8:], [-0.5, np.nan, -3.0, -0.5], equal_nan=True)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(0, 5))
def test_balanced_weights_give_the_mean_of_the_means_of_sub_tasks(names, seed):
    items = [str(k) for k in range(len(names))]
    weights = balance(items, dict(zip(items, names, strict=True)))
    y = np.random.default_rng(seed).random(len(names))
    means = [y[[n == name for n in names]].mean() for name in set(names)]
    assert weights.sum() == pytest.approx(1) and (weights > 0).all() and weights @ y == pytest.approx(np.mean(means))


def test_weights_sum_to_one_in_each_task_and_are_equal_without_sub_tasks():
    named = dict(zip(ITEMS["one"], "aaab", strict=True))
    weights = bank(subtasks={"one": named, "two": {}}).weights
    assert weights.tolist() == [1 / 6, 1 / 6, 1 / 6, 1 / 2, *[1 / 4] * 8]


def test_observations_are_oriented_with_sizes_and_design_weights():
    made, weight = bank(), np.arange(12.0)
    seen = observe("c", [KNOWN["parent:a"]], made, weight)
    pairs = answer(1.0, QUIZZES[2], ITEMS["three"]).values
    assert seen.id == "c" and seen.index.tolist() == list(range(12)) and seen.weights.tolist() == weight.tolist()
    assert seen.values.tolist() == [*made.endpoints[1, :8], *pairs[:, 0]]
    assert seen.sizes.tolist() == [1.0] * 8 + pairs[:, 1].tolist()


def test_an_item_asked_in_several_rungs_or_draws_counts_once():
    rows = [_part("one", (2, 0)), _part("two", (1,)), _part("one", (0, 3))]
    seen = observe(7, rows, bank(), np.arange(12.0))
    assert seen.index.tolist() == [2, 0, 5, 3] == seen.weights.tolist()
    assert seen.values.tolist() == bank().endpoints[1, [2, 0, 5, 3]].tolist()


def _part(task: str, places: tuple[int, ...]) -> Evaluation:
    quiz = next(q for q in QUIZZES if q.name == task)
    ids = tuple(ITEMS[task][k] for k in places)
    return Evaluation(7, "search", "", {task: ids}, (answer(1.0, quiz, ids),))


def test_a_failed_row_tells_nothing_and_a_stranger_is_refused():
    seen = observe(1, [Evaluation(1, "search", "", ITEMS, (), error_code="merge")], bank(), np.ones(12))
    assert len(seen.index) == len(seen.values) == len(seen.sizes) == 0 and seen.index.dtype == np.int64
    with pytest.raises(KeyError):
        observe(1, [Evaluation(1, "search", "", {}, (ItemScores("one", ("x",), np.ones(1)),))], bank(), np.ones(12))
