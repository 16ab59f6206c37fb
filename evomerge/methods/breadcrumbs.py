"""Model Breadcrumbs: drop the largest and the smallest differences (Davari & Belilovsky 2023, arXiv:2312.06795).

The rest goes through task arithmetic (breadcrumbs) or the sign election of TIES (breadcrumbs_ties). As in mergekit
both shares are of a tensor; the paper ranks within layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evomerge.errors import MergeError
from evomerge.methods import knobs
from evomerge.methods.dare import gain
from evomerge.methods.entries import Entries
from evomerge.methods.kernels import Consensus
from evomerge.methods.order import Cut, largest, mass
from evomerge.methods.rescale import fixed_factor, l1_factor
from evomerge.methods.settled import Settled
from evomerge.methods.task_arithmetic import divisor
from evomerge.types import Knob, Method


def breadcrumbs(
    entries: Entries,
    *,
    weight: float | Sequence[float] = 1.0,
    density: float | Sequence[float] = 1.0,
    gamma: float | Sequence[float] = 0.01,
    scale: float = 1.0,
    normalize: bool = False,
    rescale: str = "none",
) -> Settled:
    """Task arithmetic of what is kept: int(density n) entries below the int(gamma n) largest.

    Where fewer than that lie below, fewer of the largest are dropped; a density of 1 or more drops none. `scale` is
    lambda in mergekit. Raises MergeError for a negative gamma.
    """
    weights = knobs.per_parent("weight", weight, entries.parents)
    scale /= divisor(weights, normalize)
    return _settled(entries, Consensus("middle"), weights, density, gamma, scale, rescale)


def breadcrumbs_ties(
    entries: Entries,
    *,
    weight: float | Sequence[float] = 1.0,
    density: float | Sequence[float] = 1.0,
    gamma: float | Sequence[float] = 0.01,
    scale: float = 1.0,
    normalize: bool = False,
    rescale: str = "none",
) -> Settled:
    """Sum (mean with `normalize`) of what is kept and has the elected sign; else as breadcrumbs. mergekit's method."""
    weights = knobs.per_parent("weight", weight, entries.parents)
    kernel = Consensus("middle", elect=True, normalize=normalize)
    return _settled(entries, kernel, weights, density, gamma, scale, rescale)


def _settled(
    entries: Entries,
    kernel: Consensus,
    weights: tuple[float, ...],
    density: Any,
    gamma: Any,
    scale: float,
    rescale: str,
) -> Settled:
    densities = knobs.per_parent("density", density, entries.parents)
    gammas = knobs.per_parent("gamma", gamma, entries.parents)
    middles = [_middle(entries.alone(k), p, g, rescale) for k, (p, g) in enumerate(zip(densities, gammas, strict=True))]
    lower, upper, factors = zip(*middles, strict=True)
    kernel = Consensus("middle", any(c.splits for c in (*lower, *upper)), False, kernel.elect, kernel.normalize)
    coefficients = tuple(w * f for w, f in zip(weights, factors, strict=True))
    rows = [row for cuts in (lower, upper) for row in zip(*(c.numbers for c in cuts), strict=True)]
    numbers = (coefficients, weights, (scale,) * entries.parents, *rows)
    return Settled(kernel, numbers, gain=gain(kernel, coefficients, weights, scale))


def _middle(entries: Entries, density: float, gamma: float, rescale: str) -> tuple[Cut, Cut, float]:
    """The cut that the entries kept of one parent reach, the one that they do not reach, and their factor."""
    reach, dropped = bounds(density, gamma, entries.n)
    factor = fixed_factor(rescale, density)
    if rescale == "l1" and 0 < reach - dropped < entries.n:
        factor = l1_factor(mass(entries, entries.n), mass(entries, reach) - mass(entries, dropped))
    return largest(entries, reach), largest(entries, dropped), factor


def bounds(density: float, gamma: float, n: int) -> tuple[int, int]:
    """(a, b): of the a largest of n entries the b largest are dropped. Raises MergeError for a negative gamma."""
    if gamma < 0:
        raise MergeError(f"gamma is {gamma}; wanted the share of the largest entries to drop, 0 or more.")
    keep = n if density >= 1 else max(0, int(density * n))
    dropped = min(int(gamma * n), n - keep)
    return keep + dropped, dropped


def _method(name: str, settle: Any) -> Method:
    return Method(
        name=name,
        settle=settle,
        knobs=(
            knobs.FACTOR,
            Knob("density", default=1.0, low=0.1, high=1.0, scale="log", per_parent=True),
            Knob("gamma", default=0.01, low=0.0001, high=0.05, scale="log", per_parent=True),
            knobs.SCALE,
            knobs.normalize(False),
            knobs.rescale("none"),
        ),
        on="deltas",
        source="Davari & Belilovsky 2023, arXiv:2312.06795",
    )


BREADCRUMBS = _method("breadcrumbs", breadcrumbs)
BREADCRUMBS_TIES = _method("breadcrumbs_ties", breadcrumbs_ties)
