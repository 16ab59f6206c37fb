"""The nouns of choosing items and estimating scores: the bank of search items, a draw from it, what was observed.

Subsets and estimators work on arrays in bank order; journals and workers name items by task and content hash.
All scores here are *oriented*: higher is better, a metric of which lower is better is negated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from evomerge.types import Items, Metric


def nothing_known(n: int) -> np.ndarray:
    """float64 (0, n): the answers of no model."""
    return np.zeros((0, n))


@dataclass(frozen=True, eq=False)
class ItemBank:
    """All search items, task after task, and what is known of them before the search.

    task: int64 (N,), index into `tasks`. weights: float64 (N,), positive, summing to 1 within each task: an item's
    share of its task's score. Answers are float64 rows over all N items, NaN where a model was not asked:
    endpoints (K, N) of base, parents and their plain average, designs (M, N) of other merges, leaderboard (L, N) of
    other models. margins: (K, N), the endpoints' log-probability of the right choice minus that of the best wrong
    one, NaN where a task has no choices; None if no task has.
    """

    tasks: tuple[str, ...]
    metrics: tuple[Metric, ...]
    items: tuple[str, ...]
    task: np.ndarray
    weights: np.ndarray
    endpoints: np.ndarray
    designs: np.ndarray
    leaderboard: np.ndarray
    margins: np.ndarray | None = None

    @property
    def size(self) -> int:
        return len(self.items)

    def places(self, task: int) -> np.ndarray:
        """int64 (N_t,): where the items of a task lie."""
        return np.flatnonzero(self.task == task)

    @cached_property
    def _place(self) -> dict[tuple[str, str], int]:
        return {(self.tasks[t], item): i for i, (t, item) in enumerate(zip(self.task, self.items, strict=True))}

    def find(self, items: Items) -> np.ndarray:
        """int64 (n,): the places of named items, in their order. Raises KeyError for one that is not in the bank."""
        return np.array([self._place[task, item] for task, ids in items.items() for item in ids], dtype=np.int64)

    def name(self, index: np.ndarray) -> Items:
        """The items at these places, in bank order, by task; a task without any is left out."""
        named: dict[str, list[str]] = {}
        for i in np.sort(index):
            named.setdefault(self.tasks[self.task[i]], []).append(self.items[i])
        return {task: tuple(named[task]) for task in self.tasks if task in named}


@dataclass(frozen=True, eq=False)
class Draw:
    """A subset of the bank. index: int64 (n,), distinct places in an order of which every stride is a fair sample.

    weights: float64 (n,), positive: what an item stands for in its task, up to a factor per task. An item of
    inclusion probability pi has w / pi (Hajek), an anchor the share of its cluster.
    """

    index: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class Observed:
    """What a candidate has answered so far, over all of its draws.

    index: int64 (n,), distinct places in the bank, n >= 0. values: float64 (n,), oriented. weights: float64 (n,),
    as in Draw. sizes: float64 (n,), what a score is counted per: 1 but for metrics of kind "pairs", which are
    sum(values) / sum(sizes).
    """

    id: int | str
    index: np.ndarray
    values: np.ndarray
    weights: np.ndarray
    sizes: np.ndarray = field(default_factory=lambda: np.ones(0))

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.values):
            object.__setattr__(self, "sizes", np.ones(len(self.values)))
