"""Plain or weighted mean of the task scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError
from evomerge.objectives.shares import stderr_of
from evomerge.types import Estimate


class WeightedMean:
    """sum of weight x score over sum of weights; equal weights if none are given, one per task otherwise."""

    def __init__(self, weights: Sequence[float] | None = None):
        if weights is not None and not (min(weights, default=0) >= 0 and 0 < sum(weights) < float("inf")):
            raise ConfigError(f"objective.weights is {list(weights)}; wanted numbers >= 0 with a positive sum.")
        self._weights = weights

    def goals(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """Raises ConfigError for another number of weights than of tasks."""
        self._shares(len(tasks))
        return ("weighted_mean",)

    def combine(
        self, tasks: Sequence[Estimate], floor: Sequence[Estimate], parents: Sequence[Sequence[Estimate]]
    ) -> tuple[Estimate, ...]:
        share = self._shares(len(tasks))
        value = float(share @ [e.value for e in tasks])
        return (Estimate(value, stderr_of(share, [e.stderr for e in tasks]), sum(e.n_items for e in tasks)),)

    def _shares(self, n_tasks: int) -> np.ndarray:
        """float64 (T,), summing to 1."""
        weights = np.ones(n_tasks) if self._weights is None else np.array(self._weights, dtype=float)
        if len(weights) != n_tasks:
            raise ConfigError(f"objective.weights has {len(weights)} numbers for {n_tasks} tasks; wanted one per task.")
        return np.asarray(weights / weights.sum())
