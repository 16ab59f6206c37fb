"""How much of the way from the base to the best parent a merge has gone, task by task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError
from evomerge.types import Estimate


def positive(name: str, value: float) -> float:
    """The value. Raises ConfigError naming `objective.NAME` if it is not a positive number."""
    if not value > 0:
        raise ConfigError(f"objective.{name} is {value}; wanted a positive number.")
    return value


def shares(
    tasks: Sequence[Estimate], floor: Sequence[Estimate], parents: Sequence[Sequence[Estimate]], *, min_gap: float
) -> tuple[np.ndarray, np.ndarray]:
    """float64 (T,) each: (score - base) / (best parent - base), and standard errors; the references count as exact.

    A gap below `min_gap` (the tasks' own units) counts as `min_gap`.
    """
    low = np.array([e.value for e in floor])
    gap = np.maximum(best(parents) - low, min_gap)
    return (np.array([e.value for e in tasks]) - low) / gap, np.array([e.stderr for e in tasks]) / gap


def best(parents: Sequence[Sequence[Estimate]]) -> np.ndarray:
    """float64 (T,): the best parent's score, task by task."""
    return np.asarray(np.max([[e.value for e in parent] for parent in parents], axis=0))


def stderr_of(weights: np.ndarray, stderrs: Sequence[float] | np.ndarray) -> float:
    """Of a sum over independent tasks, (T,) each; a task of weight 0 is left out, though its error be infinite."""
    parts = [weight * stderr for weight, stderr in zip(weights, stderrs, strict=True) if weight]
    return float(np.sqrt(np.square(parts).sum()))


def mean(values: np.ndarray, stderrs: np.ndarray, tasks: Sequence[Estimate]) -> Estimate:
    """The plain mean of what tasks are worth, (T,) each, as an estimate; tasks are independent."""
    return Estimate(
        float(values.mean()), float(np.sqrt((stderrs**2).sum())) / len(tasks), sum(e.n_items for e in tasks)
    )
