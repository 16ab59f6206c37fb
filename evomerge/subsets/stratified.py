"""A systematic sample: equal shares of tasks, and of easy and hard items within them."""

from __future__ import annotations

import numpy as np

from evomerge.families import Sampler
from evomerge.items import ItemBank
from evomerge.subsets.canonical import fitted
from evomerge.subsets.frame import Frame
from evomerge.subsets.shares import checked, proportional
from evomerge.subsets.systematic import Systematic


class Stratified:
    """Items sorted by task and prior difficulty, every k-th from a random start; all of a task equally likely."""

    def __init__(self, *, n: int | None = None, fresh: bool | None = None):
        self._n, self.fresh = checked(n), fresh

    def fit(self, bank: ItemBank, seed: int) -> Sampler:
        def rule(ordered: ItemBank, n: int) -> Sampler:
            frame = Frame.of(ordered)
            return Systematic(frame, even_inclusion(frame, n), seed)

        return fitted(bank, self._n, rule)


def even_inclusion(frame: Frame, n: int) -> np.ndarray:
    """float64 (N,) in (0, 1]: equal within a task, n shared out equally over tasks as far as they have items."""
    have = frame.counts.astype(np.float64)
    quotas = proportional(n, np.ones(len(have)), low=np.zeros(len(have)), high=have)
    return np.asarray((quotas / have)[frame.task])
