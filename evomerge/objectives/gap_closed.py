"""Share of the gap between base and best parent that a merge closes, averaged over tasks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError
from evomerge.types import Estimate


class GapClosed:
    """mean over tasks of (score - base) / (best parent - base): 0 is the base, 1 every expert on its own task.

    Without a base the plain average is the floor. A gap below `min_gap` (the tasks' own units) counts as
    `min_gap`, so that a task no parent improves cannot blow up the mean.
    """

    def __init__(self, min_gap: float = 0.1):
        if not min_gap > 0:
            raise ConfigError(f"objective.min_gap is {min_gap}; wanted a positive number.")
        self._min_gap = min_gap

    def combine(
        self, tasks: Sequence[Estimate], floor: Sequence[Estimate], parents: Sequence[Sequence[Estimate]]
    ) -> tuple[Estimate, ...]:
        best = np.max([[e.value for e in parent] for parent in parents], axis=0)  # (tasks,)
        low = np.array([e.value for e in floor])
        gap = np.maximum(best - low, self._min_gap)
        shares = (np.array([e.value for e in tasks]) - low) / gap
        errors = np.array([e.stderr for e in tasks]) / gap
        return (
            Estimate(
                float(shares.mean()), float(np.sqrt((errors**2).sum())) / len(tasks), sum(e.n_items for e in tasks)
            ),
        )
