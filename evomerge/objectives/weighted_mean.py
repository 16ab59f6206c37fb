"""Plain or weighted mean of the task scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError
from evomerge.types import Estimate


class WeightedMean:
    """sum of weight x score over sum of weights; equal weights if none are given, one per task otherwise."""

    def __init__(self, weights: Sequence[float] | None = None):
        if weights is not None and not (min(weights, default=0) >= 0 and 0 < sum(weights) < float("inf")):
            raise ConfigError(f"objective.weights is {list(weights)}; wanted numbers >= 0 with a positive sum.")
        self._weights = weights

    def combine(
        self, tasks: Sequence[Estimate], floor: Sequence[Estimate], parents: Sequence[Sequence[Estimate]]
    ) -> tuple[Estimate, ...]:
        weights = np.ones(len(tasks)) if self._weights is None else np.array(self._weights, dtype=float)
        if len(weights) != len(tasks):
            raise ConfigError(
                f"objective.weights has {len(weights)} numbers for {len(tasks)} tasks; wanted one per task."
            )
        share = weights / weights.sum()
        value = float(share @ [e.value for e in tasks])
        stderr = float(np.sqrt((share**2) @ np.square([e.stderr for e in tasks])))
        return (Estimate(value, stderr, sum(e.n_items for e in tasks)),)
