"""How one gene in [0, 1] maps onto a place of a knob's range, the place onto a value, and back."""

from __future__ import annotations

import math
from typing import Any

from evomerge.problem import gene_of, level_of
from evomerge.types import Knob

#: How far from a level, in steps from one to the next, a value may lie and still be that level.
ON_GRID = 1e-6


def place(gene: float, levels: int = 0) -> float:
    """Where on its range a gene lies, 0 to 1; with `levels`, at its level's of as many even places, ends included."""
    return level_of(gene, levels) / (levels - 1) if levels else min(max(gene, 0.0), 1.0)


def gene_at(place: float, levels: int = 0) -> float | None:
    """The gene of a place in [0, 1], with `levels` the middle of a level's interval; None between the levels."""
    if not levels:
        return place
    level = round(place * (levels - 1))
    return gene_of(level, levels) if abs(place * (levels - 1) - level) < ON_GRID else None


def nearest(place: float, levels: int = 0) -> float:
    """The gene of a place, or with `levels` of the level that is nearest to it."""
    return gene_of(round(place * (levels - 1)), levels) if levels else place


def value(knob: Knob, place: float) -> float | bool | str:
    """The knob's value at a place of its range; places outside [0, 1] are clipped."""
    place = min(max(place, 0.0), 1.0)
    if knob.scale == "choice":
        return knob.values[level_of(place, len(knob.values))]
    if knob.scale == "log":
        return float(knob.low * (knob.high / knob.low) ** place)
    return knob.low + place * (knob.high - knob.low)


def gene(knob: Knob, value: Any) -> float:
    """The place of a value: of a choice the middle of its interval. Values outside the range are clipped."""
    if knob.scale == "choice":
        return gene_of(knob.values.index(value), len(knob.values))
    clipped = min(max(float(value), knob.low), knob.high)
    if knob.scale == "log":
        return math.log(clipped / knob.low) / math.log(knob.high / knob.low)
    return (clipped - knob.low) / (knob.high - knob.low)


def within(knob: Knob, value: Any) -> bool:
    """Whether the knob's range has the value, up to rounding."""
    if knob.scale == "choice":
        return value in knob.values
    return knob.low - 1e-9 <= float(value) <= knob.high + 1e-9
