"""A grid over one common scale: all leading knobs (weight, t) together, the rest at their defaults.

Task arithmetic's own search (Ilharco et al. 2022, arXiv:2212.04089): cheap, and hard to beat.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError
from evomerge.optimizers.batched import Batched
from evomerge.problem import Problem
from evomerge.types import Genome, Result, Variable


class LambdaGrid(Batched):
    """`points` values of the scale from `low` to `high`, in the knobs' own units, clipped to their ranges."""

    many_goals = True
    takes_choices = True

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        points: int = 10,
        low: float = 0.1,
        high: float = 1.0,
    ):
        super().__init__()
        if points < 1 or not low <= high:
            raise ConfigError(
                f"lambda_grid wants points >= 1 and low <= high, got points={points}, low={low}, high={high}."
            )
        self._variables = problem.variables
        self._values = np.linspace(low, high, points)
        self.lag = points

    def _draw(self) -> Sequence[Genome]:
        values = self._values if self._asked == 0 else []  # one pass, then the grid is exhausted
        return [self._genome(value) for value in values]

    def _genome(self, value: float) -> Genome:
        return np.array([_gene(v, value) if v.leading else v.default for v in self._variables])

    def _learn(self, genomes: Sequence[Genome], results: Sequence[Result]) -> None:
        """A grid learns nothing."""


def _gene(variable: Variable, value: float) -> float:
    low, high, value = variable.low, variable.high, min(max(value, variable.low), variable.high)
    if variable.scale == "log":
        low, high, value = np.log([low, high, value])
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))
