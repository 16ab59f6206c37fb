"""Uniform sampling of the unit cube: the control every search should be compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError
from evomerge.optimizers.batched import Batched
from evomerge.types import Genome, Variable


class Uniform(Batched):
    """Independent uniform genomes; candidate k depends on (seed, k) alone."""

    def __init__(self, variables: Sequence[Variable], seed: int, start: Genome | None = None, *, batch: int = 8):
        super().__init__()
        if batch < 1:
            raise ConfigError(f"optimizer.batch is {batch}; wanted at least 1.")
        self.lag, self._size, self._seed = batch, len(variables), seed

    def _draw(self) -> Sequence[Genome]:
        ids = range(self._asked, self._asked + self.lag)
        return [np.random.default_rng([self._seed, k]).random(self._size) for k in ids]

    def _learn(self, genomes: Sequence[Genome], fitness: Sequence[float]) -> None:
        """Sampling learns nothing."""
