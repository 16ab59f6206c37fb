"""NSGA-III: directions, coverage, and what of pymoo's would break replay or remember luck."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.nsga3 import Nsga3, directions
from evomerge.optimizers.uniform import Uniform
from evomerge.types import Result
from tests.optimizers.driving import drive, genomes, plain
from tests.optimizers.fronts import GOALS, covered, dtlz2, plain_goals, zdt1


@pytest.mark.parametrize(("goals", "share"), [(zdt1, 0.4), (dtlz2, 0.1)])
def test_after_240_evaluations_it_covers_more_than_uniform_sampling(goals, share):
    """By this share, at least, of what uniform sampling leaves of ZDT1's 6.27 and DTLZ2's 7.48; medians of 7 seeds."""
    whole = {zdt1: 1.1 * 6 - 1 / 3, dtlz2: 8 - np.pi / 6}[goals]
    found = np.median([covered(Nsga3(plain_goals(6, GOALS[goals]), s), goals, 240) for s in range(7)])
    uniform = np.median([covered(Uniform(plain(6), s), goals, 240) for s in range(7)])
    assert uniform + share * (whole - uniform) < found < whole


@pytest.mark.parametrize(
    ("goals", "most", "n"), [(2, 12, 12), (3, 16, 15), (3, 14, 10), (4, 20, 20), (6, 6, 6), (1, 4, 1)]
)
def test_directions_are_as_many_as_the_population_allows_and_even_on_the_simplex(goals, most, n):
    found = directions(goals, most)
    assert found.shape == (n, goals)
    assert found.sum(axis=1) == pytest.approx(1) and found.min() >= 0
    assert len(np.unique(found.round(9), axis=0)) == n
    assert {tuple(row) for row in np.eye(goals)} <= {tuple(row) for row in found}


def test_each_direction_keeps_a_member_that_stands_for_it():
    """Fifty on a line of trade-offs: the twelve that are left are near the twelve directions."""
    optimizer = Nsga3(plain_goals(3, 2), 1, population=12)
    at = {}

    def judge(number, batch):
        at.update({c.id: np.random.default_rng(c.id).random() for c in batch})
        return [Result(c.id, (at[c.id], 1 - at[c.id])) for c in batch]

    drive(optimizer, 40, judge)
    kept = np.sort([at[i] for i in optimizer.living])
    assert np.abs(kept - np.linspace(0, 1, 12)).max() < 0.04


def test_replay_is_exact_while_all_break_a_constraint():
    """pymoo's own tournament breaks ties of violation by an unseeded generator."""

    def judge(number, batch):
        return [Result(c.id, (float(c.genome[0]), float(c.genome[1])), 1.0) for c in batch]

    runs = [drive(Nsga3(plain_goals(4, 2), 3), 12, judge)[0] for _ in range(3)]
    assert genomes(runs[0]) == genomes(runs[1]) == genomes(runs[2])


def test_the_less_violation_the_more_children():
    optimizer = Nsga3(plain_goals(2, 2), 5, population=200, crossover_prob=0.0, mutation_eta=100.0)
    first = optimizer.ask(200)
    median = np.median([c.genome[0] for c in first])
    optimizer.tell([Result(c.id, (0.0, 0.0), 1.0 + (c.genome[0] > median)) for c in first])
    assert np.mean([c.genome[0] <= median for c in optimizer.ask(200)]) == pytest.approx(0.75, abs=0.08)


def test_a_score_that_was_luck_no_longer_scales_the_goals_once_it_is_told_anew():
    def survivors(lucky):
        optimizer = Nsga3(plain_goals(3, 2), 1, population=8)
        batch = optimizer.ask(8)
        optimizer.tell([Result(c.id, (lucky, 0.0) if c.id == 0 else (0.0, 0.0)) for c in batch])
        again = [Result(i, (0.0, 0.0)) for i in optimizer.living]
        optimizer.tell(again + [Result(c.id, (k / 7, 1 - k / 7)) for k, c in enumerate(optimizer.ask(8))])
        children = optimizer.ask(8)
        optimizer.tell([Result(c.id, (k / 8 + 0.04, 0.96 - k / 8)) for k, c in enumerate(children)])
        return optimizer.living

    assert survivors(0.5) == survivors(1000.0)


def test_warnings_of_the_process_stay_as_they_were():
    before = list(warnings.filters)
    drive(Nsga3(plain_goals(4, 3), 1), 6, lambda n, batch: [Result(c.id, dtlz2(c.genome)) for c in batch])
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("goals", "population", "wanted"), [(2, 3, "least 4"), (6, 5, "least 6"), (2, 1001, "most 1000")]
)
def test_populations_that_cannot_serve_are_refused(goals, population, wanted):
    with pytest.raises(ConfigError, match=rf"optimizer.population is {population}; .*{wanted}"):
        Nsga3(plain_goals(6, goals), 1, population=population)
