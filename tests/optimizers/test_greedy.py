"""The greedy search: best parent first, one more at a time, kept only if it is better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.greedy import Greedy
from evomerge.problem import Problem
from evomerge.spaces.parent_choice import ParentChoice
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Result, Variable
from tests.optimizers.driving import drive, go, plain
from tests.spaces.pools import pool

PARENTS = "abcd"
WEIGHTS = tuple(
    Variable(f"weight/rest/0/{p}", "weight", -0.2, 1.5, "linear", 0.3, 0.1, leading=True, parent=p) for p in PARENTS
)
DENSITY = Variable("density/rest/0/all", "density", 0.0, 1.0, "linear", 0.6, 0.1)
PROBLEM = Problem((*WEIGHTS, DENSITY))


def weights(genome):
    """(4,) in the knob's own units."""
    return -0.2 + 1.7 * np.asarray(genome)[: len(PARENTS)]


def landscape(seed):
    """A random bowl over weights, each parent somewhere on it."""
    rng = np.random.default_rng(seed)
    best, bend = rng.dirichlet(np.ones(4)), rng.normal(size=(4, 4))
    return lambda w: -float((((w - best) @ bend) ** 2).sum())


def by_hand(score, rule):
    """Every merge that is tried, and the one that is kept."""
    singles = np.eye(4)
    tried = list(singles)
    order = sorted(range(4), key=lambda p: -score(singles[p]))
    current, kept = singles[order[0]], 1
    for p in order[1:]:
        c = [kept / (kept + 1)] if rule == "average" else [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
        new = [x * current + (1 - x) * singles[p] for x in c]
        tried += new
        best = max(new, key=score)
        if score(best) > score(current):
            current, kept = best, kept + 1
    return np.array(tried), current


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rule", ["search", "average"])
def test_it_tries_what_the_method_tries_by_hand(seed, rule):
    score = landscape(seed)
    asked, _ = go(Greedy(PROBLEM, 1, rule=rule), 99, lambda c: score(weights(c.genome)))
    found = np.array([weights(c.genome) for batch in asked for c in batch])
    assert found == pytest.approx(by_hand(score, rule)[0], abs=1e-9)
    assert found.sum(axis=1) == pytest.approx(1.0)


def test_by_the_average_rule_all_kept_have_equal_weights():
    asked, _ = go(Greedy(PROBLEM, 1, rule="average"), 99, lambda c: -np.ptp(weights(c.genome)))
    assert [weights(batch[-1].genome) for batch in asked[1:]] == [
        pytest.approx(w) for w in ([1 / 2, 1 / 2, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0], [1 / 4] * 4)
    ]


def test_ties_keep_the_merge_of_fewer_parents():
    asked, _ = go(Greedy(PROBLEM, 1), 99, lambda c: 0.5)
    last = np.array([weights(c.genome) for c in asked[-1]])
    assert last[:, 0] == pytest.approx(np.arange(9, 0, -1) / 10) and last[:, 1:3] == pytest.approx(0.0)


def test_its_batches_are_the_parents_and_then_a_round_each_and_then_it_ends():
    search, average = Greedy(PROBLEM, 1), Greedy(PROBLEM, 1, rule="average")
    assert (search.lag, search.stopped) == (4, "")
    assert [len(batch) for batch in go(search, 99)[0]] == [4, 9, 9, 9]
    assert [len(batch) for batch in go(average, 99)[0]] == [4, 1, 1, 1]
    assert search.ask(99) == []
    assert search.stopped == "every parent was tried"


def test_a_failed_parent_is_left_out_and_a_failed_merge_is_not_kept():
    def judge(number, batch):
        failed = lambda c: weights(c.genome)[2] > 0 or number == 1  # noqa: E731
        return [
            Result(c.id, (9.0,), 0.0, "merge") if failed(c) else Result(c.id, (-np.ptp(weights(c.genome)),))
            for c in batch
        ]

    asked, _ = drive(Greedy(PROBLEM, 1), 99, judge)
    assert [len(batch) for batch in asked] == [4, 9, 9]
    last = np.array([weights(c.genome) for c in asked[-1]])
    assert last[:, [1, 2]] == pytest.approx(0.0), "parent b came with the failed batch, c failed by itself"


def test_without_a_parent_that_can_be_scored_it_ends():
    optimizer = Greedy(PROBLEM, 1)
    optimizer.tell([Result(c.id, (0.0,), 0.0, "merge") for c in optimizer.ask(4)])
    assert optimizer.ask(9) == [] and optimizer.stopped


def test_what_keeps_the_constraints_beats_what_is_better_and_does_not():
    def judge(number, batch):
        return [Result(c.id, (weights(c.genome)[0],), max(0.0, weights(c.genome)[0] - 0.5)) for c in batch]

    asked, _ = drive(Greedy(PROBLEM, 1), 99, judge)
    assert weights(asked[1][0].genome) == pytest.approx([0.0, 0.9, 0.1, 0.0]), (
        "a breaks it, b is the first that does not"
    )
    assert weights(asked[-1][0].genome) == pytest.approx([0.1, 0.9, 0.0, 0.0]), "and is tried last"


def test_other_genes_are_as_the_start_has_them_that_is_the_best_parent_alone():
    alone = np.array([*((np.eye(4)[1] + 0.2) / 1.7), 1.0])
    asked, _ = go(
        Greedy(replace(PROBLEM, starts=(np.full(5, 0.5), alone)), 1), 99, lambda c: weights(c.genome)[1] - c.id
    )
    assert [c.genome[4] for c in asked[0]] == [0.6, 1.0, 0.6, 0.6]
    better_b = go(Greedy(replace(PROBLEM, starts=(alone,)), 1), 99, lambda c: weights(c.genome)[1])[0]
    assert {c.genome[4] for batch in better_b[1:] for c in batch} == {1.0}


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "dare_ties"])
def test_recipes_have_one_weight_for_a_parent_in_every_group_and_part(method):
    space = WeightsSpace(pool(3), method=method, groups=2, parts=["mlp"], fixed={"normalize": False})
    asked, _ = go(Greedy(Problem(space.variables), 1), 2, lambda c: -c.id)
    for candidate, c in zip(asked[1], np.arange(9, 0, -1) / 10, strict=True):
        for slot in space.decode(candidate.genome).slots:
            for part in ("mlp", "*"):
                assert slot.blends[part].knobs["weight"] == pytest.approx((c, 1 - c, 0.0), abs=1e-9)


@pytest.mark.parametrize(
    "problem",
    [
        plain(3),
        Problem(WEIGHTS[:1]),
        Problem((DENSITY,)),
        Problem((*WEIGHTS, replace(WEIGHTS[0], name="t", parent="all"))),
        Problem(tuple(replace(v, knob="t") for v in WEIGHTS)),
    ],
)
def test_a_space_without_a_weight_for_each_parent_is_refused(problem):
    with pytest.raises(ConfigError, match=r"greedy adds parents one by one.*space.method=task_arithmetic"):
        Greedy(problem, 1)


def half(genome):
    """The third parent takes part in the upper half of the density."""
    return np.array([True, True, genome[4] > 0.7, True, True])


@pytest.mark.parametrize(
    "problem",
    [
        Problem((replace(WEIGHTS[0], high=0.8), *WEIGHTS[1:])),
        Problem((*WEIGHTS[:3], replace(WEIGHTS[3], low=0.1))),
        Problem(tuple(replace(v, scale="log", low=0.01) for v in WEIGHTS)),
        Problem(tuple(replace(v, low=-0.2, high=1.5, levels=5) for v in WEIGHTS)),
        Problem(tuple(replace(v, low=0.0, high=1.0, levels=1) for v in WEIGHTS)),
        replace(PROBLEM, active=half),
        replace(PROBLEM, active=half, starts=(np.array([*((np.eye(4)[2] + 0.2) / 1.7), 0.9]),)),
    ],
    ids=["high", "low", "log", "levels", "one level", "inactive", "inactive but with its start"],
)
def test_a_space_that_cannot_give_each_parent_the_whole_weight_is_refused(problem):
    with pytest.raises(
        ConfigError, match=r"cannot give each parent the whole weight.*space.ranges=\{weight: \[0, 1\]\}"
    ):
        Greedy(problem, 1)


def test_a_choice_of_parents_is_refused_and_one_that_takes_all_is_not():
    some, every = (ParentChoice(pool(3), take=take) for take in (2, 3))
    with pytest.raises(ConfigError, match="the parent takes part only where another gene says so"):
        Greedy(Problem(some.variables, active=some.active), 1)
    asked = Greedy(Problem(every.variables, active=every.active), 1).ask(9)
    found = [every.decode(c.genome).slots[0].blends["*"].knobs["weight"] for c in asked]
    assert np.array(found) == pytest.approx(np.eye(3), abs=1e-9)


def test_merges_that_are_equal_on_the_levels_are_asked_once_and_the_current_one_not_again():
    levels = tuple(replace(v, low=0.0, high=1.0, levels=3) for v in WEIGHTS)
    asked, _ = go(Greedy(Problem(levels), 1), 99, lambda c: -c.id)
    for batch in asked[1:]:
        found = [tuple(c.genome) for c in batch]
        assert len(found) == len(set(found)) < 9
        assert tuple(asked[0][0].genome) not in found
    assert len({c.genome.argmax() for c in asked[0]}) == 4


def test_a_parent_whose_merges_are_all_the_current_one_is_passed_over():
    """Of two levels the average of two parents is 0 for both, which is what the average of more is, too."""
    coarse = tuple(replace(v, low=0.0, high=1.0, levels=2) for v in WEIGHTS)
    optimizer = Greedy(Problem(coarse), 1, rule="average")
    asked, _ = go(optimizer, 99, lambda c: -float(c.genome.sum()))
    assert [len(batch) for batch in asked] == [4, 1]
    assert optimizer.stopped == "every parent was tried" and optimizer.ask(9) == []


def test_an_unknown_rule_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown optimizer\.rule 'averge'. Did you mean 'average'"):
        Greedy(PROBLEM, 1, rule="averge")
