"""NearSwap: move every entry of the base towards the parent, by no more than a step (mergekit, after alchemonaut)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from evomerge.errors import MergeError
from evomerge.methods.entries import Entries
from evomerge.methods.kernels import Optional, Values
from evomerge.methods.order import size
from evomerge.methods.settled import Settled
from evomerge.types import Knob, Method


@dataclass(frozen=True)
class Clip:
    """The difference, at most a step in size. numbers: the step."""

    random: bool = False

    def __call__(
        self, values: Values, numbers: torch.Tensor, column: Optional, words: Optional, extras: Values
    ) -> torch.Tensor:
        (value,) = values
        return torch.minimum(torch.maximum(value, -numbers[0, 0]), numbers[0, 0])


def settle(entries: Entries, *, t_quantile: float = 0.5, t: float | None = None) -> Settled:
    """Differences clipped to [-t, t]. t: an absolute step as in mergekit, which counts if it is given.

    t_quantile: else t is this quantile of the tensor's |differences|, of n entries the one of rank int(q (n - 1)) from
    below; 1 gives the parent. mergekit weighs differences below 1e-6 as if they were as large: only where t is smaller
    still does that change anything. Raises MergeError for a negative t and quantiles outside [0, 1].
    """
    if t is None:
        t = _quantile(entries, t_quantile)
    if not t >= 0:
        raise MergeError(f"t is {t}; wanted a step of 0 or more.")
    return Settled(Clip(), ((float(t),),), gain=1.0)


def _quantile(entries: Entries, q: float) -> float:
    if not 0 <= q <= 1:
        raise MergeError(f"t_quantile is {q}; wanted a share of the entries, from 0 to 1.")
    return size(entries, entries.n - int(q * (entries.n - 1)))


METHOD = Method(
    name="nearswap",
    settle=settle,
    knobs=(Knob("t_quantile", default=0.5), Knob("t", default=None, high=1e-2)),
    on="deltas",
    source="arcee-ai/mergekit, merge_methods/nearswap.py",
    arity=(1, 1),
)
