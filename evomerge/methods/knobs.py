"""Knobs that several methods share, so that a range is written once, and their values as one number per parent.

The ranges are suggestions for a search, not limits: the maths takes any number and refusing is the decoder's job.
"""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.errors import MergeError
from evomerge.methods.rescale import RESCALES
from evomerge.types import Knob

#: Factor of a parent's delta; a negative one unlearns. The first step is 0.2 in the knob's own units.
WEIGHT = Knob("weight", default=1.0, low=-0.5, high=1.5, per_parent=True, step=0.1)
#: The same where entries are dropped: published settings are positive.
FACTOR = Knob("weight", default=1.0, low=0.0, high=1.2, per_parent=True)
#: Share of a delta's entries that is kept, at most 1.
DENSITY = Knob("density", default=1.0, low=0.05, high=1.0, scale="log", per_parent=True)
#: Factor of the merged delta: lambda in the papers and in mergekit.
SCALE = Knob("scale", default=1.0, low=0.3, high=1.8)


def normalize(default: bool) -> Knob:
    """Whether the weighted sum is divided by the weights' sum."""
    return Knob("normalize", default, scale="choice", values=(False, True))


def rescale(default: str) -> Knob:
    return Knob("rescale", default, scale="choice", values=RESCALES)


def per_parent(name: str, value: float | Sequence[float], n: int) -> tuple[float, ...]:
    """A knob's value as n floats: a plain number means the same for every parent.

    Raises MergeError if there are several numbers and not n.
    """
    if not isinstance(value, Sequence):
        return (float(value),) * n
    if len(value) != n:
        raise MergeError(f"{name} has {len(value)} numbers for {n} parents. Give one number for all, or one for each.")
    return tuple(float(v) for v in value)
