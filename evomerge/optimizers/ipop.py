"""CMA-ES with restarts that double the population (IPOP; Auger and Hansen 2005, doi:10.1109/CEC.2005.1554902)."""

from __future__ import annotations

import numpy as np

from evomerge.optimizers.restarts import Restarts, Run
from evomerge.problem import Problem


class Ipop(Restarts):
    """Each run has twice the population of the one before: slower, and harder to trap in a local optimum.

    Deviations from the paper: the first run begins at the problem's start, and runs end sooner, for a few hundred
    evaluations are less than one needs to converge to the paper's 1e-12. `patience`: after so many batches without
    anything better, by default as many as its window has, in which it asks whether the best values still differ at
    all. `narrow`: at this share of the first steps; a tenth is finer than item noise lets anyone see.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        population: int | None = None,
        sigma: float = 1.0,
        patience: int | None = None,
        narrow: float = 0.1,
    ):
        super().__init__(problem, seed, population=population, sigma=sigma, patience=patience, narrow=narrow)

    def _next(self, ended: Run, rng: np.random.Generator) -> tuple[int, float]:
        return 2 * ended.strategy.population, 1.0
