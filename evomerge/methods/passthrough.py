"""Passthrough: one parent's tensor as it is, or scaled; what stacks of blocks are made of (SOLAR, arXiv:2312.15166)."""

from __future__ import annotations

from evomerge.methods.entries import Entries
from evomerge.methods.kernels import Sum
from evomerge.methods.settled import Settled
from evomerge.types import Knob, Method


def settle(entries: Entries, *, scale: float | None = 1.0) -> Settled:
    """scale * theta; None, mergekit's default, is 1."""
    factor = 1.0 if scale is None else float(scale)
    return Settled(Sum(), ((factor,),), gain=abs(factor))


METHOD = Method(
    name="passthrough",
    settle=settle,
    knobs=(Knob("scale", default=1.0, low=0.0, high=1.2),),
    on="tensors",
    source="Kim et al. 2023, SOLAR 10.7B, arXiv:2312.15166",
    arity=(1, 1),
    learns=False,
)
