"""NuSLERP: slerp of two parents or of their differences, as whole tensors, by row or by column (mergekit's nuslerp).

The arc is that of Shoemake 1985, doi:10.1145/325334.325242. Fine-tunes of one base are nearly parallel, and their arc a
straight line; their differences are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from evomerge.methods import knobs
from evomerge.methods.entries import Entries
from evomerge.methods.gram import column_grams, gram, row_grams
from evomerge.methods.kernels import Sum
from evomerge.methods.settled import Settled
from evomerge.methods.slerp import FLAT, on_arc
from evomerge.types import Knob, Method

#: Weights whose sum is smaller than this meet halfway.
BALANCED = 1e-6
#: Norms count as no smaller than this.
SHORT = 1e-7
#: sin^2 of vectors that are collinear: below it, their cosine in float32, where mergekit decides, is exactly 1 or -1.
STRAIGHT = 2.0**-24


def settle(
    entries: Entries,
    *,
    weight: float | Sequence[float] = 1.0,
    nuslerp_flatten: bool = True,
    nuslerp_row_wise: bool = False,
    differences: bool = True,
) -> Settled:
    """Slerp from the first parent to the second at t = w_1 / (w_0 + w_1). Only the weights' ratio matters.

    nuslerp_flatten: a tensor is one vector. Else there are many, along the last dimension, or along the first with
    nuslerp_row_wise: mergekit's name for what are the columns of a weight (out, in). A tensor of one dimension is one
    vector. differences: what lies on the arc are differences from the base. Collinear vectors are interpolated
    linearly, as in mergekit in float32; nearly opposite ones are as ill-conditioned as there.
    """
    t = _share(knobs.per_parent("weight", weight, entries.parents))
    if nuslerp_flatten or len(entries.shape) < 2:
        return on_arc(entries.once(angle), t)
    omega = entries.once(column_angles if nuslerp_row_wise else row_angles)
    each = (torch.stack([(1 - t) * omega, t * omega]).sin() / omega.sin()).float()  # (2, vectors)
    extras = tuple(each.unsqueeze(1 if nuslerp_row_wise else 2).unbind())
    width = entries.n // entries.shape[0] if nuslerp_row_wise else entries.width
    return Settled(Sum(), (), gain=float(each.abs().sum(0).max()), extras=extras, width=width)


def _share(weights: Sequence[float]) -> float:
    total = sum(weights)
    return 0.5 if abs(total) < BALANCED else weights[1] / total


def angle(entries: Entries) -> float:
    """Between the whole tensors, in radians; FLAT if they are collinear, as in the other facts here."""
    return float(_angles(torch.from_numpy(entries.once(gram))))


def row_angles(entries: Entries) -> torch.Tensor:
    """float64 (rows,)"""
    return _angles(row_grams(entries))


def column_angles(entries: Entries) -> torch.Tensor:
    """float64 (columns,)"""
    return _angles(column_grams(entries))


def _angles(products: torch.Tensor) -> torch.Tensor:
    """float64 (...) of inner products (..., 2, 2)"""
    lengths = products.diagonal(dim1=-2, dim2=-1).sqrt().clamp(min=SHORT)
    cosine = (products[..., 0, 1] / lengths.prod(-1)).clamp(-1, 1)
    return torch.where(1 - cosine.square() <= STRAIGHT, FLAT, cosine.acos())


METHOD = Method(
    name="nuslerp",
    settle=settle,
    knobs=(
        Knob("weight", default=1.0, per_parent=True),
        Knob("nuslerp_flatten", True, scale="choice", values=(True, False)),
        Knob("nuslerp_row_wise", False, scale="choice", values=(False, True)),
        Knob("differences", True, scale="choice", values=(True, False)),
    ),
    on="either",
    source="mergekit 0.1.5; Shoemake 1985, doi:10.1145/325334.325242",
    arity=(2, 2),
)
