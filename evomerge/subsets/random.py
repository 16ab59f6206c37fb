"""A uniform draw of search items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evomerge.families import Sampler
from evomerge.items import Draw, ItemBank
from evomerge.subsets.canonical import fitted
from evomerge.subsets.frame import Frame, either_way, generator
from evomerge.subsets.shares import checked, equal_shares


class Random:
    """`n` items in all, shared out equally over tasks; a task with fewer gives all it has, the others more."""

    def __init__(self, *, n: int | None = None, fresh: bool | None = None):
        self._n, self.fresh = checked(n), fresh

    def fit(self, bank: ItemBank, seed: int) -> Sampler:
        def rule(ordered: ItemBank, n: int) -> Sampler:
            frame = Frame.of(ordered)
            return Uniform(frame, equal_shares(n, frame.counts), seed)

        return fitted(bank, self._n, rule)


@dataclass(frozen=True, eq=False)
class Uniform:
    """Draws of quotas int64 (T,) without replacement."""

    frame: Frame
    quotas: np.ndarray
    seed: int

    def draw(self, number: int) -> Draw:
        rng = generator(self.seed, number, "random")
        keys = rng.random(self.frame.size)
        chosen = [self._lowest(keys, task) for task in range(len(self.quotas))]
        index = either_way(self.frame.spread(np.concatenate(chosen)), rng)
        inclusion = (self.quotas / self.frame.counts)[self.frame.task]
        return Draw(index, self.frame.weights[index] / inclusion[index])

    def _lowest(self, keys: np.ndarray, task: int) -> np.ndarray:
        places = self.frame.places(task)
        return places[np.argsort(keys[places])[: self.quotas[task]]]
