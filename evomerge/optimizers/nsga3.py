"""NSGA-III (Deb and Jain 2014, doi:10.1109/TEVC.2013.2281535), by the library pymoo."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga3 import NSGA3, HyperplaneNormalization, ReferenceDirectionSurvival
from pymoo.core.population import Population
from pymoo.core.problem import Problem as Cube
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.util.ref_dirs import get_reference_directions

from evomerge.optimizers.breeding import operators
from evomerge.optimizers.populations import Evolving, check_population, default_front
from evomerge.problem import Problem


class Nsga3(Evolving):
    """Of the last rank those survive that stand for directions of trade-off which few others stand for.

    Directions lie evenly on the simplex (Das and Dennis 1998), as finely as there are no more of them than members.
    Operators and their settings are pymoo's defaults, and the paper's: every mating mixes, eta is 30.

    Two deviations. Goals are scaled by those who compete, not by the best ever told: scores that were luck on one draw
    of items are forgotten once they are told anew. Parents of equal violation are chosen by the search's own
    generator; pymoo 0.6.2 takes an unseeded one, which no replay could follow.
    """

    many_goals = True

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        population: int | None = None,
        crossover_prob: float = 1.0,
        crossover_eta: float = 30.0,
        mutation_eta: float = 20.0,
    ):
        population = max(default_front(problem), problem.goals) if population is None else population
        check_population(population)
        check_population(population, problem.goals, "every goal has a direction of its own")
        breed = operators(
            problem, crossover_prob=crossover_prob, crossover_eta=crossover_eta, mutation_eta=mutation_eta
        )
        towards = directions(problem.goals, population)
        make = partial(
            NSGA3,
            towards,
            selection=TournamentSelection(func_comp=_less_violation),
            survival=_Niching(towards),
            **breed,
        )
        super().__init__(problem, seed, make, population=population)


def directions(goals: int, most: int) -> np.ndarray:
    """float64 (n, goals), rows sum to 1: the finest even grid with n <= most; `most` is at least `goals`."""
    parts = 1
    while goals > 1 and math.comb(goals + parts, parts + 1) <= most:
        parts += 1
    found: np.ndarray = get_reference_directions("das-dennis", goals, n_partitions=parts)
    return found


class _Niching(ReferenceDirectionSurvival):  # type: ignore[misc]
    def _do(self, problem: Cube, pop: Population, *args: Any, **kwargs: Any) -> Population:
        self.norm = HyperplaneNormalization(problem.n_obj)  # holds the best of each goal that was ever told
        return super()._do(problem, pop, *args, **kwargs)


def _less_violation(pop: Population, pairs: np.ndarray, random_state: Any = None, **kwargs: Any) -> np.ndarray:
    """int (n, 1): of each pair (n, 2) the one with the smaller violation, or either."""
    one, other = pop.get("CV")[pairs][..., 0].T
    either = random_state.random(len(pairs)) < 0.5
    winners: np.ndarray = np.where(np.where(one == other, either, one < other), *pairs.T)
    return winners[:, None]
