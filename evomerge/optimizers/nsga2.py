"""NSGA-II (Deb, Pratap, Agarwal and Meyarivan 2002, doi:10.1109/4235.996017), by the library pymoo."""

from __future__ import annotations

from functools import partial

from pymoo.algorithms.moo.nsga2 import NSGA2

from evomerge.optimizers.breeding import operators
from evomerge.optimizers.populations import Evolving, check_population, default_front
from evomerge.problem import Problem


class Nsga2(Evolving):
    """Of members and children those survive that fewer dominate, and of the last rank those with the widest gaps.

    Operators and their settings are pymoo's defaults. Feasible members come before all others; among the infeasible
    the violation alone counts. With one goal it is a genetic algorithm.
    """

    many_goals = True

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        population: int | None = None,
        crossover_prob: float = 0.9,
        crossover_eta: float = 15.0,
        mutation_eta: float = 20.0,
    ):
        population = default_front(problem) if population is None else population
        check_population(population)
        breed = operators(
            problem, crossover_prob=crossover_prob, crossover_eta=crossover_eta, mutation_eta=mutation_eta
        )
        super().__init__(problem, seed, partial(NSGA2, **breed), population=population)
