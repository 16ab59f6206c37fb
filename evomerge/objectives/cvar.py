"""CVaR: the mean over the worst tasks (Rockafellar & Uryasev 2000, Journal of Risk 2(3))."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError
from evomerge.objectives.shares import positive, shares, stderr_of
from evomerge.types import Estimate


class CVaR:
    """Mean of the worst `share` of the tasks, in shares of the gap closed (see gap_closed).

    Of T tasks the worst share x T count; where that is no whole number, the last of them counts in part, so that the
    goal has no jumps. share = 1 is gap_closed, a share of 1 / T or less the worst task alone. Which tasks are worst
    is judged by estimates: over many noisy tasks it looks worse than it is, for all candidates alike. The standard
    error takes it as given.
    """

    def __init__(self, share: float = 0.5, min_gap: float = 0.1):
        if not 0 < share <= 1:
            raise ConfigError(f"objective.share is {share}; wanted a share of the tasks, above 0 and at most 1.")
        self._share, self._min_gap = share, positive("min_gap", min_gap)

    def goals(self, tasks: Sequence[str]) -> tuple[str, ...]:
        return ("cvar",)

    def combine(
        self, tasks: Sequence[Estimate], floor: Sequence[Estimate], parents: Sequence[Sequence[Estimate]]
    ) -> tuple[Estimate, ...]:
        closed, stderrs = shares(tasks, floor, parents, min_gap=self._min_gap)
        weight = self._weights(closed)
        n_items = sum(e.n_items for e, w in zip(tasks, weight, strict=True) if w)
        return (Estimate(float(weight @ closed), stderr_of(weight, stderrs), n_items),)

    def _weights(self, closed: np.ndarray) -> np.ndarray:
        """float64 (T,): what each task counts, summing to 1; of equal tasks the first counts first."""
        counted = max(self._share * len(closed), 1.0)
        by_rank = np.clip(counted - np.arange(len(closed)), 0.0, 1.0) / counted
        weight = np.empty(len(closed))
        weight[np.argsort(closed, kind="stable")] = by_rank
        return weight
