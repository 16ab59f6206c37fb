"""The nouns of a survey: sums over the parents' entries, and what is said about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np

from evomerge.models import layout

Key = TypeVar("Key")


@dataclass(frozen=True)
class Tally:
    """Sums over a set of entries, of one tensor or of many: `added` gives the sums over several.

    gram: float64 (1 + P, 1 + P), inner products of the base and the task vectors (parent minus base), the base first;
    without a base (P, P), of the parents themselves. equal: int64 (P,), entries a parent has exactly as the base.
    ulps: float64 (P,), squared spacing of a parent's dtype at the base's entries, summed over the tensors it changed
    (0 for adapters, whose factors are never rounded to that spacing). shared: entries that two or more parents
    changed; clashing: those of them where signs differ. The masses are the sums of |task vectors| over these entries.
    """

    entries: int
    gram: np.ndarray
    equal: np.ndarray
    ulps: np.ndarray
    shared: int
    clashing: int
    shared_mass: float
    clashing_mass: float


@dataclass(frozen=True)
class Card:
    """Who a parent is. `dtype` is what most of its entries are stored in; `rank` an adapter's, None for checkpoints."""

    name: str
    digest: str
    dtype: str
    rank: int | None = None


@dataclass(frozen=True)
class Lock:
    """A sign that a parent was rewritten without changing what it computes: `kind` seen in `found` of `tried`."""

    parent: str
    kind: Literal["permuted", "rescaled", "rotated", "heads"]
    found: int
    tried: int
    example: str


@dataclass(frozen=True)
class Survey:
    """All that was counted, by tensor name; `stacks` are the numbers of blocks as in a Pool."""

    base: str | None
    parents: tuple[Card, ...]
    stacks: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    tallies: Mapping[str, Tally]
    locks: tuple[Lock, ...] = ()

    @property
    def names(self) -> list[str]:
        return [card.name for card in self.parents]

    @cached_property
    def total(self) -> Tally:
        return self.grouped(lambda where: "all")["all"]

    @cached_property
    def matrices(self) -> Tally:
        """Without 1-D tensors: norms near 1 in every model would make strangers look related."""
        kept = [tally for name, tally in self.tallies.items() if len(self.shapes[name]) > 1]
        return added(kept or list(self.tallies.values()))

    @property
    def parts(self) -> list[str]:
        """The parts there are, in layout's order."""
        present = {layout.place(name).part for name in self.tallies}
        return sorted(present, key=lambda part: layout.PARTS.index(part) if part in layout.PARTS else len(layout.PARTS))

    @property
    def blocks(self) -> list[tuple[str, int]]:
        return [(stack, block) for stack, depth in self.stacks.items() for block in range(depth)]

    def grouped(self, key: Callable[[layout.Place], Key | None]) -> dict[Key, Tally]:
        """Sums of the tensors that share a key; those with the key None are left out."""
        found: dict[Key, list[Tally]] = {}
        for name, tally in self.tallies.items():
            at = key(layout.place(name))
            if at is not None:
                found.setdefault(at, []).append(tally)
        return {at: added(tallies) for at, tallies in found.items()}

    @cached_property
    def by_part(self) -> dict[str, Tally]:
        return self.grouped(lambda where: where.part)

    @cached_property
    def by_block(self) -> dict[tuple[str, int], Tally]:
        return self.grouped(_block)

    @cached_property
    def by_block_and_part(self) -> dict[tuple[tuple[str, int] | None, str], Tally]:
        """The block is None for what lies outside the blocks."""
        return self.grouped(lambda where: (_block(where), where.part))


@dataclass(frozen=True)
class Finding:
    """What a person should know before merging. alarm: do not merge yet; warning: look into it; note: good to know."""

    level: Literal["alarm", "warning", "note"]
    kind: str
    parents: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Suggestion:
    """Settings to start from, as overrides of `evomerge search` (none: nothing to set), and the reason."""

    overrides: tuple[str, ...]
    reason: str


def added(tallies: list[Tally]) -> Tally:
    """The sums over all. In the order given, so that the same survey has the same bits."""
    return Tally(*(sum(getattr(tally, f.name) for tally in tallies) for f in fields(Tally)))


def _block(where: layout.Place) -> tuple[str, int] | None:
    return None if where.stack is None or where.block is None else (where.stack, where.block)
