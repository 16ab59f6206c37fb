"""A grid over one common scale: all leading knobs (weight, t) together, the rest at their defaults.

Task arithmetic's own search (Ilharco et al. 2022, arXiv:2212.04089): cheap, and hard to beat.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError
from evomerge.optimizers.batched import Batched
from evomerge.problem import Problem, gene_of, level_of
from evomerge.types import Genome, Result, Variable


class LambdaGrid(Batched):
    """`points` values of the scale from `low` to `high`, in the knobs' own units, clipped to their ranges.

    One batch, and the grid is exhausted. Neither seed nor starts change it. Choices stay at their defaults.
    """

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
        if not has_scale(problem):
            raise ConfigError(
                "lambda_grid moves one common scale, and no variable of this space is one (weights that are normalised "
                "have none): each of its points would be the same merge. Use control=uniform, or optimizer=uniform."
            )
        if points < 1 or not low <= high:
            raise ConfigError(
                f"lambda_grid wants points >= 1 and low <= high, got points={points}, low={low}, high={high}."
            )
        self._problem = problem
        self._values = np.linspace(low, high, points)
        self.lag = points

    def _draw(self) -> Sequence[Genome]:
        done = self._asked > 0  # one pass, then the grid is exhausted
        return [] if done else [self._genome(value) for value in self._values]

    def _genome(self, value: float) -> Genome:
        scaled = [
            gene_at(v, value) if v.leading and v.scale != "choice" else v.default for v in self._problem.variables
        ]
        return self._problem.settled(np.array(scaled))

    def _learn(self, genomes: Sequence[Genome], results: Sequence[Result]) -> None:
        """A grid learns nothing."""


def has_scale(problem: Problem) -> bool:
    """Whether one factor on all leading variables changes the model."""
    return problem.common_scale and any(v.leading for v in problem.variables)


def gene_at(variable: Variable, value: float) -> float:
    """The gene, in [0, 1], at which a number's knob has this value, or its range or levels the nearest one."""
    low, high, value = variable.low, variable.high, min(max(value, variable.low), variable.high)
    if variable.scale == "log":
        low, high, value = np.log([low, high, value])
    place = float(np.clip((value - low) / (high - low), 0.0, 1.0))
    return gene_of(round(place * (variable.levels - 1)), variable.levels) if variable.levels else place


def value_at(variable: Variable, gene: float) -> float:
    """The value of a number's knob at a gene: levels lie evenly on its range, both ends included."""
    levels, low, high = variable.levels, variable.low, variable.high
    place = level_of(gene, levels) / max(levels - 1, 1) if levels else gene
    return float(low * (high / low) ** place) if variable.scale == "log" else low + place * (high - low)
