"""Items in proportion to how far models differ on them (Neyman 1934's allocation, with one item a stratum)."""

from __future__ import annotations

import numpy as np

from evomerge.errors import ConfigError
from evomerge.families import Sampler
from evomerge.items import ItemBank
from evomerge.subsets.answers import deviations, units_of
from evomerge.subsets.canonical import fitted
from evomerge.subsets.frame import Frame
from evomerge.subsets.pps import floored, inclusion
from evomerge.subsets.shares import checked
from evomerge.subsets.systematic import Systematic

#: Of the largest deviation in a task: what an item is worth on which all endpoints agree.
_FLOOR = 0.15


class Neyman:
    """Systematic sample of probability proportional to weight times deviation, mixed with plain shares of the score.

    uniform: share of the draw that ignores the deviations, in [0, 1]. An item on which the endpoints disagree is
    asked more often and counts less (weight / probability), so that means stay unbiased. Without endpoints or
    leaderboard there are no deviations: the same as `stratified`, but for weights of items.
    """

    def __init__(self, *, n: int | None = None, fresh: bool | None = None, uniform: float = 0.25):
        if not 0 <= uniform <= 1:
            raise ConfigError(f"subset.uniform is {uniform}; wanted a share of the draw in [0, 1].")
        self._n, self.fresh, self._uniform = checked(n), fresh, uniform

    def fit(self, bank: ItemBank, seed: int) -> Sampler:
        def rule(ordered: ItemBank, n: int) -> Sampler:
            frame = Frame.of(ordered)
            plain = frame.weights / len(frame.counts)
            sizes = (1 - self._uniform) * telling_shares(ordered, frame) + self._uniform * plain
            return Systematic(frame, inclusion(sizes, frame, n), seed)

        return fitted(bank, self._n, rule)


def telling_shares(bank: ItemBank, frame: Frame) -> np.ndarray:
    """float64 (N,), positive, adding up to 1: weight times deviation.

    Deviations of scores without bounds cannot be compared with those of other tasks: such a task has a mean share.
    """
    sizes = frame.weights * floored(deviations(bank), frame, _FLOOR)
    totals, bounded = np.bincount(frame.task, sizes), units_of(bank).bounded
    wanted = np.where(bounded, totals, totals[bounded].mean() if bounded.any() else 1.0)
    return np.asarray(sizes * (wanted / totals / wanted.sum())[frame.task])
