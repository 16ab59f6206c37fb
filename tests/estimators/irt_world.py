"""Simulated worlds in which item response theory is true, and banks around answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from evomerge.items import ItemBank, Observed, nothing_known
from evomerge.types import Metric

ACC = Metric("acc", True)


def bank_of(endpoints, *, leaderboard=None, designs=None, task=None, weights=None, metrics=None) -> ItemBank:
    """A bank around endpoints (K, N); one task of equal weights unless told otherwise."""
    endpoints = np.asarray(endpoints, dtype=float)
    n = endpoints.shape[1]
    task = np.zeros(n, dtype=np.int64) if task is None else np.asarray(task)
    weights = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    weights = weights / np.bincount(task, weights)[task]
    tasks = tuple(f"task{t}" for t in range(task.max() + 1))
    items = tuple(f"item{i}" for i in range(n))
    rows = (nothing_known(n) if rows is None else np.asarray(rows, dtype=float) for rows in (designs, leaderboard))
    return ItemBank(tasks, metrics or (ACC,) * len(tasks), items, task, weights, endpoints, *rows)


def saw(index, values, weights=None) -> Observed:
    index = np.asarray(index, dtype=np.int64)
    weights = np.ones(len(index)) if weights is None else np.asarray(weights, dtype=float)
    return Observed(0, index, np.asarray(values, dtype=float), weights)


@dataclass(frozen=True)
class World:
    """probabilities, answers: (M, N). abilities: (M,). The first models are endpoints, the last candidates."""

    abilities: np.ndarray
    probabilities: np.ndarray
    answers: np.ndarray


def world(seed: int, *, models: int, items: int) -> World:
    """2PL: theta ~ N(0, 1), log a ~ N(0, 0.5^2), b ~ N(0, 1.5^2)."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=models)
    slopes, intercepts = np.exp(0.5 * rng.normal(size=items)), 1.5 * rng.normal(size=items)
    p = expit(theta[:, None] * slopes - intercepts)
    return World(theta, p, (rng.random(p.shape) < p).astype(float))
