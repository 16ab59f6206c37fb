"""Anchor items by their parameters in item response theory (Polo et al. 2024, arXiv:2402.14992, sec. 3)."""

from __future__ import annotations

import numpy as np

from evomerge.families import Sampler
from evomerge.items import ItemBank
from evomerge.subsets.anchors import anchors_of, demand_models
from evomerge.subsets.answers import distinct
from evomerge.subsets.canonical import fitted
from evomerge.subsets.shares import checked


class KmeansIrt:
    """Clusters of items alike in slopes and intercept: what tinyBenchmarks calls IRT anchor points.

    Fewer than `n` where items are alike. Raises ConfigError at `fit` unless 10 models differ on every task.
    """

    def __init__(self, *, n: int | None = None, fresh: bool | None = None):
        self._n, self.fresh = checked(n), fresh

    def fit(self, bank: ItemBank, seed: int) -> Sampler:
        return fitted(bank, self._n, lambda ordered, n: anchors_of(ordered, parameters(ordered), n, seed))


def parameters(bank: ItemBank) -> np.ndarray:
    """float64 (N, D + 1): slopes and intercept of each item."""
    from evomerge.estimators.irt import FEW_MODELS, calibrate

    rows, _ = distinct(bank)
    demand_models(rows, bank, least=FEW_MODELS, member="kmeans_irt")
    items = calibrate(rows).items
    return np.column_stack([items.slopes, items.intercepts])
