"""CMA-ES with bounds, by the library cma (Hansen 2016, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cma
import numpy as np

from evomerge.errors import ConfigError
from evomerge.optimizers.batched import Batched, Guard, ranked
from evomerge.problem import Problem
from evomerge.types import Genome, Result


class CmaEs(Batched):
    """Rank-based search around a moving mean; the batch is the population, 4 + 3 ln D by default.

    `sigma` scales every variable's own first step. The first mean is the problem's start.
    """

    elitist = False

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        population: int | None = None,
        sigma: float = 1.0,
    ):
        super().__init__()
        if problem.size < 2:  # cma cannot rescale a single variable and gives up in the middle of a run
            raise ConfigError(
                f"CMA-ES needs at least 2 variables, this space has {problem.size}. Use optimizer=lambda_grid or "
                "optimizer=uniform, or search more (space.groups, space.search)."
            )
        self.lag = 4 + math.floor(3 * math.log(problem.size)) if population is None else population
        if self.lag < 3:
            raise ConfigError(
                f"optimizer.population is {population}; CMA-ES needs at least 3. Leave it null for the default."
            )
        if not 0 < sigma < math.inf:
            raise ConfigError(
                f"optimizer.sigma is {sigma}; wanted a positive number (1 keeps each variable's own step)."
            )
        steps = problem.steps * sigma
        self._guard = Guard(seed)
        with self._guard():
            self._es = cma.CMAEvolutionStrategy(_inside(problem.start), float(steps.max()), self._options(steps, seed))

    def _options(self, steps: np.ndarray, seed: int) -> dict[str, object]:
        return {
            "bounds": [0.0, 1.0],
            "popsize": self.lag,
            "CMA_stds": steps / steps.max(),
            "randn": np.random.RandomState(seed).randn,
            "seed": math.nan,  # nan: do not seed numpy's global stream; 0 and None would mean the clock
            "verbose": -9,
            "tolflatfitness": math.inf,
        }

    def mean(self) -> Genome:
        """The distribution's mean after the last tell, (D,) in [0, 1]: a finalist that CMA-ES itself never samples."""
        return np.clip(self._es.result.xfavorite, 0.0, 1.0)

    def _draw(self) -> Sequence[Genome]:
        with self._guard():
            self._asked_of_cma = self._es.ask()
        return np.clip(self._asked_of_cma, 0.0, 1.0)

    def _learn(self, genomes: Sequence[Genome], results: Sequence[Result]) -> None:
        with self._guard():
            self._es.tell(
                self._asked_of_cma, [-f for f in ranked(results)]
            )  # the very arrays asked: lists change cma's stream


def _inside(genome: Genome) -> Genome:
    return np.clip(genome, 0.02, 0.98)  # a mean on a bound has half of its samples reflected
