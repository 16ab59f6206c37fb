"""Anchor items: one for each cluster of items that models answer alike (Polo et al. 2024, arXiv:2402.14992, sec. 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evomerge.errors import ConfigError
from evomerge.items import Draw, ItemBank
from evomerge.subsets.frame import Frame, either_way, generator
from evomerge.subsets.shares import equal_shares

#: Digits of a feature: fits of items that were answered alike end this near to each other.
_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Anchors:
    """Draws of anchors. features: float64 (N, F). quotas: int64 (T,), clusters of each task."""

    frame: Frame
    features: np.ndarray
    quotas: np.ndarray
    seed: int

    def draw(self, number: int) -> Draw:
        rng, shares = generator(self.seed, number, "anchors"), np.zeros(self.frame.size)
        for task, quota in enumerate(self.quotas):
            places = self.frame.places(task)
            shares[places] = anchors(self.features[places], self.frame.weights[places], int(quota), rng)
        index = either_way(self.frame.spread(np.flatnonzero(shares)), rng)
        return Draw(index, shares[index])


def anchors_of(bank: ItemBank, features: np.ndarray, n: int, seed: int) -> Anchors:
    """n anchors at most, shared out equally over tasks."""
    frame = Frame.of(bank)
    return Anchors(frame, features, equal_shares(n, frame.counts), seed)


def anchors(features: np.ndarray, weights: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """float64 (n,): what each item stands for, 0 unless it is the nearest to a centre of k-means; sums to sum(weights).

    An item nearest to several centres stands for all their clusters. There are no more clusters than unlike items.
    """
    from sklearn.cluster import KMeans  # costs a second: paid by who clusters, not by who imports

    rounded = np.round(features, _DIGITS)
    clusters = min(clusters, len(np.unique(rounded, axis=0)))
    found = KMeans(clusters, n_init="auto", random_state=int(rng.integers(2**31))).fit(rounded, sample_weight=weights)
    nearest = found.transform(rounded).argmin(0)  # (clusters,)
    shares = np.zeros(len(weights))
    np.add.at(shares, nearest, np.bincount(found.labels_, weights, minlength=clusters))
    return shares


def demand_models(rows: np.ndarray, bank: ItemBank, *, least: int, member: str) -> None:
    """Raises ConfigError if any task was answered by fewer than `least` of the models float64 (M, N)."""
    for task, name in enumerate(bank.tasks):
        known = np.nan_to_num(rows[:, bank.places(task)], nan=-1.0)
        models = len(np.unique(known[(known >= 0).any(1)], axis=0))
        if models < least:
            raise ConfigError(
                f"subset={member} needs {least} models of different answers to task '{name}' and knows {models} "
                f"(references, calibration designs and leaderboard). Add a leaderboard, or set subset=neyman."
            )
