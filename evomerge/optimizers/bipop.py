"""CMA-ES with restarts of two kinds, large and small (BIPOP; Hansen 2009, doi:10.1145/1570256.1570333)."""

from __future__ import annotations

import numpy as np

from evomerge.optimizers.restarts import Restarts, Run
from evomerge.problem import Problem


class Bipop(Restarts):
    """Large runs double the population; small ones are of a random size and look around with narrower steps.

    A small run has population lambda0 (lambda / (2 lambda0))^(u^2) and steps times 0.01^v, where lambda is that of the
    last large run and u and v are uniform. Small runs follow as long as they have cost less than the large ones; the
    first run counts as neither. Deviations from the paper: as in `ipop`, and a small run may cost as much as it needs
    instead of half of the last large one.
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
        self._first = self._large = self.lag
        self._is_large = True
        self._spent = {True: 0, False: 0}  # evaluations of large and small runs

    def _next(self, ended: Run, rng: np.random.Generator) -> tuple[int, float]:
        if self._n_runs > 1:
            self._spent[self._is_large] += ended.evaluations
        self._is_large = self._spent[True] <= self._spent[False]
        if self._is_large:
            self._large *= 2
            return self._large, 1.0
        u, v = rng.random(2)
        return int(self._first * (self._large / (2 * self._first)) ** (u**2)), float(0.01**v)
