"""Share of the gap between base and best parent that a merge closes, averaged over tasks."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.objectives.shares import mean, positive, shares
from evomerge.types import Estimate


class GapClosed:
    """mean over tasks of (score - base) / (best parent - base): 0 is the base, 1 every expert on its own task.

    Without a base the plain average is the floor. A gap below `min_gap` (the tasks' own units) counts as
    `min_gap`, so that a task no parent improves cannot blow up the mean.
    """

    def __init__(self, min_gap: float = 0.1):
        self._min_gap = positive("min_gap", min_gap)

    def goals(self, tasks: Sequence[str]) -> tuple[str, ...]:
        return ("gap_closed",)

    def combine(
        self, tasks: Sequence[Estimate], floor: Sequence[Estimate], parents: Sequence[Sequence[Estimate]]
    ) -> tuple[Estimate, ...]:
        return (mean(*shares(tasks, floor, parents, min_gap=self._min_gap), tasks),)
