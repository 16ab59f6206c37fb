"""TIES: trim, elect sign, disjoint merge (Yadav et al. 2023, arXiv:2306.01708, Algorithm 1).

As in mergekit and unlike the paper, each tensor is trimmed by itself (the paper trims over the whole model), parents
have weights, and a sum of zero elects plus. Unlike mergekit, equal magnitudes are trimmed by a rule, and the maths is
float32 whatever the checkpoints' dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evomerge.methods import knobs
from evomerge.methods.consensus import disjoint_sum
from evomerge.methods.sparsify import Cut, cut, fixed_factor, l1_factor, rescaled, trim
from evomerge.types import Method, Window


@dataclass(frozen=True)
class Trims:
    """Where each parent's delta is cut, and the factor of what is left: P of each."""

    cuts: tuple[Cut, ...]
    factors: tuple[float, ...]


def prepare(
    deltas: torch.Tensor,
    *,
    window: Window,
    density: float | Sequence[float] = 1.0,
    rescale: str = "none",
    **others: Any,
) -> Trims:
    """The trims of whole tensors, (P, *shape); they depend on no other knob."""
    densities = knobs.per_parent("density", density, len(deltas))
    factors = tuple(fixed_factor(rescale, p) for p in densities)
    cuts = tuple(cut(delta, p) for delta, p in zip(deltas, densities, strict=True))
    if rescale == "l1":
        factors = tuple(l1_factor(*pair) for pair in zip(deltas, trim(deltas, cuts, window), strict=True))
    return Trims(cuts, factors)


def ties(
    deltas: torch.Tensor,
    *,
    window: Window,
    stats: Trims,
    weight: float | Sequence[float] = 1.0,
    density: float | Sequence[float] = 1.0,
    scale: float = 1.0,
    normalize: bool = True,
    rescale: str = "none",
) -> torch.Tensor:
    """scale * (disjoint mean of the trimmed deltas), or their disjoint sum without `normalize`.

    deltas: float32 (P, *slice), parent minus base. Returns the merged delta (*slice). `density` and `rescale` have
    done their work in `stats`. A negative weight turns a parent's vote round. `scale` is lambda in mergekit and in
    the paper, whose densities are 0.2; 1 is mergekit's default.
    """
    weights = knobs.per_parent("weight", weight, len(deltas))
    kept = rescaled(trim(deltas, stats.cuts, window), stats.factors)
    return disjoint_sum(kept, weights, normalize=normalize) * scale


METHOD = Method(
    name="ties",
    fn=ties,
    knobs=(knobs.WEIGHT, knobs.DENSITY, knobs.SCALE, knobs.normalize(True), knobs.rescale("none")),
    on="deltas",
    source="Yadav et al. 2023, arXiv:2306.01708",
    prepare=prepare,
    plain="task_arithmetic",
)
