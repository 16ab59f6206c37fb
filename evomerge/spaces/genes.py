"""How one gene in [0, 1] maps onto a knob's range, and back."""

from __future__ import annotations

import math
from typing import Any

from evomerge.types import Knob


def value(knob: Knob, gene: float) -> float | bool | str:
    """The knob's value at a gene; genes outside [0, 1] are clipped."""
    gene = min(max(gene, 0.0), 1.0)
    if knob.scale == "choice":
        return knob.values[min(int(gene * len(knob.values)), len(knob.values) - 1)]
    if knob.scale == "log":
        return knob.low * (knob.high / knob.low) ** gene
    return knob.low + gene * (knob.high - knob.low)


def gene(knob: Knob, value: Any) -> float:
    """The gene of a value; a choice's gene is the middle of its interval. Values outside the range are clipped."""
    if knob.scale == "choice":
        return (knob.values.index(value) + 0.5) / len(knob.values)
    clipped = min(max(float(value), knob.low), knob.high)
    if knob.scale == "log":
        return math.log(clipped / knob.low) / math.log(knob.high / knob.low)
    return (clipped - knob.low) / (knob.high - knob.low)


def within(knob: Knob, value: Any) -> bool:
    """Whether the knob's range has the value, up to rounding."""
    if knob.scale == "choice":
        return value in knob.values
    return knob.low - 1e-9 <= float(value) <= knob.high + 1e-9
