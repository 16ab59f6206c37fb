"""Task arithmetic: add the parents' differences from their base (Ilharco et al. 2022, arXiv:2212.04089, Section 2)."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.methods import knobs
from evomerge.methods.entries import Entries
from evomerge.methods.kernels import Sum
from evomerge.methods.settled import Settled
from evomerge.types import Method

#: Weights whose sum is smaller than this are not normalised.
TINY = 1e-8


def divisor(weights: Sequence[float], normalize: bool) -> float:
    """What a weighted sum is divided by: the weights' sum, or 1 if that is next to nothing, as in mergekit."""
    total = sum(weights) if normalize else 1.0
    return total if abs(total) >= TINY else 1.0


def settle(
    entries: Entries, *, weight: float | Sequence[float] = 1.0, scale: float = 1.0, normalize: bool = False
) -> Settled:
    """scale * sum_k w_k tau_k, divided by sum_k w_k with `normalize`.

    `scale` is lambda in the paper, where all weights are 1, and in mergekit, which computes in the checkpoints' dtype.
    """
    weights = knobs.per_parent("weight", weight, entries.parents)
    factor = scale / divisor(weights, normalize)
    shares = tuple(factor * w for w in weights)
    return Settled(Sum(), (shares,), gain=sum(map(abs, shares)))


METHOD = Method(
    name="task_arithmetic",
    settle=settle,
    knobs=(knobs.WEIGHT, knobs.SCALE, knobs.normalize(False)),
    on="deltas",
    source="Ilharco et al. 2022, arXiv:2212.04089",
    learns=False,
)
