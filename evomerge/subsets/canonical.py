"""A bank in an order of its own, so that what is drawn depends on the items and never on how they were listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from evomerge.families import Sampler
from evomerge.items import Draw, ItemBank
from evomerge.subsets.frame import Frame
from evomerge.subsets.shares import items_wanted


def canonical(bank: ItemBank) -> tuple[ItemBank, np.ndarray]:
    """Tasks by name, items by content hash; and int64 (N,), the places that they have in `bank`.

    A task without items is left out.
    """
    names = [bank.tasks[t] for t in bank.task]
    order = np.array(sorted(range(bank.size), key=lambda i: (names[i], bank.items[i])), dtype=np.int64)
    kept = sorted(set(bank.task.tolist()), key=lambda t: bank.tasks[t])
    number = {t: k for k, t in enumerate(kept)}
    ordered = replace(
        bank,
        tasks=tuple(bank.tasks[t] for t in kept),
        metrics=tuple(bank.metrics[t] for t in kept),
        items=tuple(bank.items[i] for i in order),
        task=np.array([number[t] for t in bank.task[order].tolist()], dtype=np.int64),
        weights=bank.weights[order],
        endpoints=bank.endpoints[:, order],
        designs=bank.designs[:, order],
        leaderboard=bank.leaderboard[:, order],
        margins=None if bank.margins is None else bank.margins[:, order],
    )
    return ordered, order


@dataclass(frozen=True, eq=False)
class InBankOrder:
    """A sampler of the canonical bank, its draws as places in the bank that was given."""

    sampler: Sampler
    places: np.ndarray

    def draw(self, number: int) -> Draw:
        found = self.sampler.draw(number)
        return Draw(self.places[found.index], found.weights)


@dataclass(frozen=True, eq=False)
class Same:
    """One draw, whatever its number."""

    fixed: Draw

    def draw(self, number: int) -> Draw:
        return self.fixed


def whole(bank: ItemBank) -> Sampler:
    """All items: each stands for itself."""
    order = Frame.of(bank).spread(np.arange(bank.size))
    return Same(Draw(order, bank.weights[order]))


def fitted(bank: ItemBank, n: int | None, rule: Callable[[ItemBank, int], Sampler]) -> Sampler:
    """The sampler that `rule` makes of the canonical bank for n items; all items if there are no more than n.

    Raises ConfigError if n is too small for the bank's tasks.
    """
    ordered, places = canonical(bank)
    wanted = items_wanted(ordered, n)
    return InBankOrder(rule(ordered, wanted) if wanted < bank.size else whole(ordered), places)
