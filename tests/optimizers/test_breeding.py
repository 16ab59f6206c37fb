"""First genomes, what crossover and mutation do to genes on a grid, and how many points a space has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymoo.core.population import Population
from pymoo.core.problem import Problem as Cube

from evomerge.optimizers.breeding import Unseen, first_population, operators
from evomerge.problem import Problem, gene_of, level_of, points
from evomerge.types import Variable
from tests.optimizers.driving import plain

RATES = {"crossover_prob": 1.0, "crossover_eta": 15.0, "mutation_eta": 20.0}


def knob(levels: int, scale="linear") -> Variable:
    return Variable(f"{levels}{scale}", "k", 0.0, 1.0, scale, gene_of(0, levels) if levels else 0.5, 0.2, levels=levels)


def bred(operator: str, problem: Problem, parents: np.ndarray, seed: int = 1, **options) -> np.ndarray:
    """parents: (n, D) for a mutation, (n, 2, D) for a crossover, of whom (2 n, D) children come."""
    kind = operators(problem, **RATES, **options)[operator]
    cube = Cube(n_var=problem.size, xl=0.0, xu=1.0)
    given = (
        [[Population.new(X=pair)[i] for i in (0, 1)] for pair in parents]
        if operator == "crossover"
        else (Population.new(X=parents.copy()))
    )
    return kind.do(cube, given, random_state=np.random.default_rng(seed)).get("X")


# ---------------------------------------------------------------- mutation


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("scale", ["linear", "choice"])
@pytest.mark.parametrize("levels", [2, 3, 4, 9])
def test_as_many_discrete_genes_change_their_level_as_the_rate_says(levels, scale, ordered):
    """0.9 of all genomes, one gene of two in them; pymoo's own mutation with rounding changes hardly any."""
    problem = Problem((knob(levels, scale), knob(0)))
    old = np.repeat([[gene_of(levels // 2, levels), 0.5]], 8000, axis=0)
    new = bred("mutation", problem, old, ordered=ordered)
    assert np.mean([level_of(g, levels) != levels // 2 for g in new[:, 0]]) == pytest.approx(0.45, abs=0.025)
    assert np.mean(new[:, 1] != 0.5) == pytest.approx(0.45, abs=0.025)


def test_steps_of_ordered_genes_are_single_and_both_ways_and_inwards_at_an_end():
    problem = Problem((knob(3), knob(3), knob(3)))
    old = np.repeat([[gene_of(0, 3), gene_of(1, 3), gene_of(2, 3)]], 6000, axis=0)
    new = bred("mutation", problem, old)
    found = [np.unique([level_of(g, 3) for g in column], return_counts=True) for column in new.T]
    assert [set(levels) for levels, _ in found] == [{0, 1}, {0, 1, 2}, {1, 2}]
    down, _, up = found[1][1]
    assert down == pytest.approx(up, rel=0.15)


def test_choices_jump_to_every_other_level_equally_often():
    new = bred("mutation", Problem((knob(5, "choice"),)), np.full((10000, 1), gene_of(1, 5)))
    counts = np.bincount([level_of(g, 5) for g in new[:, 0]], minlength=5)
    others = counts[[0, 2, 3, 4]]
    assert others == pytest.approx(np.full(4, others.mean()), rel=0.12)


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["linear", "choice"])), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_mutants_of_settled_genomes_lie_in_the_cube_and_on_the_grid(kinds):
    problem = Problem(tuple(knob(levels, scale) for levels, scale in kinds))
    new = bred("mutation", problem, first_population(problem, 30, 1))
    assert ((new >= 0) & (new <= 1)).all()
    assert all(row.tobytes() == problem.settled(row).tobytes() for row in new)


# ---------------------------------------------------------------- crossover


def test_choices_are_exchanged_whole_and_ordered_genes_blended():
    problem = Problem((knob(9, "choice"), knob(9)))
    parents = np.repeat([[[gene_of(1, 9)] * 2, [gene_of(7, 9)] * 2]], 2000, axis=0)
    children = bred("crossover", problem, parents)
    first = children[:2000, 0]
    assert set(children[:, 0]) == {gene_of(1, 9), gene_of(7, 9)}
    assert np.mean(first == gene_of(1, 9)) == pytest.approx(0.5, abs=0.05)
    assert (children[:2000, 0] != children[2000:, 0]).all()
    assert len(set(children[:, 1])) > 1000


def test_a_search_that_orders_choices_blends_them_too():
    parents = np.repeat([[[gene_of(1, 9)], [gene_of(7, 9)]]], 100, axis=0)
    assert len(set(bred("crossover", Problem((knob(9, "choice"),)), parents, ordered=True)[:, 0])) > 20


# ---------------------------------------------------------------- genomes


@pytest.mark.parametrize(
    ("levels", "population", "n"), [((3, 3), 20, 9), ((3, 3), 5, 5), ((1,), 4, 1), ((2, 0), 50, 50)]
)
def test_first_populations_are_full_unless_the_space_is_smaller(levels, population, n):
    found = first_population(Problem(tuple(knob(k) for k in levels)), population, 1)
    assert found.shape == (n, len(levels))
    assert len(np.unique(found, axis=0)) == n


def test_levels_of_first_populations_are_equally_often():
    problem = Problem((knob(4), knob(0)))
    found = np.concatenate([first_population(problem, 50, seed)[1:, 0] for seed in range(40)])
    counts = np.bincount([level_of(g, 4) for g in found])
    assert counts == pytest.approx(np.full(4, len(found) / 4), rel=0.12)


def test_points_are_counted_where_they_can_be():
    assert points(Problem((knob(3), knob(4, "choice")))) == 12
    assert points(Problem((knob(3), knob(0)))) is None
    assert points(plain(3)) is None
    half = Problem((knob(2, "choice"), knob(5)), active=lambda g: np.array([True, g[0] > 0.5]))
    assert points(half) == 6
    assert points(Problem((knob(2, "choice"), knob(5000)), active=half.active)) is None


def test_of_children_the_first_of_equals_stays_unless_it_was_asked_or_is_among_the_others():
    unseen = Unseen()
    unseen.remember(Population.new(X=np.array([[0.1], [0.2]])))
    children = Population.new(X=np.array([[0.3], [0.1], [0.3], [0.4], [0.5], [-0.0], [0.0]]))
    assert unseen.do(children, Population.new(X=np.array([[0.4]]))).get("X").ravel().tolist() == [0.3, 0.5, 0.0]
