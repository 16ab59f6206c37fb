"""How many items are drawn, and how many of them from each task."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from evomerge.errors import ConfigError
from evomerge.items import ItemBank

#: A task's score needs a spread: fewer items have none.
LEAST = 2
_AUTOMATIC, _AUTOMATIC_PER_TASK = 60, 4


def checked(n: int | None) -> int | None:
    """The setting `subset.n`, if it can be one."""
    if n is not None and n < 1:
        raise ConfigError(f"subset.n is {n}; wanted at least {LEAST} items per task, or null for an automatic number.")
    return n


def items_wanted(bank: ItemBank, n: int | None) -> int:
    """n, or the automatic number. Raises ConfigError if some task would get fewer than two of its items."""
    tasks = len(bank.tasks)
    if n is None:
        return max(_AUTOMATIC, _AUTOMATIC_PER_TASK * tasks)
    needed = int(np.minimum(np.bincount(bank.task), LEAST).sum())
    if n < needed:
        raise ConfigError(
            f"subset.n is {n} for {tasks} tasks; wanted at least {LEAST} items per task. "
            f"Set subset.n={needed} or more, or leave out tasks."
        )
    return n


def equal_shares(n: int, sizes: np.ndarray) -> np.ndarray:
    """int64 (T,): n shared out as equally as the sizes allow; earlier tasks take the remainder. n <= sum(sizes)."""
    even = proportional(n, np.ones(len(sizes)), low=np.zeros(len(sizes)), high=sizes.astype(np.float64))
    shares = np.floor(even + 1e-9).astype(np.int64)
    open_ = np.flatnonzero(shares < sizes)
    shares[open_[: n - shares.sum()]] += 1
    return shares


def proportional(total: float, sizes: np.ndarray, *, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """float64 (n,): clip(c * sizes, low, high), with the c for which they add up to `total`.

    sizes: positive. sum(low) <= total <= sum(high).
    """

    def clipped(c: float) -> np.ndarray:
        return np.clip(c * sizes, low, high)

    knots = np.unique(np.concatenate([low / sizes, high / sizes]))  # between two of them the sum is linear in c
    above = bisect_left(knots, total, key=lambda c: float(clipped(c).sum()))
    if above in (0, len(knots)):
        return clipped(knots[min(above, len(knots) - 1)])
    c, d = knots[above - 1], knots[above]
    under, over = clipped(c).sum(), clipped(d).sum()
    return clipped(c + (d - c) * (total - under) / (over - under))
