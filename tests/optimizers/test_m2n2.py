"""M2N2: shared fitness and attraction by hand, splits by depth, and an archive in which the needed stay."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.m2n2 import M2n2, attraction, common, mates, shared_fitness, split_merge
from evomerge.optimizers.uniform import Uniform
from evomerge.problem import Problem
from evomerge.types import Result, Variable
from tests.optimizers.driving import drive

SCORES = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])  # items have 2, 1 and 2 in all


def layered(groups=4, starts=(), parents=2):
    """A weight per parent and stretch of depth."""
    variables = [
        Variable(
            f"weight/rest/{g}/{p}",
            "weight",
            0.0,
            1.0,
            "linear",
            0.5,
            0.1,
            leading=True,
            parent=str(p),
            depth=(g / groups, (g + 1) / groups),
        )
        for g in range(groups)
        for p in range(parents)
    ]
    return Problem(tuple(variables), starts=tuple(np.array(s, dtype=float) for s in starts))


def go(optimizer, n, answers, *, violation=lambda c: 0.0, error=lambda c: None):
    """The candidates of n tells; `answers` makes item scores of a candidate."""

    def judge(number, batch):
        return [
            Result(c.id, (0.0,), violation(c), error(c), answers=None if error(c) else np.asarray(answers(c)))
            for c in batch
        ]

    return np.array([c.genome for batch in drive(optimizer, n, judge)[0] for c in batch])


# ---------------------------------------------------------------- competition and attraction


@pytest.mark.parametrize(
    ("alpha", "fitness"), [(1.0, [1.5, 1.0, 0.5]), (0.0, [2.0, 2.0, 1.0]), (2.0, [1.25, 0.5, 0.25])]
)
def test_shared_fitness_by_hand(alpha, fitness):
    assert shared_fitness(SCORES, alpha=alpha).tolist() == fitness


@pytest.mark.parametrize(
    ("first", "alpha", "expected"),
    [(0, 1.0, [0.0, 0.5, 0.5]), (1, 1.0, [1.0, 0.0, 0.0]), (2, 1.0, [1.5, 0.5, 0.0]), (2, 0.0, [2.0, 1.0, 0.0])],
)
def test_attraction_by_hand(first, alpha, expected):
    assert attraction(SCORES, first, alpha=alpha).tolist() == expected


def test_an_item_that_nobody_has_is_worth_nothing_to_all():
    assert shared_fitness(np.array([[0.0, 1.0], [0.0, 3.0]]), alpha=1.0).tolist() == [0.25, 0.75]


def test_mates_are_drawn_in_proportion_to_fitness_and_then_to_attraction():
    rng = np.random.default_rng(1)
    found = np.zeros((3, 3))
    for _ in range(6000):
        found[mates(SCORES, alpha=1.0, rng=rng)] += 1
    assert found.sum(axis=1) / 6000 == pytest.approx(np.array([1.5, 1.0, 0.5]) / 3, abs=0.03)
    assert found[0] / found[0].sum() == pytest.approx([0.0, 0.5, 0.5], abs=0.04)
    assert found[1] / found[1].sum() == pytest.approx([1.0, 0.0, 0.0])
    assert found[2] / found[2].sum() == pytest.approx([0.75, 0.25, 0.0], abs=0.05)


def test_a_mate_that_nobody_complements_gets_one_by_fitness_and_never_itself():
    scores = np.array([[1.0, 1.0], [0.5, 0.5], [0.25, 0.25]])  # the first has all that the others have
    rng = np.random.default_rng(1)
    pairs = [mates(scores, alpha=1.0, rng=rng) for _ in range(4000)]
    second = np.bincount([b for a, b in pairs if a == 0], minlength=3)
    assert second / second.sum() == pytest.approx([0.0, 2 / 3, 1 / 3], abs=0.04)


@pytest.mark.parametrize("scores", [np.zeros((3, 2)), np.zeros((3, 0)), np.array([[1.0], [0.0], [0.0]])])
def test_without_any_score_mates_are_any_two(scores):
    rng = np.random.default_rng(1)
    pairs = {mates(scores, alpha=1.0, rng=rng) for _ in range(200)}
    assert all(a != b for a, b in pairs)
    assert {b for _, b in pairs} >= {1, 2}


def members(*answers):
    return [type("Answered", (), {"answers": np.array(a)})() for a in answers]


def test_only_items_that_all_were_asked_count_and_negative_scores_from_the_lowest():
    nan = np.nan
    found = common(members([1.0, nan, -3.0, 0.5], [0.0, 1.0, -1.0, 0.25], [1.0, 1.0, -2.0, 0.75]))
    assert found.tolist() == [[1.0, 0.0, 0.5], [0.0, 2.0, 0.25], [1.0, 1.0, 0.75]]


# ---------------------------------------------------------------- merging


@pytest.mark.parametrize("seed", range(20))
def test_a_child_has_one_share_below_a_border_of_depth_and_the_other_share_above(seed):
    depth = np.array([0.0, 0.0, 0.25, 0.5, 0.5, 0.75, 0.0])  # not in order of genes
    one, other = np.zeros(7), np.ones(7)
    child = split_merge(one, other, depth, rng=np.random.default_rng(seed))  # 1 - share of one
    below = {round(float(g), 12) for g in child[depth < 0.5]}
    everywhere = {round(float(g), 12) for g in child}
    assert len(everywhere) <= 2
    assert sum(everywhere) == pytest.approx(1.0) or len(everywhere) == 1
    assert np.ptp(child[[0, 1, 6]]) == 0 and np.ptp(child[[3, 4]]) == 0, "genes of one stretch stay together"
    order = child[np.argsort(depth, kind="stable")]
    assert np.count_nonzero(np.diff(order)) <= 1, f"one border at most, found {below}"


def test_borders_are_drawn_equally_and_the_first_splits_nothing():
    depth, counts = np.array([0.0, 0.25, 0.5, 0.75]), np.zeros(4)
    rng = np.random.default_rng(1)
    for _ in range(4000):
        child = split_merge(np.zeros(4), np.ones(4), depth, rng=rng)
        counts[np.argmax(child != child[0])] += 1
    assert counts / 4000 == pytest.approx([0.25] * 4, abs=0.03)


def test_shares_are_uniform():
    rng = np.random.default_rng(1)
    found = [split_merge(np.zeros(1), np.ones(1), np.zeros(1), rng=rng)[0] for _ in range(4000)]
    counts = np.histogram(found, bins=10, range=(0, 1))[0]
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # 99.9 % point of chi-square, 9 d.o.f.


def test_without_mutation_children_stay_in_the_box_of_the_first_and_with_it_they_leave_it():
    starts = [[0.2] * 8, [0.6] * 4 + [0.3] * 4]
    low, high = np.min(starts, axis=0) - 1e-12, np.max(starts, axis=0) + 1e-12
    inside = go(M2n2(layered(starts=starts), 1), 60, lambda c: c.genome)
    assert ((inside >= low) & (inside <= high)).all()
    outside = go(M2n2(layered(starts=starts), 1, mutation=0.05), 60, lambda c: c.genome)
    assert ((outside[2:] < low) | (outside[2:] > high)).any(axis=1).mean() > 0.9


def test_the_starts_come_first_as_they_are():
    starts = [[0.2] * 8, [1.3] + [0.6] * 7, [0.9] * 8]
    found = go(M2n2(layered(starts=starts), 1), 4, lambda c: c.genome)
    assert found[:3].tolist() == np.clip(starts, 0, 1).tolist()


@pytest.mark.parametrize("starts", [[], [[0.5] * 8]])
def test_with_fewer_than_two_starts_uniform_genomes_make_it_eight(starts):
    found = go(M2n2(layered(starts=starts), 1), 9, lambda c: c.genome)
    other = go(M2n2(layered(starts=starts), 1), 9, lambda c: np.full(8, float(c.id)))
    assert found[:8].tolist() == other[:8].tolist(), "whatever was told"
    assert found[8].tolist() != other[8].tolist(), "the first child"
    assert (found[8] >= found[:8].min(axis=0)).all() and (found[8] <= found[:8].max(axis=0)).all()


def test_it_puts_together_what_two_parents_know_at_different_depths():
    """Items of the lower half ask for the first start's genes, those of the upper half for the second's."""
    one, other = np.array([1.0, 0.0] * 4), np.array([0.0, 1.0] * 4)
    wanted = np.concatenate([one[:4], other[4:]])

    def answers(c):
        return (np.abs(c.genome - wanted) < 0.25).astype(float)

    for seed in range(5):
        found = go(M2n2(layered(starts=[one, other]), seed), 100, answers)
        assert max(1 - np.abs(g - wanted).mean() for g in found) > 0.75, "0.5 without a split"


# ---------------------------------------------------------------- archive


def test_a_weak_specialist_stays_and_one_of_the_common_leaves():
    """Archive of 2: two that share ten items, then one with six of its own: 5, 5 and 6 when shared, else 10, 10, 6."""
    rows = {0: [1] * 10 + [0] * 6, 1: [1] * 10 + [0] * 6, 2: [0] * 10 + [1] * 6}
    starts = [[0.0] * 8, [0.5] * 8, [1.0] * 8]
    shared, summed = (
        go(M2n2(layered(starts=starts), 1, archive=2, alpha=alpha), 40, lambda c: rows.get(c.id, [0] * 16))
        for alpha in (1.0, 0.0)
    )
    assert (shared[3:] >= 0.5).all(), "of the second and third"
    assert (summed[3:] <= 0.5).all(), "of the first and second"


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_one_that_leaves_has_the_least_shared_fitness_of_all_and_the_first_of_equals(alpha):
    rng = np.random.default_rng(3)
    rows = [rng.integers(0, 3, size=6) / 2 for _ in range(40)]
    optimizer = M2n2(layered(starts=np.linspace(0, 1, 40)[:, None] * np.ones(8)), 1, archive=5, alpha=alpha)
    kept: list[int] = []
    for k in range(40):
        (candidate,) = optimizer.ask(1)
        optimizer.tell([Result(k, (0.0,), answers=rows[k])])
        kept.append(candidate.id)
        if len(kept) > 5:
            scores = np.array([rows[i] for i in kept])
            total = scores.sum(axis=0)
            worth = [sum(s / t**alpha for s, t in zip(row, total, strict=True) if t) for row in scores]
            kept.remove(kept[int(np.argmin(np.round(worth, 12)))])
        assert [m.genome[0] for m in optimizer.archive] == pytest.approx([k / 39 for k in kept])


def test_what_failed_never_has_children():
    starts = [[0.2] * 8, [0.4] * 8, [1.0] * 8]

    def judge(number, batch):
        (c,) = batch
        failed = c.id == 2
        return [Result(c.id, (0.0,), 0.0, "merge" if failed else None, answers=None if failed else c.genome)]

    asked, _ = drive(M2n2(layered(starts=starts), 1), 60, judge)
    assert max(c.genome.max() for batch in asked[3:] for c in batch) <= 0.4 + 1e-12


def test_while_two_keep_the_constraints_only_such_have_children_and_else_the_least_violations_stay():
    starts = [[0.2] * 8, [0.4] * 8, [1.0] * 8]
    found = go(M2n2(layered(starts=starts), 1), 60, lambda c: c.genome, violation=lambda c: float(c.genome[0] > 0.5))
    assert found[3:].max() <= 0.4 + 1e-12
    optimizer = M2n2(layered(starts=starts), 1, archive=2)
    go(optimizer, 3, lambda c: [1.0], violation=lambda c: {0: 3.0, 1: 9.0, 2: 1.0}[c.id])
    assert [m.violation for m in optimizer.archive] == [3.0, 1.0]


# ---------------------------------------------------------------- steady state


@pytest.mark.parametrize("lag", [1, 3, 12])
@pytest.mark.parametrize("changed", [9, 14])
def test_candidate_k_knows_what_was_told_up_to_k_minus_lag(lag, changed):
    def search(answers):
        return go(M2n2(layered(), 1, lag=lag, archive=4), 40, answers)

    one = search(lambda c: c.genome)
    other = search(lambda c: np.full(8, 50.0) if c.id == changed else c.genome)
    first = next(k for k in range(40) if one[k].tolist() != other[k].tolist())
    assert changed + lag <= first < changed + lag + 8


def test_a_candidate_is_the_same_whenever_it_is_asked():
    eager, late = M2n2(layered(), 1, lag=3), M2n2(layered(), 1, lag=3)
    eager.ask(3), late.ask(1)
    for k in range(20):
        told = [Result(k, (0.0,), answers=np.random.default_rng(k).random(6))]
        eager.tell(told), late.tell(told)
        ahead, now = eager.ask(9), late.ask(1)
        assert [c.id for c in ahead] == [k + 3] and [c.id for c in now] == [k + 1]


def test_what_was_not_asked_cannot_be_told():
    with pytest.raises(AssertionError, match="one at a time and in id order"):
        M2n2(layered(), 1).tell([Result(0, (0.0,), answers=np.ones(3))])


def test_its_first_candidates_are_other_genomes_than_uniform_sampling_asks_under_the_same_seed():
    for seed in range(5):
        own = {c.genome.tobytes() for c in M2n2(layered(), seed, lag=8).ask(8)}
        control = {c.genome.tobytes() for c in Uniform(layered(), seed, batch=200).ask(200)}
        assert len(own) == 8 and not own & control


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [("archive", 1), ("lag", 0), ("alpha", -0.1), ("alpha", float("inf")), ("mutation", -1.0), ("mutation", np.nan)],
)
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=rf"optimizer.{name} is {value}; wanted"):
        M2n2(layered(), 1, **{name: value})
