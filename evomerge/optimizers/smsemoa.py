"""SMS-EMOA (Beume, Naujoks and Emmerich 2007, doi:10.1016/j.ejor.2006.08.008), by the library pymoo."""

from __future__ import annotations

from functools import partial
from typing import Any

from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.algorithms.soo.nonconvex.ga import FitnessSurvival

from evomerge.optimizers.breeding import operators
from evomerge.optimizers.populations import Evolving, check_population, default_front
from evomerge.problem import Problem


class Smsemoa(Evolving):
    """Of the last rank, the member goes first without which the population covers the least hypervolume less.

    Operators and their settings are pymoo's defaults; as there, whole generations compete, not one child at a time.
    Goals are scaled to the members' own range, so their units do not matter. With one goal the best survive.
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
        survival: dict[str, Any] = {"survival": FitnessSurvival()} if problem.goals == 1 else {}  # no volume in 1-D
        super().__init__(problem, seed, partial(SMSEMOA, **breed, **survival), population=population)
