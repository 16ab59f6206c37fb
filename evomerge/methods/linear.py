"""Linear: the weighted average of the parents (Wortsman et al. 2022, Model soups, arXiv:2203.05482, Section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from evomerge.methods import knobs
from evomerge.methods.consensus import weighted_sum
from evomerge.types import Method, Window


def linear(
    tensors: torch.Tensor,
    *,
    window: Window,
    stats: Any,
    weight: float | Sequence[float] = 1.0,
    normalize: bool = True,
) -> torch.Tensor:
    """sum_k w_k theta_k, divided by sum_k w_k with `normalize`. tensors: float32 (P, *slice). Returns (*slice).

    Weights that sum to zero then give inf and nan, as in mergekit: they must be refused where they are chosen.
    Accumulates in float32 in parent order, as mergekit 0.1.5 does. The paper's soups have equal weights.
    """
    weights = knobs.per_parent("weight", weight, len(tensors))
    total = weighted_sum(tensors, weights)
    return total / sum(weights) if normalize else total


METHOD = Method(
    name="linear",
    fn=linear,
    knobs=(replace(knobs.WEIGHT, low=0.0, high=1.0, step=0.2), knobs.normalize(True)),
    on="tensors",
    source="Wortsman et al. 2022, arXiv:2203.05482",
)
