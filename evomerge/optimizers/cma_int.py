"""CMA-ES for discrete genes among continuous ones (Marty et al. 2024, LB+IC-CMA-ES, PPSN)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from evomerge.errors import ConfigError
from evomerge.optimizers.cma_strategy import OneRun, Strategy, first_steps
from evomerge.problem import Coverage, Problem
from evomerge.types import Genome, Result


class CmaInt(OneRun):
    """As `cma_es`; a discrete gene is an integer whose standard deviation stays wide enough to reach its neighbours.

    Levels are taken to be ordered: for choices without an order (methods), neighbours mean nothing, and a genetic
    algorithm (`mixed_ga`) is the better choice. Genomes are asked as they are settled: discrete genes in the middle of
    their level, inactive ones at their default, while cma learns from what it drew. Population by default
    6 + 3 ln(D n) for n discrete genes, as in cma.
    """

    takes_choices = True

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        population: int | None = None,
        sigma: float = 1.0,
    ):
        if problem.discrete and sys.flags.optimize:
            raise ConfigError(
                "optimizer=cma_int cannot run under python -O: cma draws random numbers inside assertions, so its "
                "candidates would differ from those of a normal run. Start Python without -O and PYTHONOPTIMIZE."
            )
        levels = [v.levels for v in problem.variables]
        steps = first_steps(problem, sigma)
        super().__init__(Strategy(problem.start, steps, seed, population=population, levels=levels))
        self._problem, self._coverage = problem, Coverage(problem)

    @property
    def stopped(self) -> str:
        return self._coverage.stopped or super().stopped

    def mean(self) -> Genome:
        """The distribution's mean, settled."""
        return self._problem.settled(super().mean())

    def _draw(self) -> Sequence[Genome]:
        return [self._problem.settled(g) for g in super()._draw()]

    def _learn(self, genomes: Sequence[Genome], results: Sequence[Result]) -> None:
        super()._learn(genomes, results)
        self._coverage.add(genomes)
