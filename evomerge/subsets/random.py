"""A uniform draw of search items, the same for all candidates of a run."""

from __future__ import annotations

import hashlib

from evomerge.errors import ConfigError
from evomerge.types import Items


class Random:
    """`n` items in all, shared out equally over tasks; a task with fewer gives all it has, the others more."""

    def __init__(self, n: int):
        if n < 1:
            raise ConfigError(f"subset.n is {n}; wanted at least one item per task.")
        self._n = n

    def draw(self, bank: Items, seed: int) -> Items:
        """Chosen by a hash of (seed, task, item): independent of the items' order. Raises ConfigError if n < tasks."""
        if self._n < len(bank):
            raise ConfigError(f"subset.n is {self._n} for {len(bank)} tasks; wanted at least one item per task.")
        quota = shares(self._n, {task: len(ids) for task, ids in bank.items()})
        return {task: _lowest(ids, quota[task], f"{seed}:{task}") for task, ids in bank.items()}


def shares(n: int, sizes: dict[str, int]) -> dict[str, int]:
    """Share n out as equally as the sizes allow; earlier tasks take the remainder."""
    given = dict.fromkeys(sizes, 0)
    while n > 0 and (open_ := [t for t in sizes if given[t] < sizes[t]]):
        for task in open_[:n]:
            given[task] += 1
        n -= len(open_[:n])
    return given


def _lowest(ids: tuple[str, ...], count: int, key: str) -> tuple[str, ...]:
    chosen = set(sorted(ids, key=lambda i: hashlib.sha256(f"{key}:{i}".encode()).digest())[:count])
    return tuple(i for i in ids if i in chosen)
