"""Simulated merges whose answers follow from their parents', and what candidates were seen to answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from evomerge.items import ItemBank, Observed
from tests.estimators.irt_world import bank_of

USUAL = np.array([0.6, 1.2, 1.0, 0.8])  # intercept, and what each parent's answer adds to the log-odds


@dataclass(frozen=True)
class Merges:
    """bank: three parents. answers: float64 (M, N), all that candidates would answer."""

    bank: ItemBank
    answers: np.ndarray

    def truth(self) -> np.ndarray:
        """float64 (M, T)."""
        tasks = range(len(self.bank.tasks))
        return np.stack(
            [self.answers[:, self.bank.places(t)] @ self.bank.weights[self.bank.places(t)] for t in tasks], axis=1
        )

    def saw(self, m: int, index: np.ndarray, weights: np.ndarray | None = None) -> Observed:
        weights = self.bank.weights[index] if weights is None else weights
        return Observed(int(m), index, self.answers[m, index], weights)

    def common(self, n: int, seed: int, among=None) -> list[Observed]:
        """All candidates (or some) on one random draw of n items."""
        index = np.random.default_rng(seed).permutation(self.bank.size)[:n]
        return [self.saw(m, index) for m in (range(len(self.answers)) if among is None else among)]


def merges(seed: int, *, candidates: int = 40, items: int = 1000, tasks: int = 1, collapsed: int = 0) -> Merges:
    """Difficulties N(0, 1.5^2), parents around them, coefficients around USUAL; the last ones guess at 3 per cent."""
    rng = np.random.default_rng(seed)
    ease = 1.5 * rng.normal(size=items)
    parents = (rng.random((3, items)) < expit(ease + 0.5 + rng.normal(size=(3, items)))).astype(float)
    x = np.stack([np.ones(items), *(parents - parents.mean(1, keepdims=True))])
    beta = USUAL + 0.35 * rng.normal(size=(candidates, 4))
    answers = (rng.random((candidates, items)) < expit(beta @ x)).astype(float)
    if collapsed:
        answers[-collapsed:] = rng.random((collapsed, items)) < 0.03
    bank = bank_of(parents, task=np.sort(np.arange(items) % tasks))
    return Merges(bank, answers)


def with_metrics(bank: ItemBank, *metrics) -> ItemBank:
    return replace(bank, metrics=metrics)


def values_of(estimates) -> np.ndarray:
    """float64 (M, T)."""
    return np.array([[e.value for e in each] for each in estimates])


def errors_of(estimates) -> np.ndarray:
    """float64 (M, T)."""
    return np.array([[e.stderr for e in each] for each in estimates])
