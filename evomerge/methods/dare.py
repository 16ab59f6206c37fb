"""DARE: drop entries of the differences at random and rescale the rest (Yu et al. 2023, arXiv:2311.03099).

The survivors then go through task arithmetic (dare_linear) or the sign election of TIES (dare_ties). Unlike mergekit,
whose only rescaling restores each tensor's L1 norm ("l1" here), the default divides by the density as the paper does
and is unbiased. Masks are the same for every candidate, nested in density, and independent of the order in which
tensors are visited. With "l1" tensors of 65,536 entries and more round their density to 1/4096 (see `drawn`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evomerge.methods import knobs
from evomerge.methods.drawn import LARGE, level, norms
from evomerge.methods.entries import Entries
from evomerge.methods.kernels import Consensus
from evomerge.methods.masks import below
from evomerge.methods.rescale import fixed_factor, l1_factor
from evomerge.methods.settled import Settled
from evomerge.methods.task_arithmetic import divisor
from evomerge.types import Method


def dare_linear(
    entries: Entries,
    *,
    weight: float | Sequence[float] = 1.0,
    density: float | Sequence[float] = 1.0,
    scale: float = 1.0,
    normalize: bool = False,
    rescale: str = "inv_p",
) -> Settled:
    """Task arithmetic of the survivors. density: share kept (the paper's 1 - p). `scale` is lambda in mergekit."""
    weights = knobs.per_parent("weight", weight, entries.parents)
    scale /= divisor(weights, normalize)
    return _settled(entries, Consensus("random"), weights, density, scale, rescale)


def dare_ties(
    entries: Entries,
    *,
    weight: float | Sequence[float] = 1.0,
    density: float | Sequence[float] = 1.0,
    scale: float = 1.0,
    normalize: bool = False,
    rescale: str = "inv_p",
) -> Settled:
    """Sum (mean with `normalize`) of the survivors that have the elected sign; else as dare_linear.

    mergekit's default is the sum, too; the paper's TIES takes the mean.
    """
    weights = knobs.per_parent("weight", weight, entries.parents)
    return _settled(entries, Consensus("random", elect=True, normalize=normalize), weights, density, scale, rescale)


def _settled(
    entries: Entries, kernel: Consensus, weights: tuple[float, ...], density: Any, scale: float, rescale: str
) -> Settled:
    densities = knobs.per_parent("density", density, entries.parents)
    if rescale == "l1" and entries.n >= LARGE:
        densities = tuple(map(level, densities))
    factors = _factors(entries, densities, rescale)
    coefficients = tuple(w * f for w, f in zip(weights, factors, strict=True))
    words = tuple(below(p) for p in densities)
    numbers = (coefficients, weights, (scale,) * entries.parents, words)
    return Settled(kernel, numbers, gain=gain(kernel, coefficients, weights, scale))


def gain(kernel: Consensus, coefficients: Sequence[float], weights: Sequence[float], scale: float) -> float:
    """See Settled. A mean of agreeing entries is bounded by the largest of them, unless a weight is negative.

    Before they are scaled and divided, entries are added up.
    """
    total = sum(map(abs, coefficients))
    if not kernel.normalize:
        return max(1.0, abs(scale)) * total
    if min(weights) < 0:
        return float("inf")
    mean = max((abs(c) / w for c, w in zip(coefficients, weights, strict=True) if w > 0), default=0.0)
    return max(total, abs(scale) * mean, mean)


def _factors(entries: Entries, densities: Sequence[float], rescale: str) -> tuple[float, ...]:
    """Factor of each parent's survivors; only "l1" looks at them."""
    factors = tuple(fixed_factor(rescale, p) for p in densities)
    if rescale != "l1" or all(p >= 1 or p <= 0 for p in densities):
        return factors
    return tuple(l1_factor(*pair) for pair in norms(entries, densities))


def _method(name: str, settle: Any) -> Method:
    return Method(
        name=name,
        settle=settle,
        knobs=(knobs.FACTOR, knobs.DENSITY, knobs.SCALE, knobs.normalize(False), knobs.rescale("inv_p")),
        on="deltas",
        source="Yu et al. 2023, arXiv:2311.03099",
        plain="task_arithmetic",
    )


DARE_LINEAR = _method("dare_linear", dare_linear)
DARE_TIES = _method("dare_ties", dare_ties)
