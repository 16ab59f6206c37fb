"""Points of a scrambled Sobol sequence: sampling that leaves no part of the cube out.

Sobol (1967, doi:10.1016/0041-5553(67)90144-9), scrambled as in Owen (1998) and Matousek (1998), by scipy.stats.qmc.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import qmc

from evomerge.errors import ConfigError
from evomerge.optimizers.batched import Batched
from evomerge.problem import Coverage, Problem
from evomerge.types import Genome, Result


class Sobol(Batched):
    """Point k depends on (seed, k) alone, whatever the batch; the first 2^m have one in each 2^m-th of every axis.

    `batch` is 8 as in `uniform`; a power of two ends each batch in balance. The sequence is scrambled, so that its
    points are uniform over seeds and none is a corner of the cube. Discrete genes are settled on their levels.
    """

    many_goals = True
    takes_choices = True

    def __init__(self, problem: Problem, seed: int, *, batch: int = 8):
        super().__init__()
        if batch < 1:
            raise ConfigError(f"optimizer.batch is {batch}; wanted at least 1, best a power of two.")
        if problem.size > qmc.Sobol.MAXDIM:
            raise ConfigError(
                f"this space has {problem.size} variables, Sobol points at most {qmc.Sobol.MAXDIM}. Use "
                "optimizer=uniform, or search fewer (space.groups, space.search)."
            )
        self.lag, self._problem, self._coverage = batch, problem, Coverage(problem)
        self._points = qmc.Sobol(problem.size, scramble=True, rng=np.random.default_rng(seed))

    @property
    def stopped(self) -> str:
        return self._coverage.stopped

    def _draw(self) -> Sequence[Genome]:
        drawn = (self._points.random(1)[0] for _ in range(self.lag))  # one by one: scipy warns of odd numbers
        return [self._problem.settled(point) for point in drawn]

    def _learn(self, genomes: Sequence[Genome], results: Sequence[Result]) -> None:
        """Sampling learns nothing, but a space of few points has an end."""
        self._coverage.add(genomes)
