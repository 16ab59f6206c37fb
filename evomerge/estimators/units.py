"""Item scores of any metric on the scale from 0 to 1, on which the models of answers work, and back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evomerge.items import ItemBank
from evomerge.types import Estimate

#: Above this share of clipped scores a logistic model would be told too much that is not so.
_MOST_CLIPPED = 0.05


@dataclass(frozen=True, eq=False)
class Units:
    """Per task the oriented scores that become 0 and 1. low, high: float64 (T,), low < high.

    logistic: whether scores between 0 and 1 may pass for shares of a right answer; not where they are unbounded and
    many lie beyond, nor where a score is no mean of item scores (metrics of kind "pairs").
    """

    low: np.ndarray
    high: np.ndarray
    logistic: tuple[bool, ...]

    def scaled(self, values: np.ndarray, task: int | np.ndarray) -> np.ndarray:
        """Oriented scores (..., n) as float64 in [0, 1]; task: of all of them, or int64 (n,). NaN stays NaN."""
        low, high = self.low[task], self.high[task]
        return np.asarray(np.clip((values - low) / (high - low), 0.0, 1.0))

    def back(self, estimate: Estimate, task: int) -> Estimate:
        """An estimate on the scale from 0 to 1, in the task's oriented units."""
        low, high = float(self.low[task]), float(self.high[task])
        return replace(estimate, value=low + estimate.value * (high - low), stderr=estimate.stderr * (high - low))


def units_of(bank: ItemBank) -> Units:
    """[0, 1] where the endpoints' scores lie there ([-1, 0] if negated), else the 1% and 99% quantiles of them."""
    found = [_of(bank.endpoints[:, bank.places(t)], m.higher_is_better) for t, m in enumerate(bank.metrics)]
    low, high, few_clipped = zip(*found, strict=True)
    logistic = tuple(few and m.kind == "mean" for few, m in zip(few_clipped, bank.metrics, strict=True))
    return Units(np.array(low), np.array(high), logistic)


def _of(scores: np.ndarray, higher_is_better: bool) -> tuple[float, float, bool]:
    """low, high, and whether no endpoint has more than a few scores beyond; scores: (K, N_t), NaN if not asked."""
    known = scores[~np.isnan(scores)]
    low, high = (0.0, 1.0) if higher_is_better else (-1.0, 0.0)
    if len(known) == 0 or (known.min() >= low and known.max() <= high):
        return low, high, True
    low, high = (float(q) for q in np.quantile(known, (0.01, 0.99)))
    if not low < high:
        return low - 0.5, low + 0.5, False
    clipped = ((scores < low) | (scores > high)).sum(1) / np.maximum((~np.isnan(scores)).sum(1), 1)  # (K,)
    return low, high, bool(clipped.max() <= _MOST_CLIPPED)
