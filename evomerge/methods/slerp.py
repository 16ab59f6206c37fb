"""Slerp: from one parent to the other along the arc between them (Shoemake 1985, doi:10.1145/325334.325242).

Each tensor is one flat vector. As in mergekit, the sine coefficients multiply the tensors themselves rather than
unit vectors, so parents of unequal norm meet neither on a sphere nor at the mean norm.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from evomerge.types import Knob, Method, Window

#: Above this |cosine| the arc is as good as straight, and sines would divide by nearly zero.
COLLINEAR = 0.9995
#: A vector this short is not scaled to unit length, so that its cosine with anything is about 0.
TINY = 1e-8
#: Entries turned to float64 at a time.
CHUNK = 1 << 22


def cosine(tensors: torch.Tensor, *, window: Window, **knobs: Any) -> float:
    """Cosine of the two whole tensors, (2, *shape), in float64; mergekit computes it in float32."""
    first, second = (tensor.flatten() for tensor in tensors)
    pairs = zip(first.split(CHUNK), second.split(CHUNK), strict=True)
    dot = sum(torch.dot(a.double(), b.double()).item() for a, b in pairs)
    for tensor in (first, second):
        norm = torch.linalg.vector_norm(tensor, dtype=torch.float64).item()
        dot /= norm if norm > TINY else 1.0
    return dot


def slerp(tensors: torch.Tensor, *, window: Window, stats: float, t: float = 0.5) -> torch.Tensor:
    """(sin((1-t) omega) theta_0 + sin(t omega) theta_1) / sin omega, with cos omega = `stats`. tensors: (2, *slice).

    t is 0 at the first parent and may lie outside [0, 1]. Nearly parallel and nearly opposite tensors are
    interpolated linearly; a zero tensor counts as orthogonal to all. mergekit puts its base model at t = 0 whatever
    the order: here the caller orders the parents.
    """
    first, second = tensors
    if abs(stats) > COLLINEAR:
        return first * (1 - t) + second * t
    omega = math.acos(stats)
    return first * (math.sin((1 - t) * omega) / math.sin(omega)) + second * (math.sin(t * omega) / math.sin(omega))


METHOD = Method(
    name="slerp",
    fn=slerp,
    knobs=(Knob("t", default=0.5),),
    on="tensors",
    source="Shoemake 1985, doi:10.1145/325334.325242",
    arity=(2, 2),
    prepare=cosine,
)
