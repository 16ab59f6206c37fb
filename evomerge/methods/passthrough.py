"""Passthrough: one parent's tensor as it is, or scaled; what stacks of blocks are made of (SOLAR, arXiv:2312.15166)."""

from __future__ import annotations

from typing import Any

import torch

from evomerge.methods.knobs import SCALE
from evomerge.types import Method, Window


def passthrough(tensors: torch.Tensor, *, window: Window, stats: Any, scale: float | None = 1.0) -> torch.Tensor:
    """scale * theta. tensors: float32 (1, *slice). Returns (*slice), a new tensor. None, mergekit's default, is 1."""
    (tensor,) = tensors
    return tensor * (1.0 if scale is None else scale)


METHOD = Method(
    name="passthrough",
    fn=passthrough,
    knobs=(SCALE,),
    on="tensors",
    source="Kim et al. 2023, SOLAR 10.7B, arXiv:2312.15166",
    arity=(1, 1),
)
