"""The genetic algorithm over choices: that it finds combinations, also behind conditions, faster than its rivals."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.ga import Ga
from evomerge.optimizers.mixed_ga import MixedGa
from evomerge.optimizers.uniform import Uniform
from evomerge.problem import Problem, gene_of, level_of
from evomerge.types import Variable
from tests.optimizers.driving import go, plain


def choice(name, levels):
    return Variable(name, name, 0.0, levels - 1.0, "choice", gene_of(0, levels), 0.3, levels=levels)


MANY = tuple(choice(f"c{i}", 5) for i in range(12)) + plain(4).variables


def best_of(optimizer, score, evaluations):
    _, told = go(optimizer, -(-evaluations // optimizer.step), score)
    return max(r.fitness[0] for batch in told for r in batch)


def wrong_choices(seed):
    """Levels without order: each is right or wrong; and a sphere over the weights."""
    right = np.random.default_rng([seed, 10**6]).integers(5, size=12)

    def score(candidate):
        wrong = sum(level_of(g, 5) != k for g, k in zip(candidate.genome[:12], right, strict=True))
        return -float(wrong + ((candidate.genome[12:] - 0.3) ** 2).sum())

    return score


def test_of_many_choices_it_finds_more_than_a_search_that_orders_them_and_far_more_than_chance():
    found = {
        kind: np.mean([best_of(kind(Problem(MANY), seed), wrong_choices(seed), 300) for seed in range(8)])
        for kind in (MixedGa, Ga, Uniform)
    }
    assert found[MixedGa] > found[Ga] + 0.5
    assert found[MixedGa] > 0.4 * found[Uniform]


@pytest.mark.parametrize("steady", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_it_finds_the_method_whose_own_knob_has_to_be_right_as_well(seed, steady):
    """Methods 0 and 1 are worth a little at once, method 2 most, but only near density 0.8."""
    variables = (choice("method", 3), *plain(1).variables, *plain(2, default=0.1).variables)
    variables = tuple(
        Variable(f"{i}", v.knob, v.low, v.high, v.scale, v.default, v.step, levels=v.levels)
        for i, v in enumerate(variables)
    )
    problem = Problem(variables, active=lambda g: np.array([True, level_of(g[0], 3) == 2, True, True]))

    def score(candidate):
        method, density, *weights = level_of(candidate.genome[0], 3), *candidate.genome[1:]
        worth = {0: 0.1, 1: 0.3, 2: 1.0 - 2 * abs(density - 0.8)}[method]
        return worth - float(((np.array(weights) - 0.4) ** 2).sum())

    assert best_of(MixedGa(problem, seed, population=10, steady=steady), score, 300) > 0.93


def test_without_choices_it_is_the_genetic_algorithm_bit_for_bit():
    mixed, _ = go(MixedGa(plain(5), 3), 15)
    plainly, _ = go(Ga(plain(5), 3), 15)
    assert [c.genome.tobytes() for b in mixed for c in b] == [c.genome.tobytes() for b in plainly for c in b]


@pytest.mark.parametrize(("population", "wanted"), [(3, "at least 4"), (1001, "at most 1000")])
def test_populations_that_cannot_serve_are_refused(population, wanted):
    with pytest.raises(ConfigError, match=rf"optimizer.population is {population}; .*{wanted}"):
        MixedGa(plain(4), 1, population=population)


@pytest.mark.parametrize(("name", "value"), [("crossover_prob", 1.1), ("crossover_eta", 0.5), ("mutation_eta", 101.0)])
def test_settings_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=rf"optimizer.{name} is {value}; wanted"):
        MixedGa(plain(4), 1, **{name: value})
