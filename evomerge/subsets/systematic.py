"""Systematic sampling: steps of equal probability through items in an order in which alike ones are neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evomerge.items import Draw
from evomerge.subsets.frame import Frame, either_way, generator

#: Probabilities this near to 1 are 1 but for rounding.
_CERTAIN = 1 - 1e-12


@dataclass(frozen=True, eq=False)
class Systematic:
    """Draws with inclusion probabilities float64 (N,); items of equal prior are in random order."""

    frame: Frame
    inclusion: np.ndarray
    seed: int

    def draw(self, number: int) -> Draw:
        rng = generator(self.seed, number, "systematic")
        keys = rng.random(self.frame.size)
        index = either_way(systematic(self.inclusion, self.frame.order(keys), 1 - rng.random()), rng)
        return Draw(index, self.frame.weights[index] / self.inclusion[index])


def systematic(inclusion: np.ndarray, order: np.ndarray, start: float) -> np.ndarray:
    """int64 (n,): the places taken, in `order`; each with its own probability exactly, if start is uniform on (0, 1].

    inclusion: float64 (N,) in (0, 1], adding up to n. Any run of places in `order` gives the sum of its
    probabilities, rounded up or down (Madow 1949).
    """
    certain = inclusion >= _CERTAIN
    steps = np.cumsum(np.where(certain, 0.0, inclusion)[order])
    steps[-1:] = np.round(steps[-1:])  # an integer but for rounding errors
    marks = np.floor(steps - start)
    taken = np.diff(marks, prepend=-1.0) > 0  # floor(0 - start) is -1
    return np.asarray(order[taken | certain[order]])
