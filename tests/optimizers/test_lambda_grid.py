"""The grid: its values in the knobs' own units, as a recipe would have them."""

from __future__ import annotations

import numpy as np
import pytest

from evomerge.errors import ConfigError
from evomerge.optimizers.lambda_grid import LambdaGrid
from evomerge.problem import Problem
from evomerge.spaces import genes
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Knob
from tests.optimizers.driving import VARIABLES, go, results
from tests.spaces.pools import pool


def values(variable, batch, at):
    knob = Knob(variable.knob, 0.0, variable.low, variable.high, variable.scale)
    return [genes.value(knob, c.genome[at]) for c in batch]


def test_leading_knobs_take_the_grid_values_in_their_own_units():
    batch = LambdaGrid(Problem(VARIABLES), 1, points=4, low=0.1, high=1.0).ask(4)
    for at in (0, 1):
        assert values(VARIABLES[at], batch, at) == pytest.approx([0.1, 0.4, 0.7, 1.0])


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "dare_linear", "dare_ties"])
def test_recipes_of_the_grid_have_its_weights_for_every_parent_and_group(method):
    space = WeightsSpace(pool(3), method=method, groups=2, fixed={"normalize": False})
    for candidate, value in zip(
        LambdaGrid(Problem(space.variables), 1).ask(10), np.linspace(0.1, 1.0, 10), strict=True
    ):
        for slot in space.decode(candidate.genome).slots:
            assert slot.blends["*"].knobs["weight"] == pytest.approx((value,) * 3)


def test_a_leading_knob_on_a_log_scale_takes_the_same_values():
    space = WeightsSpace(
        pool(2), method="task_arithmetic", ranges={"weight": [0.05, 2.0]}, scales={"weight": "log"}, search=["weight"]
    )
    for candidate, value in zip(
        LambdaGrid(Problem(space.variables), 1).ask(10), np.linspace(0.1, 1.0, 10), strict=True
    ):
        assert space.decode(candidate.genome).slots[0].blends["*"].knobs["weight"] == pytest.approx((value,) * 2)


def test_slerp_is_swept_from_near_the_first_parent_to_the_second():
    space = WeightsSpace(pool(2), method="slerp")
    found = [
        space.decode(c.genome).slots[0].blends["*"].knobs["t"] for c in LambdaGrid(Problem(space.variables), 1).ask(10)
    ]
    assert found == pytest.approx(np.linspace(0.1, 1.0, 10))


def test_other_knobs_stay_at_their_defaults():
    batch = LambdaGrid(Problem(VARIABLES), 1).ask(10)
    assert {tuple(c.genome[2:]) for c in batch} == {(0.47, 1.0, 0.25)}


def test_after_one_pass_it_is_exhausted():
    grid = LambdaGrid(Problem(VARIABLES), 1, points=5)
    grid.tell(results(grid.ask(5)))
    assert grid.ask(5) == []
    assert grid.ask(1) == []


def test_values_outside_a_range_are_clipped_to_it():
    batch = LambdaGrid(Problem(VARIABLES), 1, points=3, low=-1.0, high=2.0).ask(3)
    assert values(VARIABLES[0], batch, 0) == pytest.approx([-0.2, 0.5, 1.5])


def test_one_point_is_the_low_end():
    batch = LambdaGrid(Problem(VARIABLES), 1, points=1, low=0.3, high=0.9).ask(9)
    assert values(VARIABLES[0], batch, 0) == pytest.approx([0.3])


def test_start_and_seed_change_nothing():
    one, _ = go(LambdaGrid(Problem(VARIABLES), 1), 1)
    other, _ = go(LambdaGrid(Problem(VARIABLES, starts=(np.full(5, 0.9),)), 2), 1)
    assert [c.genome.tolist() for c in one[0]] == [c.genome.tolist() for c in other[0]]


@pytest.mark.parametrize(
    "bad", [{"points": 0}, {"points": -3}, {"low": 0.9, "high": 0.1}, {"high": float("nan")}, {"low": float("nan")}]
)
def test_a_grid_without_points_or_direction_is_refused(bad):
    with pytest.raises(ConfigError, match="points >= 1 and low <= high"):
        LambdaGrid(Problem(VARIABLES), 1, **bad)
