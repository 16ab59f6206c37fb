"""The sampling frame: what a sampler must know of each item, and the order in which alike items are neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evomerge.items import ItemBank
from evomerge.subsets.answers import prior


@dataclass(frozen=True, eq=False)
class Frame:
    """Items of a canonical bank. task: int64 (N,), from 0 without gaps. weights: float64 (N,), as in ItemBank.

    prior: float64 (N,) in [0, 1], chance of a right answer.
    """

    task: np.ndarray
    weights: np.ndarray
    prior: np.ndarray

    @classmethod
    def of(cls, bank: ItemBank) -> Frame:
        return cls(bank.task, bank.weights, prior(bank))

    @property
    def size(self) -> int:
        return len(self.task)

    @property
    def counts(self) -> np.ndarray:
        """int64 (T,): items of each task."""
        return np.bincount(self.task)

    def places(self, task: int) -> np.ndarray:
        """int64 (N_t,): where the items of a task lie."""
        return np.flatnonzero(self.task == task)

    def order(self, ties: np.ndarray) -> np.ndarray:
        """int64 (N,): all places, task after task, by prior to two digits, up in one task and down in the next.

        Each stride through it, or through a systematic sample of it, has all tasks and all levels of difficulty in
        proportion. ties: (N,), the order of items of one task and prior.
        """
        turn = np.where(self.task % 2, -1.0, 1.0)
        return np.lexsort((ties, turn * np.round(self.prior, 2), self.task))

    def spread(self, chosen: np.ndarray) -> np.ndarray:
        """The chosen places (n,) in the frame's order."""
        order = self.order(np.arange(self.size))
        return order[np.isin(order, chosen)]


def either_way(index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Back to front in half of the draws: else the first stride of a task would always be a little harder."""
    return index[::-1] if rng.random() < 0.5 else index


def generator(seed: int, number: int, purpose: str) -> np.random.Generator:
    """The random numbers of one draw: they depend on nothing else."""
    return np.random.default_rng([seed, number, int.from_bytes(purpose.encode(), "big")])
