"""Arcee Fusion: take only those differences that stand out in importance (mergekit, merge_methods/arcee_fusion.py).

The importance of an entry is the size of its difference times the divergence of its row from the base's. mergekit
estimates its quartiles from a random sample in tensors of more than a million entries; here they are exact, and
divergences, which are small differences of large sums, are in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from evomerge.errors import MergeError
from evomerge.methods.entries import Entries
from evomerge.methods.kernels import Optional, Values
from evomerge.methods.order import size
from evomerge.methods.settled import Settled
from evomerge.types import Knob, Method

#: Added to every probability, as in mergekit.
EPSILON = 1e-8


def settle(entries: Entries, *, iqr_factor: float = 1.5) -> Settled:
    """The differences of importance Q2 + iqr_factor (Q3 - Q1) or more, Q1 to Q3 the quartiles over the tensor.

    mergekit's factor is 1.5. A negative one takes more than half of the entries.
    """
    (first, second, third), (rows,) = entries.each(quartiles)[0], entries.each(divergences)
    threshold = second + iqr_factor * (third - first)
    if len(rows) == 1:
        return Settled(Standing(), ((threshold,), (float(rows),)), gain=1.0)
    return Settled(Standing(), ((threshold,),), gain=1.0, extras=(rows,), width=entries.width)


@dataclass(frozen=True)
class Standing:
    """numbers: the threshold of importance, and the divergence of the only row. extras: else the rows' divergences."""

    random: bool = False

    def __call__(
        self, values: Values, numbers: torch.Tensor, column: Optional, words: Optional, extras: Values
    ) -> torch.Tensor:
        rows = extras[0] if extras else numbers[1, 0]
        return torch.where(importance(values[0], rows) >= numbers[0, 0], values[0], 0.0)


def importance(differences: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """float32, of float32 differences and their rows' divergences."""
    return differences.abs() * rows


def divergences(entries: Entries) -> torch.Tensor:
    """float32 (rows, 1), at least 0: how far the softmax of each of a parent's rows diverges from the base's, in nats.

    Raises MergeError where the base is not known.
    """
    if entries.ground is None:
        raise MergeError("arcee_fusion needs the base's own entries, and there are none. Give the family a base.")
    found = []
    for start, (delta,) in entries.blocks(entries.width):
        ground = entries.ground(start, start + len(delta)).view(-1, entries.width).double()
        base, parent = ground.softmax(-1) + EPSILON, (ground + delta.view_as(ground)).softmax(-1) + EPSILON
        found.append((parent * (parent / base).log()).sum(-1, keepdim=True).clamp(min=0))  # rounding may go below
    return torch.cat(found).float()


def quartiles(entries: Entries) -> tuple[float, float, float]:
    """Of one parent's importance: the entries of rank int(q (n - 1)) from below."""
    last = entries.n - 1
    scores = _scores(entries)
    return (
        size(scores, entries.n - last // 4),
        size(scores, entries.n - last // 2),
        size(scores, entries.n - 3 * last // 4),
    )


def _scores(entries: Entries) -> Entries:
    """One parent's entries by importance; what is learned of them is not kept."""
    (rows,), width = entries.each(divergences), entries.width

    def read(start: int, stop: int, parents: Sequence[int]) -> list[torch.Tensor]:
        places = torch.arange(start, stop, device=entries.device) // width
        return [importance(entries.read(start, stop, parents)[0], rows.view(-1)[places])]

    return Entries(entries.shape, read, entries.keys, entries.device, chosen=entries.chosen)


METHOD = Method(
    name="arcee_fusion",
    settle=settle,
    knobs=(Knob("iqr_factor", default=1.5, low=0.0, high=3.0),),
    on="deltas",
    source="arcee-ai/mergekit, merge_methods/arcee_fusion.py",
    arity=(1, 1),
)
