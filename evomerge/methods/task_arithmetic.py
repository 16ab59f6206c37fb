"""Task arithmetic: add the parents' differences from their base (Ilharco et al. 2022, arXiv:2212.04089, Section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from evomerge.methods import knobs
from evomerge.methods.consensus import weighted_sum
from evomerge.types import Method, Window

#: Weights whose sum is smaller than this are not normalised.
TINY = 1e-8


def task_arithmetic(
    deltas: Sequence[torch.Tensor],
    *,
    window: Window,
    stats: Any,
    weight: float | Sequence[float] = 1.0,
    scale: float = 1.0,
    normalize: bool = False,
) -> torch.Tensor:
    """scale * sum_k w_k tau_k, divided by sum_k w_k with `normalize`. deltas: float32 (P, *slice), parent minus base.

    Returns the merged delta (*slice). `scale` is lambda in the paper, where all weights are 1, and in mergekit.
    mergekit computes in the checkpoints' dtype, this in float32.
    """
    weights = knobs.per_parent("weight", weight, len(deltas))
    divisor = sum(weights) if normalize else 1.0
    if abs(divisor) < TINY:
        divisor = 1.0
    return weighted_sum(deltas, [scale * w / divisor for w in weights])


METHOD = Method(
    name="task_arithmetic",
    fn=task_arithmetic,
    knobs=(knobs.WEIGHT, knobs.SCALE, knobs.normalize(False)),
    on="deltas",
    source="Ilharco et al. 2022, arXiv:2212.04089",
)
