"""DELLA: drop entries at random, small ones of a row more often, and rescale (Deep et al. 2024, arXiv:2406.11617).

The survivors then go through task arithmetic (della_linear) or the sign election of TIES (della). Unlike mergekit,
whose only rescaling restores each tensor's L1 norm ("l1" here), the default divides each survivor by its own
probability as the paper's code does and is unbiased. The window of probabilities is given as a share of the widest one
that the density allows, `epsilon_frac`, so that any value suits any density; mergekit's epsilon is absolute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from evomerge.errors import MergeError
from evomerge.methods import knobs
from evomerge.methods.dare import gain
from evomerge.methods.drawn import Kept, limit, mass
from evomerge.methods.entries import Entries
from evomerge.methods.kernels import HALF, Consensus
from evomerge.methods.masks import END
from evomerge.methods.ranks import ranks
from evomerge.methods.rescale import fixed_factor, l1_factor
from evomerge.methods.settled import Settled
from evomerge.methods.task_arithmetic import divisor
from evomerge.types import Knob, Method

#: Half the width of the window of probabilities, as a share of the distance from the density to 0 or 1.
EPSILON = Knob("epsilon_frac", default=0.5, low=0.0, high=0.95, per_parent=True)
#: Words are rounded to steps that are so large in probability.
STEP = 2.0**-24


def della(
    entries: Entries,
    *,
    weight: float | Sequence[float] = 1.0,
    density: float | Sequence[float] = 1.0,
    epsilon_frac: float | Sequence[float] = 0.5,
    scale: float = 1.0,
    normalize: bool = True,
    rescale: str = "inv_p",
) -> Settled:
    """Mean (sum without `normalize`) of the survivors that have the elected sign; else as della_linear."""
    weights = knobs.per_parent("weight", weight, entries.parents)
    return _settled(entries, weights, density, epsilon_frac, scale, rescale, elect=True, normalize=normalize)


def della_linear(
    entries: Entries,
    *,
    weight: float | Sequence[float] = 1.0,
    density: float | Sequence[float] = 1.0,
    epsilon_frac: float | Sequence[float] = 0.5,
    scale: float = 1.0,
    normalize: bool = False,
    rescale: str = "inv_p",
) -> Settled:
    """Task arithmetic of the survivors. `scale` is lambda in mergekit.

    An entry of rank r, 0 to w - 1 in its row of w, is kept with probability density - eps + 2 eps r / (w - 1), where
    eps = epsilon_frac * min(density, 1 - density); all with probability `density` in rows of one entry, where mergekit
    fails. A density of 1 or more keeps all, of 0 or less none. Raises MergeError for an epsilon_frac outside [0, 1).
    """
    weights = knobs.per_parent("weight", weight, entries.parents)
    scale /= divisor(weights, normalize)
    return _settled(entries, weights, density, epsilon_frac, scale, rescale, elect=False, normalize=False)


def _settled(
    entries: Entries,
    weights: tuple[float, ...],
    density: Any,
    epsilon_frac: Any,
    scale: float,
    rescale: str,
    *,
    elect: bool,
    normalize: bool,
) -> Settled:
    kernel = Consensus("ranked", inverse=rescale == "inv_p", elect=elect, normalize=normalize)
    limits = limits_of(entries, density, epsilon_frac)
    factors = _factors(entries, limits, rescale)
    coefficients = tuple(w * f for w, f in zip(weights, factors, strict=True))
    numbers = (coefficients, weights, (scale,) * entries.parents, *limits)
    least = [_least_probability(limit) if kernel.inverse else 1.0 for limit in limits[0]]
    bounds = tuple(c / p for c, p in zip(coefficients, least, strict=True))
    return Settled(kernel, numbers, gain(kernel, bounds, weights, scale), entries.each(ranks), entries.width)


# ---------------------------------------------------------------- probabilities


def limits_of(entries: Entries, density: Any, epsilon_frac: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per parent the word below which an entry of rank 0 is kept, and by how much that rises with each rank."""
    densities = knobs.per_parent("density", density, entries.parents)
    fractions = knobs.per_parent("epsilon_frac", epsilon_frac, entries.parents)
    windows = [_window(*pair) for pair in zip(densities, fractions, strict=True)]
    if entries.width == 1:
        windows = [(p, p) for p in densities]
    rises = tuple(2 * END * (high - low) / max(1, entries.width - 1) for low, high in windows)
    return tuple((2 * min(max(low, 0.0), 1.0) - 1) * END for low, _ in windows), rises


def _window(density: float, fraction: float) -> tuple[float, float]:
    """The probabilities of the smallest and of the largest entry."""
    if not 0 <= fraction < 1:
        raise MergeError(
            f"epsilon_frac is {fraction}, and must be at least 0 and less than 1: else density - epsilon would be "
            f"0 or less, or density + epsilon 1 or more. Choose it in this range."
        )
    epsilon = fraction * max(0.0, min(density, 1 - density))
    return density - epsilon, density + epsilon


def keep_probabilities(
    entries: Entries, density: float | Sequence[float], epsilon_frac: float | Sequence[float]
) -> torch.Tensor:
    """float32 (P, *shape): with what probability each parent's entries are kept, as the kernel has it."""
    limits = torch.tensor(limits_of(entries, density, epsilon_frac), device=entries.device)
    found = [limit(limits[:, k], rank) for k, rank in enumerate(entries.each(ranks))]
    return torch.stack([(word * HALF + 0.5).clamp(0, 1).view(entries.shape) for word in found])


def _least_probability(limit: float) -> float:
    """Of an entry that is kept, by the limit of rank 0: words and limits are rounded."""
    return 1.0 if abs(limit) >= END else max(limit * HALF + 0.5 - STEP, STEP / 2)


# ---------------------------------------------------------------- rescaling


def _factors(entries: Entries, limits: tuple[tuple[float, ...], ...], rescale: str) -> tuple[float, ...]:
    """Factor of each parent's survivors; only "l1" looks at them: one pass over the tensor."""
    fixed = fixed_factor(rescale, 1.0)
    if rescale != "l1" or all(abs(limit) >= END for limit in limits[0]):
        return (fixed,) * entries.parents
    before = entries.each(mass)
    after = entries.totals(Kept(), limits, entries.parents, entries.each(ranks))
    return tuple(l1_factor(*pair) for pair in zip(before, after, strict=True))


def _method(name: str, settle: Any, normalize: bool) -> Method:
    return Method(
        name=name,
        settle=settle,
        knobs=(knobs.FACTOR, knobs.DENSITY, EPSILON, knobs.SCALE, knobs.normalize(normalize), knobs.rescale("inv_p")),
        on="deltas",
        source="Deep et al. 2024, arXiv:2406.11617",
        plain="task_arithmetic",
        keeps=4,
    )


DELLA = _method("della", della, True)
DELLA_LINEAR = _method("della_linear", della_linear, False)
