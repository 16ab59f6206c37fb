"""RAM: add what one parent alone has changed, average the rest (Reinforced Agent Merging, 2026, arXiv:2601.13572).

Averaging would shrink the differences that one parent alone has; `ramplus_tl` moreover enlarges them a little where
much of that parent's difference is shared and so averaged. "tl": it counts within each tensor, as in mergekit; the
paper counts over the whole model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.errors import MergeError
from evomerge.methods.entries import Entries
from evomerge.methods.kernels import Optional, Values, summed
from evomerge.methods.settled import Settled
from evomerge.types import Knob, Method

#: Differences that are not larger count as none. bf16 checkpoints have many that are exactly 0.
EPSILON = Knob("epsilon", default=1e-5, low=1e-7, high=1e-4, scale="log")
BOOST, THRESHOLD = 0, 1  # rows of the kernel's numbers


def ram(entries: Entries, *, epsilon: float = 1e-5) -> Settled:
    """Mean, over the parents whose |difference| exceeds epsilon, of their differences; 0 where none does.

    Raises MergeError for a negative epsilon, as `ramplus_tl` does.
    """
    return _settled((1.0,) * entries.parents, epsilon)


def ramplus_tl(entries: Entries, *, r: float = 0.1, alpha: float = 0.2, epsilon: float = 1e-5) -> Settled:
    """As `ram`, entries that one parent alone has changed times 1 + r min(rho, alpha).

    rho: that parent's number of shared entries over that of its own ones (over epsilon if it has none, as in mergekit).
    """
    return _settled(_boosts(entries, r, alpha, epsilon), epsilon)


def _settled(boosts: tuple[float, ...], epsilon: float) -> Settled:
    if not epsilon >= 0:
        raise MergeError(f"epsilon is {epsilon}; wanted 0 or more: the size above which a difference counts.")
    return Settled(Shared(), (boosts, (epsilon,) * len(boosts)), gain=max(len(boosts), *map(abs, boosts)))


@dataclass(frozen=True)
class Shared:
    """numbers: rows BOOST (factor of what a parent alone has) and THRESHOLD (magnitudes above it count)."""

    random: bool = False

    def __call__(
        self, values: Values, numbers: torch.Tensor, column: Optional, words: Optional, extras: Values
    ) -> torch.Tensor:
        present = [v.abs() > numbers[THRESHOLD, k] for k, v in enumerate(values)]
        count = summed([torch.where(p, 1.0, 0.0) for p in present])
        mean = summed([torch.where(p, v, 0.0) for p, v in zip(present, values, strict=True)]) / count.clamp(min=1.0)
        boost = summed([torch.where(p, numbers[BOOST, k], 0.0) for k, p in enumerate(present)])
        return mean * torch.where(count > 1, 1.0, boost)


def _boosts(entries: Entries, r: float, alpha: float, epsilon: float) -> tuple[float, ...]:
    if r == 0 or alpha <= 0:
        return (1.0,) * entries.parents
    return tuple(1 + r * min(_ratio(shared, own, epsilon), alpha) for shared, own in _latest_counts(entries, epsilon))


def _ratio(shared: int, own: int, epsilon: float) -> float:
    divisor = max(own, epsilon)
    return shared / divisor if divisor > 0 else math.inf if shared else 0.0


def _latest_counts(entries: Entries, epsilon: float) -> Sequence[tuple[int, int]]:
    """The counts of the last epsilon are kept, and no others: a search may ask for any number of them."""
    latest: dict[Any, Any] = entries.joint.setdefault(counts, {})
    if epsilon not in latest:
        latest.clear()
        latest[epsilon] = counts(entries, epsilon)
    return latest[epsilon]  # type: ignore[no-any-return]


def counts(entries: Entries, epsilon: float) -> Sequence[tuple[int, int]]:
    """For each parent how many of its entries exceed epsilon in size in others, too, and how many in it alone."""
    n = entries.parents
    found = [int(count) for count in entries.totals(Counted(), ((epsilon,) * n,), 2 * n)]
    return list(zip(found[:n], found[n:], strict=True))


@dataclass(frozen=True)
class Counted:
    """1 where an entry is shared, P tensors, and 1 where it is a parent's own, P more. numbers: the threshold."""

    random: bool = False

    def __call__(
        self, values: Values, numbers: torch.Tensor, column: Optional, words: Optional, extras: Values
    ) -> list[torch.Tensor]:
        present = [v.abs() > numbers[0, k] for k, v in enumerate(values)]
        several = summed([torch.where(p, 1.0, 0.0) for p in present]) > 1
        return [torch.where(p & s, 1.0, 0.0) for s in (several, ~several) for p in present]


def _method(name: str, settle: Any, *others: Knob, learns: bool) -> Method:
    return Method(
        name=name,
        settle=settle,
        knobs=(*others, EPSILON),
        on="deltas",
        source="Reinforced Agent Merging, 2026, arXiv:2601.13572",
        learns=learns,
    )


RAM = _method("ram", ram, learns=False)
RAMPLUS_TL = _method(
    "ramplus_tl",
    ramplus_tl,
    Knob("r", default=0.1, low=0.0, high=2.0),
    Knob("alpha", default=0.2, low=0.0, high=2.0),
    learns=True,
)
