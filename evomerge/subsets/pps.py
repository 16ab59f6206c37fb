"""Inclusion probabilities in proportion to a size: more for what tells candidates apart, something for everything."""

from __future__ import annotations

import numpy as np

from evomerge.subsets.frame import Frame
from evomerge.subsets.shares import LEAST, proportional


def floored(deviations: np.ndarray, frame: Frame, share: float) -> np.ndarray:
    """float64 (N,), positive: not under `share` of the largest in the task, or of all if the task has none.

    The prior may be wrong about an item, and one that is never asked can never show it.
    """
    largest = np.zeros(len(frame.counts))
    np.maximum.at(largest, frame.task, deviations)
    scale = np.where(largest > 0, largest, largest.max() or 1.0)
    return np.asarray(np.maximum(deviations, share * scale[frame.task]))


def inclusion(sizes: np.ndarray, frame: Frame, n: int) -> np.ndarray:
    """float64 (N,) in (0, 1], adding up to n: in proportion to sizes, but where that would exceed 1.

    A task has as many items as its sizes earn it, though at least two and half of an equal share. sizes: positive.
    n at least two for each task that has them, and at most N.
    """
    have = frame.counts.astype(np.float64)
    least = np.minimum(have, max(LEAST, n / len(have) / 2))
    quotas = proportional(n, np.bincount(frame.task, sizes), low=least, high=have)
    found = np.empty(frame.size)
    for task, quota in enumerate(quotas):
        places = frame.places(task)
        ones = np.ones(len(places))
        found[places] = proportional(quota, sizes[places], low=0 * ones, high=ones)
    return found
