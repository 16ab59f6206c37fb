"""Anchor items by the models that answer them rightly (Polo et al. 2024, arXiv:2402.14992, sec. 3)."""

from __future__ import annotations

import numpy as np

from evomerge.families import Sampler
from evomerge.items import ItemBank
from evomerge.subsets.anchors import anchors_of, demand_models
from evomerge.subsets.answers import distinct
from evomerge.subsets.canonical import fitted
from evomerge.subsets.shares import checked

_MODELS = 20


class KmeansCorrectness:
    """Clusters of items by their columns of answers; an answer that is not known is the mean of its item's others.

    Fewer than `n` where items are alike. Raises ConfigError at `fit` unless 20 models differ on every task.
    """

    def __init__(self, *, n: int | None = None, fresh: bool | None = None):
        self._n, self.fresh = checked(n), fresh

    def fit(self, bank: ItemBank, seed: int) -> Sampler:
        return fitted(bank, self._n, lambda ordered, n: anchors_of(ordered, columns(ordered), n, seed))


def columns(bank: ItemBank) -> np.ndarray:
    """float64 (N, M) in [0, 1]: the answers of all distinct models, item by item."""
    rows, _ = distinct(bank)
    demand_models(rows, bank, least=_MODELS, member="kmeans_correctness")
    known = np.isfinite(rows)
    means = np.where(known.any(0), np.where(known, rows, 0.0).sum(0) / np.maximum(known.sum(0), 1), 0.5)
    return np.where(known, rows, means).T
