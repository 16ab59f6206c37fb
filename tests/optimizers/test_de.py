"""Differential evolution: that it climbs, who replaces whom, and what its factors do."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.de import De
from evomerge.optimizers.uniform import Uniform
from evomerge.problem import Problem
from evomerge.types import Result
from tests.optimizers.driving import go, plain, results


def sphere(size, seed):
    centre = 0.2 + 0.6 * np.random.default_rng([seed, 10**6]).random(size)  # [seed, k] is uniform's candidate k
    return lambda candidate: -float(((candidate.genome - centre) ** 2).sum())


def best_of(optimizer, score, evaluations):
    _, told = go(optimizer, evaluations // optimizer.lag, score)
    return max(r.fitness[0] for batch in told for r in batch)


@pytest.mark.parametrize("first", ["best", "rand"])
@pytest.mark.parametrize("seed", range(4))
def test_at_300_evaluations_it_is_nearer_the_centre_of_a_sphere_than_uniform_sampling(seed, first):
    found, chance = (
        best_of(o, sphere(6, seed), 300) for o in (De(plain(6), seed, first=first), Uniform(plain(6), seed))
    )
    assert found > 0.25 * chance


@pytest.mark.parametrize("corner", [0.0, 1.0])
def test_it_reaches_an_optimum_on_a_bound(corner):
    assert best_of(De(plain(4), 1), lambda c: -float(((c.genome - corner) ** 2).sum()), 900) > -1e-6


def test_each_child_competes_with_the_member_of_its_place_alone():
    optimizer = De(plain(4), 1, population=6)
    optimizer.tell([Result(c.id, (float(c.id),)) for c in optimizer.ask(6)])
    better = {6: 0.5, 7: 0.5, 8: 2.5, 9: 2.5, 10: 4.0, 11: 99.0}  # than 0 and 2 and 5; an equal is not
    optimizer.tell([Result(c.id, (better[c.id],)) for c in optimizer.ask(6)])
    assert optimizer.living == (1, 3, 4, 6, 8, 11)


def test_a_member_scored_anew_lower_is_replaced():
    optimizer = De(plain(4), 1, population=6)
    optimizer.tell([Result(c.id, (1.0,)) for c in optimizer.ask(6)])
    batch = optimizer.ask(6)
    again = [Result(i, (0.0 if i == 3 else 1.0,)) for i in optimizer.living]
    optimizer.tell(again + results(batch, lambda c: 0.5))
    assert optimizer.living == (0, 1, 2, 4, 5, 9)


@pytest.mark.parametrize("seed", range(4))
def test_members_on_a_lattice_have_no_child_that_was_asked_before(seed):
    """Differences of multiples of a half, added to another: without a second draw many would be members again."""
    corners = tuple(np.array(corner, dtype=float) / 2 for corner in np.ndindex(3, 3))
    problem = Problem(plain(2).variables, starts=corners)
    asked, _ = go(De(problem, seed, population=9, first="rand", difference=1.0, crossover_prob=1.0), 6, lambda c: 0.0)
    found = [c.genome.tobytes() for batch in asked for c in batch]
    assert len(set(found)) == len(found) == 54


def children(**settings):
    """(seeds, 8, D) twice: members of a first generation, and their children, place by place."""
    members, found = [], []
    for seed in range(40):
        optimizer = De(plain(6), seed, population=8, **settings)
        asked, _ = go(optimizer, 2)
        members.append([c.genome for c in asked[0]])
        found.append([c.genome for c in asked[1]])
    return np.array(members), np.array(found)


def test_the_larger_crossover_prob_the_more_genes_are_new_and_never_none():
    share = {p: np.mean(np.not_equal(*children(crossover_prob=p))) for p in (0.0, 0.5, 1.0)}
    assert share[0.0] == pytest.approx(1 / 6, abs=0.03) and share[0.5] == pytest.approx(0.5, abs=0.03)
    assert share[1.0] > 0.99
    members, found = children(crossover_prob=0.0)
    assert (members != found).any(axis=2).all()


def test_a_larger_difference_leads_farther_from_the_best():
    def distance(factor):
        _, found = children(difference=factor, crossover_prob=1.0)
        return found.std(axis=1).mean()

    assert distance(0.1) < 0.5 * distance(0.5)


def test_best_children_start_from_the_best_member_and_random_ones_from_any():
    def to_the_best(first):
        members, found = children(first=first, difference=1e-6, crossover_prob=1.0)
        scores = -((members - np.resize([0.21, 0.83, 0.64, 0.37, 0.52], 6)) ** 2).sum(axis=2)
        best = members[np.arange(40), scores.argmax(axis=1)]
        return np.mean(np.abs(found - best[:, None]).max(axis=2) < 1e-4)

    assert to_the_best("best") > 0.85 and to_the_best("rand") < 0.25


@pytest.mark.parametrize(("size", "population"), [(1, 5), (2, 6), (6, 9), (64, 16)])
def test_the_population_is_four_plus_three_ln_d_and_five_at_least(size, population):
    assert De(plain(size), 1).lag == population


@pytest.mark.parametrize(("population", "wanted"), [(4, "at least 5"), (1001, "at most 1000")])
def test_populations_that_cannot_serve_are_refused(population, wanted):
    with pytest.raises(ConfigError, match=rf"optimizer.population is {population}; .*{wanted}"):
        De(plain(4), 1, population=population)


@pytest.mark.parametrize(
    ("name", "values"), [("difference", [0.0, -1.0, 2.1, float("nan")]), ("crossover_prob", [-0.1, 1.1, float("nan")])]
)
def test_settings_out_of_range_are_refused_by_name(name, values):
    for value in values:
        with pytest.raises(ConfigError, match=rf"optimizer.{name} is {value}; wanted"):
            De(plain(4), 1, **{name: value})
