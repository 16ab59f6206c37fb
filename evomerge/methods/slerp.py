"""Slerp: from one parent to the other along the arc between them (Shoemake 1985, doi:10.1145/325334.325242).

Each tensor is one flat vector. As in mergekit, the sine coefficients multiply the tensors themselves rather than
unit vectors, so parents of unequal norm meet neither on a sphere nor at the mean norm.
"""

from __future__ import annotations

import math

from evomerge.methods.entries import Entries
from evomerge.methods.gram import gram
from evomerge.methods.kernels import Sum
from evomerge.methods.settled import Settled
from evomerge.types import Knob, Method

#: Above this |cosine| the arc is as good as straight, and sines would divide by nearly zero.
COLLINEAR = 0.9995
#: A vector this short is not scaled to unit length, so that its cosine with anything is about 0.
TINY = 1e-8
#: Radians: sines of so small an angle are straight lines to the last digit of a float64.
FLAT = 1e-9


def settle(entries: Entries, *, t: float = 0.5) -> Settled:
    """(sin((1-t) omega) theta_0 + sin(t omega) theta_1) / sin omega, omega being the angle between the two tensors.

    t is 0 at the first parent and may lie outside [0, 1]. Nearly parallel and nearly opposite tensors are
    interpolated linearly; a zero tensor counts as orthogonal to all. mergekit puts its base model at t = 0 whatever
    the order: here the caller orders the parents.
    """
    return on_arc(entries.once(angle), t)


def angle(entries: Entries) -> float:
    """omega, in radians; FLAT where the arc is taken for straight."""
    products = entries.once(gram)
    first, second = (math.sqrt(products[k, k]) for k in range(2))
    cosine = products[0, 1] / (first if first > TINY else 1.0) / (second if second > TINY else 1.0)
    return FLAT if abs(cosine) > COLLINEAR else math.acos(cosine)


def on_arc(omega: float, t: float) -> Settled:
    """The point at t between the two ends of an arc of this angle."""
    first, second = (math.sin(part * omega) / math.sin(omega) for part in (1 - t, t))
    return Settled(Sum(), ((first, second),), gain=abs(first) + abs(second))


METHOD = Method(
    name="slerp",
    settle=settle,
    knobs=(Knob("t", default=0.5),),
    on="tensors",
    source="Shoemake 1985, doi:10.1145/325334.325242",
    arity=(2, 2),
)
