"""How long evaluations take: drawn from measured ones, or from a lognormal of their mean and a given spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import TypeAlias

import numpy as np

#: (generator, n) -> float64 (n,) > 0, seconds.
Shape: TypeAlias = Callable[[np.random.Generator, int], np.ndarray]

BLOCK = 4096


class Times:
    """Seconds of candidate k, the same whoever asks, in whatever order: policies are compared on equal candidates."""

    def __init__(self, shape: Shape, seed: int):
        self._shape, self._seed = shape, seed
        self._blocks: dict[int, list[float]] = {}

    def __call__(self, candidate: int) -> float:
        number, place = divmod(candidate, BLOCK)
        if number not in self._blocks:
            rng = np.random.default_rng([self._seed, number])
            self._blocks[number] = self._shape(rng, BLOCK).tolist()
        return self._blocks[number][place]


def lognormal(mean: float, cv: float) -> Shape:
    """cv: standard deviation over mean; 0 is a constant."""
    variance = log(1 + cv * cv)
    return lambda rng, n: rng.lognormal(log(mean) - variance / 2, variance**0.5, n)


def resampled(seconds: Sequence[float], mean: float | None = None) -> Shape:
    """Measured seconds again and again in chance order, stretched to another mean if one is given."""
    values = np.asarray(seconds, dtype=np.float64)
    values = values if mean is None else values * (mean / values.mean())
    return lambda rng, n: rng.choice(values, n)


@dataclass(frozen=True)
class Moments:
    """Of measured seconds. cv: standard deviation over mean."""

    n: int
    mean: float
    cv: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Moments:
        values = np.asarray(seconds, dtype=np.float64)
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        return cls(len(values), float(values.mean()), float(spread / values.mean()))
