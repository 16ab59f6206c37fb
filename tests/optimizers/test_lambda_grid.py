"""The grid: its values in the knobs' own units, as a recipe would have them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import ConfigError
from evomerge.optimizers.lambda_grid import LambdaGrid, gene_at, value_at
from evomerge.problem import Problem, gene_of, level_of
from evomerge.spaces import genes
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Knob, Variable
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


def test_discrete_genes_stay_at_their_defaults_and_a_leading_number_of_levels_takes_the_nearest():
    method = Variable("method/rest/0/all", "method", 0.0, 3.0, "choice", 0.5, 0.3, leading=True, levels=3)
    fifths = Variable("weight/rest/0/a", "weight", 0.0, 1.0, "linear", 0.5, 0.3, leading=True, levels=5)
    batch = LambdaGrid(Problem((method, fifths)), 1, points=4, low=0.1, high=1.0).ask(4)
    assert [c.genome.tolist() for c in batch] == [pytest.approx([0.5, g]) for g in (0.1, 0.5, 0.7, 0.9)]


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


@pytest.mark.parametrize(
    "problem",
    [Problem(tuple(replace(v, leading=False) for v in VARIABLES)), Problem(VARIABLES, common_scale=False)],
    ids=["no leading knob", "normalised weights"],
)
def test_a_space_without_a_common_scale_is_refused(problem):
    with pytest.raises(ConfigError, match=r"no variable of this space is one.*normalised.*Use control=uniform"):
        LambdaGrid(problem, 1)


@given(
    levels=st.integers(2, 12),
    value=st.floats(0.05, 2.5),
    bounds=st.sampled_from([("linear", -0.2, 1.5), ("linear", 0.1, 1.0), ("log", 0.05, 2.0)]),
)
def test_a_value_between_levels_takes_the_nearest_on_the_knobs_scale(levels, value, bounds):
    scale, low, high = bounds
    variable = Variable("w", "weight", low, high, scale, 0.5, 0.1, leading=True, levels=levels)
    knob = Knob("weight", 0.0, low, high, scale)
    places = np.arange(levels) / (levels - 1)
    wanted = genes.gene(knob, value)
    gene = gene_at(variable, value)
    assert gene in [(i + 0.5) / levels for i in range(levels)]
    assert abs(genes.place(gene, levels) - wanted) == pytest.approx(np.abs(places - wanted).min(), abs=1e-12)


@pytest.mark.parametrize("levels", [0, 1, 5])
@pytest.mark.parametrize(("scale", "low"), [("linear", -0.2), ("log", 0.05)])
def test_a_gene_has_the_value_that_the_space_gives_it(scale, low, levels):
    variable = Variable("w", "weight", low, 1.5, scale, 0.5, 0.1, levels=levels)
    for gene in [0.0, 0.13, 0.5, 0.77, 1.0] if not levels else [gene_of(i, levels) for i in range(levels)]:
        place = gene if not levels else level_of(gene, levels) / max(levels - 1, 1)
        assert value_at(variable, gene) == pytest.approx(genes.value(Knob("weight", 0.0, low, 1.5, scale), place))


def test_a_recipe_of_levels_has_the_nearest_values():
    space = WeightsSpace(pool(2), method="task_arithmetic", levels=5, ranges={"weight": [0, 1]}, search=["weight"])
    batch = LambdaGrid(Problem(space.variables), 1).ask(10)
    found = [space.decode(c.genome).slots[0].blends["*"].knobs["weight"][0] for c in batch]
    assert found == pytest.approx([0.0, 0.25, 0.25, 0.5, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0])
