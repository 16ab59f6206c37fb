"""NSGA-II: that it covers more than uniform sampling, and that it keeps ranks, gaps and feasibility."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.nsga2 import Nsga2
from evomerge.optimizers.uniform import Uniform
from evomerge.types import Result
from tests.optimizers.driving import go, plain
from tests.optimizers.fronts import GOALS, covered, dtlz2, plain_goals, zdt1


@pytest.mark.parametrize(("goals", "share"), [(zdt1, 0.5), (dtlz2, 0.2)])
def test_after_240_evaluations_it_covers_more_than_uniform_sampling(goals, share):
    """By this share, at least, of what uniform sampling leaves of ZDT1's 6.27 and DTLZ2's 7.48; medians of 7 seeds."""
    whole = {zdt1: 1.1 * 6 - 1 / 3, dtlz2: 8 - np.pi / 6}[goals]
    found = np.median([covered(Nsga2(plain_goals(6, GOALS[goals]), s), goals, 240) for s in range(7)])
    uniform = np.median([covered(Uniform(plain(6), s), goals, 240) for s in range(7)])
    assert uniform + share * (whole - uniform) < found < whole


def test_those_that_nobody_dominates_survive_and_of_these_the_ends():
    optimizer = Nsga2(plain_goals(4, 2), 1, population=4)
    optimizer.tell([Result(c.id, (-9.0 - c.id, -9.0 - c.id)) for c in optimizer.ask(4)])
    line = [(0.0, 10.0), (4.9, 5.1), (5.0, 5.0), (10.0, 0.0)]
    optimizer.tell([Result(c.id, f) for c, f in zip(optimizer.ask(4), line, strict=True)])
    assert optimizer.living == (4, 5, 6, 7)
    optimizer.tell([Result(c.id, f) for c, f in zip(optimizer.ask(4), [(2.5, 7.5), (7.5, 2.5)] * 2, strict=True)])
    assert {4, 7} < set(optimizer.living) and not {5, 6} <= set(optimizer.living)


def test_a_member_is_dominated_once_it_is_scored_again():
    optimizer = Nsga2(plain_goals(4, 2), 1, population=4)
    optimizer.tell([Result(c.id, (9.0, 9.0) if c.id == 2 else (0.0, 0.0)) for c in optimizer.ask(4)])
    batch = optimizer.ask(4)
    again = [Result(i, (-9.0, -9.0) if i == 2 else (0.0, 0.0)) for i in optimizer.living]
    optimizer.tell(again + [Result(c.id, (1.0, 1.0)) for c in batch])
    assert optimizer.living == (4, 5, 6, 7)


def test_with_one_goal_it_climbs():
    _, told = go(Nsga2(plain(4), 1), 40, lambda c: -float(((c.genome - 0.3) ** 2).sum()))
    assert max(r.fitness[0] for batch in told for r in batch) > -1e-3


@pytest.mark.parametrize(("goals", "population"), [(1, 9), (2, 12), (3, 16), (5, 24), (9, 24)])
def test_the_population_grows_with_the_goals(goals, population):
    assert Nsga2(plain_goals(6, goals), 1).lag == population


@pytest.mark.parametrize(("population", "wanted"), [(3, "at least 4"), (1001, "at most 1000")])
def test_populations_that_cannot_serve_are_refused(population, wanted):
    with pytest.raises(ConfigError, match=rf"optimizer.population is {population}; .*{wanted}"):
        Nsga2(plain_goals(6, 2), 1, population=population)
