"""Uniform sampling of the unit cube: the control every search should be compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError
from evomerge.optimizers.batched import Batched
from evomerge.problem import Coverage, Problem
from evomerge.types import Genome, Result


class Uniform(Batched):
    """Independent uniform genomes; candidate k depends on (seed, k) alone."""

    many_goals = True
    takes_choices = True

    def __init__(self, problem: Problem, seed: int, *, batch: int = 8):
        super().__init__()
        if batch < 1:
            raise ConfigError(f"optimizer.batch is {batch}; wanted at least 1.")
        self.lag, self._problem, self._seed = batch, problem, seed
        self._coverage = Coverage(problem)

    @property
    def stopped(self) -> str:
        return self._coverage.stopped

    def _draw(self) -> Sequence[Genome]:
        ids = range(self._asked, self._asked + self.lag)
        drawn = (np.random.default_rng([self._seed, k]).random(self._problem.size) for k in ids)
        return [self._problem.settled(genome) for genome in drawn]

    def _learn(self, genomes: Sequence[Genome], results: Sequence[Result]) -> None:
        """Sampling learns nothing, but a space of few points has an end."""
        self._coverage.add(genomes)
