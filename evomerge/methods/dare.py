"""DARE: drop entries of the deltas at random and rescale the rest (Yu et al. 2023, arXiv:2311.03099).

The survivors then go through task arithmetic (dare_linear) or the sign election of TIES (dare_ties). Unlike mergekit,
whose only rescaling restores each tensor's L1 norm ("l1" here), the default divides by the density as the paper does
and is unbiased. Masks come from the window and not from a global generator: they are the same for every candidate,
nested in density, and independent of the order in which tensors are visited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from evomerge.methods import knobs
from evomerge.methods.consensus import disjoint_sum
from evomerge.methods.sparsify import drop, fixed_factor, l1_factor, rescaled
from evomerge.methods.task_arithmetic import task_arithmetic
from evomerge.types import Method, Window


def prepare(
    deltas: torch.Tensor,
    *,
    window: Window,
    density: float | Sequence[float] = 1.0,
    rescale: str = "inv_p",
    **others: Any,
) -> tuple[float, ...]:
    """Factor of each parent's survivors, from whole tensors (P, *shape); only "l1" looks at them."""
    densities = knobs.per_parent("density", density, len(deltas))
    if rescale == "l1":
        return tuple(l1_factor(*pair) for pair in zip(deltas, drop(deltas, densities, window), strict=True))
    return tuple(fixed_factor(rescale, p) for p in densities)


def _survivors(
    deltas: torch.Tensor, density: float | Sequence[float], factors: Sequence[float], window: Window
) -> list[torch.Tensor]:
    densities = knobs.per_parent("density", density, len(deltas))
    return rescaled(drop(deltas, densities, window), factors)


def dare_linear(
    deltas: torch.Tensor,
    *,
    window: Window,
    stats: Sequence[float],
    weight: float | Sequence[float] = 1.0,
    density: float | Sequence[float] = 1.0,
    scale: float = 1.0,
    normalize: bool = False,
    rescale: str = "inv_p",
) -> torch.Tensor:
    """Task arithmetic of the survivors. deltas: float32 (P, *slice), parent minus base. Returns (*slice).

    density: share kept (the paper's 1 - p). `rescale` has done its work in `stats`; `scale` is lambda in mergekit.
    """
    kept = _survivors(deltas, density, stats, window)
    return task_arithmetic(kept, window=window, stats=None, weight=weight, scale=scale, normalize=normalize)


def dare_ties(
    deltas: torch.Tensor,
    *,
    window: Window,
    stats: Sequence[float],
    weight: float | Sequence[float] = 1.0,
    density: float | Sequence[float] = 1.0,
    scale: float = 1.0,
    normalize: bool = False,
    rescale: str = "inv_p",
) -> torch.Tensor:
    """Sum (mean with `normalize`) of the survivors that have the elected sign; else as dare_linear.

    mergekit's default is the sum, too; the paper's TIES takes the mean.
    """
    kept = _survivors(deltas, density, stats, window)
    weights = knobs.per_parent("weight", weight, len(deltas))
    return disjoint_sum(kept, weights, normalize=normalize) * scale


def _method(name: str, fn: Any) -> Method:
    return Method(
        name=name,
        fn=fn,
        knobs=(knobs.WEIGHT, knobs.DENSITY, knobs.SCALE, knobs.normalize(False), knobs.rescale("inv_p")),
        on="deltas",
        source="Yu et al. 2023, arXiv:2311.03099",
        prepare=prepare,
        plain="task_arithmetic",
    )


DARE_LINEAR = _method("dare_linear", dare_linear)
DARE_TIES = _method("dare_ties", dare_ties)
