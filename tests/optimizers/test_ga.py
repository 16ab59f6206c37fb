"""The genetic algorithm: who survives (also when scores change), that it climbs, and that luck does not live on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.ga import Ga
from evomerge.optimizers.uniform import Uniform
from evomerge.problem import Problem, gene_of, level_of
from evomerge.types import Result
from tests.optimizers.driving import go, plain, results


def told(ids, fitness):
    return [Result(i, (fitness,)) for i in ids]


def sphere(size, seed):
    centre = 0.2 + 0.6 * np.random.default_rng([seed, 10**6]).random(size)  # [seed, k] is uniform's candidate k
    return lambda candidate: -float(((candidate.genome - centre) ** 2).sum())


# ---------------------------------------------------------------- survival


def test_a_lucky_member_that_is_never_scored_again_outlives_everybody():
    optimizer = Ga(plain(4), 1)
    go(optimizer, 30, lambda c: 1.0 if c.id == 3 else 1e-3 * c.id)
    assert optimizer.living[0] == 3


def test_a_lucky_member_dies_once_it_is_scored_again():
    optimizer = Ga(plain(4), 1)
    go(optimizer, 1, lambda c: 1.0 if c.id == 3 else 0.1)
    batch = optimizer.ask(optimizer.lag)
    again = [Result(i, (0.0 if i == 3 else 0.1,)) for i in optimizer.living]
    optimizer.tell(again + results(batch, lambda c: 0.05))
    assert 3 not in optimizer.living
    assert optimizer.living == (0, 1, 2, 4, 5, 6, 7, 8), "the seven that held, and the first of the equal children"


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("population", [4, 7, 12])
def test_the_living_are_the_best_of_members_and_children_by_violation_and_then_the_latest_fitness(seed, population):
    optimizer, latest = Ga(plain(3), seed, population=population), {}
    rng = np.random.default_rng(seed)
    for number in range(15):
        batch = [c.id for c in optimizer.ask(population)]
        before = optimizer.living
        again = before if number % 3 else ()
        new = [Result(i, (rng.normal(),), max(0.0, rng.normal() - 0.3)) for i in (*again, *batch)]
        latest |= {r.id: (r.violation, -r.fitness[0]) for r in new}
        optimizer.tell(new)
        assert optimizer.living == tuple(sorted(sorted((*before, *batch), key=latest.__getitem__)[:population]))


def test_the_least_violation_wins_whatever_the_fitness():
    optimizer = Ga(plain(3), 1, population=4)
    optimizer.tell([Result(c.id, (100.0,), 1.0 + c.id) for c in optimizer.ask(4)])
    optimizer.tell([Result(c.id, (-100.0,), 0.0 if c.id % 2 else 3.5) for c in optimizer.ask(4)])
    assert optimizer.living == (0, 1, 5, 7), "violations 1, 2, 0, 0"


def test_a_failed_candidate_comes_after_those_with_any_violation():
    optimizer = Ga(plain(3), 1, population=4)
    optimizer.tell([Result(c.id, (0.0,), 0.0, "merge") for c in optimizer.ask(4)])
    optimizer.tell([Result(c.id, (-100.0,), 50.0) for c in optimizer.ask(4)])
    assert optimizer.living == (4, 5, 6, 7)


@pytest.mark.parametrize("better", [lambda good: ((float(good),), 0.0), lambda good: ((0.0,), float(not good))])
def test_parents_are_chosen_by_what_was_told_last(better):
    """Binary tournaments give three quarters of the children to the better half of the members."""

    def share_of_children_below_the_median(preferred_below):
        optimizer = Ga(plain(2), 5, population=200, crossover_prob=0.0, mutation_eta=100.0)
        first = optimizer.ask(200)
        median = np.median([c.genome[0] for c in first])
        optimizer.tell(results(first, lambda c: 0.0))
        optimizer.ask(200)
        again = [Result(c.id, *better((c.genome[0] < median) == preferred_below)) for c in first]
        optimizer.tell(again + [Result(200 + i, (-9.0,), 9.0) for i in range(200)])
        return np.mean([c.genome[0] < median for c in optimizer.ask(200)])

    assert share_of_children_below_the_median(True) == pytest.approx(0.75, abs=0.08)
    assert share_of_children_below_the_median(False) == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("wrong", ["some", "out of order", "after the batch", "alone"])
def test_members_are_scored_again_all_or_none_in_order_and_before_the_batch(wrong):
    optimizer = Ga(plain(3), 1)
    go(optimizer, 2)
    batch, again = results(optimizer.ask(optimizer.lag)), told(optimizer.living, 0.0)
    given = {
        "some": again[:-1] + batch,
        "out of order": again[::-1] + batch,
        "after the batch": batch + again,
        "alone": again,
    }[wrong]
    with pytest.raises(AssertionError, match="complete and in id order"):
        optimizer.tell(given)
    optimizer.tell(again + batch)


# ---------------------------------------------------------------- search


@pytest.mark.parametrize("seed", range(6))
def test_at_200_evaluations_it_is_nearer_the_centre_of_a_sphere_than_uniform_sampling(seed):
    def nearest(optimizer):
        _, known = go(optimizer, 200 // optimizer.lag, sphere(6, seed))
        return -max(r.fitness[0] for batch in known for r in batch)

    assert nearest(Ga(plain(6), seed)) < 0.5 * nearest(Uniform(plain(6), seed))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("steady", [False, True])
def test_it_finds_the_best_of_4096_combinations_of_ordered_levels(seed, steady):
    variables = tuple(replace(v, levels=8, default=gene_of(0, 8)) for v in plain(4).variables)
    best = np.random.default_rng(seed).integers(8, size=4)

    def near(candidate):
        return -float(sum((level_of(g, 8) - k) ** 2 for g, k in zip(candidate.genome, best, strict=True)))

    optimizer = Ga(Problem(variables), seed, steady=steady)
    _, known = go(optimizer, 200 // optimizer.step, near)
    assert max(r.fitness[0] for batch in known for r in batch) == 0.0


@pytest.mark.parametrize("steady", [False, True])
def test_it_climbs_in_a_steady_state_too(steady):
    optimizer = Ga(plain(6), 1, steady=steady)
    _, known = go(optimizer, 300 // optimizer.step, sphere(6, 1))
    assert max(r.fitness[0] for batch in known for r in batch) > -0.02


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_it_reaches_an_optimum_on_a_bound(corner):
    optimizer = Ga(plain(4), 1)
    _, known = go(optimizer, 100, lambda c: -float(((c.genome - corner) ** 2).sum()))
    assert max(r.fitness[0] for batch in known for r in batch) > -1e-12


def test_scoring_the_living_again_finds_truly_better_members_and_promises_less_at_the_same_cost():
    """Each score has noise of its own; what a member's scores average to is what is told."""

    def best_of(seed, afresh, noise=0.15, cost=600):
        optimizer, true, seen = Ga(plain(6), seed), {}, {}
        score, rng = sphere(6, seed), np.random.default_rng([seed, 10**7])
        while sum(map(len, seen.values())) < cost:
            batch = optimizer.ask(optimizer.lag)
            true |= {c.id: score(c) for c in batch}
            ids = [*(optimizer.living if afresh else ()), *(c.id for c in batch)]
            for i in ids:
                seen.setdefault(i, []).append(true[i] + noise * rng.normal())
            optimizer.tell([Result(i, (float(np.mean(seen[i])),)) for i in ids])
        best = max(optimizer.living, key=lambda i: np.mean(seen[i]))
        return true[best], np.mean(seen[best]) - true[best]

    once = np.mean([best_of(seed, afresh=False) for seed in range(25)], axis=0)
    again = np.mean([best_of(seed, afresh=True) for seed in range(25)], axis=0)
    assert again[0] > once[0] + 0.015, "truth"
    assert again[1] < 0.7 * once[1], "optimism"


# ---------------------------------------------------------------- genomes


@pytest.mark.parametrize("start", [None, [0.0, 0.62, 1.0]])
def test_the_start_or_else_the_defaults_are_the_first_candidate(start):
    variables = [replace(v, default=d) for v, d in zip(plain(3).variables, (0.2, 0.55, 0.9), strict=True)]
    first = Ga(Problem(tuple(variables), starts=() if start is None else (np.array(start),)), 1).ask(1)[0]
    assert first.genome.tolist() == ([0.2, 0.55, 0.9] if start is None else start)


def test_the_rest_of_the_first_population_is_uniform_and_not_what_the_control_draws():
    found = np.array([[c.genome for c in Ga(plain(3), seed).ask(99)[1:]] for seed in range(600)])  # (600, 6, 3)
    counts = np.array([np.histogram(found[..., i], bins=10, range=(0, 1))[0] for i in range(3)])  # (3, 10)
    expected = found[..., 0].size / 10
    assert (((counts - expected) ** 2 / expected).sum(axis=1) < 27.9).all()  # 99.9 % point of chi-square, 9 d.o.f.
    control = {g for c in Uniform(plain(3), 5, batch=99).ask(99) for g in c.genome}
    assert not control & set(found[5].ravel())


def test_children_equal_neither_a_member_nor_each_other():
    optimizer = Ga(plain(64), 1, population=8, crossover_prob=0.0)  # most children would be copies
    alive = {}
    for _ in range(20):
        batch = optimizer.ask(8)
        alive |= {c.id: c.genome.tobytes() for c in batch}
        assert len(batch) == 8
        assert len(set(alive.values())) == len(alive)
        optimizer.tell(results(batch, lambda c: float(c.genome.sum())))
        alive = {i: alive[i] for i in optimizer.living}


@pytest.mark.parametrize("size", [1, 3])
def test_a_search_that_has_converged_goes_on_with_full_batches(size):
    optimizer = Ga(plain(size), 1)
    asked, known = go(optimizer, 300, lambda c: -float(np.abs(c.genome - 0.3).sum()))
    assert max(r.fitness[0] for batch in known for r in batch) > -1e-3
    assert [len(batch) for batch in asked] == [optimizer.lag] * 300


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(("size", "population"), [(1, 4), (2, 6), (6, 9), (12, 11), (64, 16)])
def test_the_population_is_four_plus_three_ln_d(size, population):
    assert Ga(plain(size), 1).lag == population


def test_the_population_can_be_set():
    optimizer = Ga(plain(3), 1, population=13)
    optimizer.tell(results(optimizer.ask(99)))
    assert (optimizer.lag, len(optimizer.living), len(optimizer.ask(99))) == (13, 13, 13)


def novelty(**settings):
    """Mean distance between a child's gene and the nearest of the members' genes at its place."""
    gaps = []
    for seed in range(30):
        optimizer = Ga(plain(4), seed, population=8, **settings)
        asked, _ = go(optimizer, 2, lambda c: 0.0)
        members, children = (np.array([c.genome for c in batch]) for batch in asked)  # (8, 4)
        gaps.append(np.abs(children[:, None] - members[None]).min(axis=1).mean())
    return np.mean(gaps)


def test_a_larger_mutation_eta_makes_smaller_mutations():
    narrow, usual, wide = (novelty(crossover_prob=0.0, mutation_eta=eta) for eta in (100.0, 20.0, 2.0))
    assert 2 * narrow < usual < 0.7 * wide


def test_a_larger_crossover_eta_keeps_children_closer_to_a_parent():
    narrow, usual, wide = (novelty(crossover_eta=eta, mutation_eta=100.0) for eta in (100.0, 15.0, 2.0))
    assert 1.5 * narrow < usual < 0.7 * wide


def test_the_larger_crossover_prob_the_more_matings_mix():
    never, half, always = (novelty(crossover_prob=p, crossover_eta=2.0, mutation_eta=100.0) for p in (0.0, 0.5, 1.0))
    assert 2 * never < half < 0.85 * always


@pytest.mark.parametrize("population", [0, 3, -4])
def test_a_population_under_four_is_refused(population):
    with pytest.raises(ConfigError, match=rf"optimizer.population is {population}; .* needs at least 4"):
        Ga(plain(4), 1, population=population)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("crossover_prob", [-0.1, 1.1, float("nan")]),
        ("crossover_eta", [0.0, 0.9, 101.0, float("inf"), float("nan")]),
        ("mutation_eta", [0.0, 0.9, 101.0, float("inf"), float("nan")]),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name, values):
    for value in values:
        with pytest.raises(ConfigError, match=rf"optimizer.{name} is {value}; wanted"):
            Ga(plain(4), 1, **{name: value})
