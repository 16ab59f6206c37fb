"""SMS-EMOA: that it covers more than uniform sampling, and that hypervolume decides who survives."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.smsemoa import Smsemoa
from evomerge.optimizers.uniform import Uniform
from evomerge.types import Result
from tests.optimizers.driving import go, plain
from tests.optimizers.fronts import GOALS, covered, dtlz2, plain_goals, zdt1


@pytest.mark.parametrize(("goals", "share"), [(zdt1, 0.4), (dtlz2, 0.2)])
def test_after_240_evaluations_it_covers_more_than_uniform_sampling(goals, share):
    """By this share, at least, of what uniform sampling leaves of ZDT1's 6.27 and DTLZ2's 7.48; medians of 7 seeds."""
    whole = {zdt1: 1.1 * 6 - 1 / 3, dtlz2: 8 - np.pi / 6}[goals]
    found = np.median([covered(Smsemoa(plain_goals(6, GOALS[goals]), s), goals, 240) for s in range(7)])
    uniform = np.median([covered(Uniform(plain(6), s), goals, 240) for s in range(7)])
    assert uniform + share * (whole - uniform) < found < whole


@pytest.mark.parametrize("unit", [1.0, 1e-4])
def test_the_member_whose_loss_costs_the_least_hypervolume_goes_first_whatever_the_units(unit):
    optimizer = Smsemoa(plain_goals(4, 2), 1, population=4)
    front = [(0.0, 10.0), (3.0, 8.0), (8.0, 3.0), (10.0, 0.0)]
    optimizer.tell([Result(c.id, (a, unit * b)) for c, (a, b) in zip(optimizer.ask(4), front, strict=True)])
    middle = [(6.0, 6.0), (0.1, 0.1), (0.1, 0.1), (0.1, 0.1)]  # the corner at 6 is worth more than either beside it
    optimizer.tell([Result(c.id, (a, unit * b)) for c, (a, b) in zip(optimizer.ask(4), middle, strict=True)])
    assert {0, 3, 4} < set(optimizer.living) and len({1, 2} & set(optimizer.living)) == 1


def test_with_one_goal_the_best_survive():
    optimizer = Smsemoa(plain(4), 1)
    _, told = go(optimizer, 40, lambda c: -float(((c.genome - 0.3) ** 2).sum()))
    best = sorted((r for batch in told for r in batch), key=lambda r: -r.fitness[0])[: optimizer.lag]
    assert optimizer.living == tuple(sorted(r.id for r in best))
    assert best[0].fitness[0] > -1e-3


@pytest.mark.parametrize(("population", "wanted"), [(3, "at least 4"), (1001, "at most 1000")])
def test_populations_that_cannot_serve_are_refused(population, wanted):
    with pytest.raises(ConfigError, match=rf"optimizer.population is {population}; .*{wanted}"):
        Smsemoa(plain_goals(6, 2), 1, population=population)
