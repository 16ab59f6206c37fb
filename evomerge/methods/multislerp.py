"""Multi-SLERP: the weighted mean of directions, at the weighted mean length (goddard.blog, "Multi-SLERP").

Its barycentre on the tangent space at the weighted mean is the mean itself, for the tangents' weighted sum vanishes
there: so it is the normalised linear interpolation of unit vectors, computed as that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from evomerge.errors import MergeError
from evomerge.methods import knobs
from evomerge.methods.entries import Entries
from evomerge.methods.gram import NOISE, gram, length
from evomerge.methods.kernels import Sum
from evomerge.methods.settled import Settled
from evomerge.types import Knob, Method

#: Weights whose sum is smaller than this cannot be normalised.
TINY = 1e-8


def settle(
    entries: Entries,
    *,
    weight: float | Sequence[float] = 1.0,
    normalize_weights: bool = True,
    eps: float = 1e-8,
    differences: bool = True,
) -> Settled:
    """m / |m| * sum_k w_k |v_k|, with m = sum_k w_k v_k / (|v_k| + eps).

    normalize_weights: the weights sum to one; their common factor is then without effect, else it scales the result.
    differences: the v are differences from the base. A single parent is returned as it is, whatever its weight. Two
    whose directions cancel are added up by weight. Raises MergeError if more than two do, or for weights that sum to
    zero and are to be normalised; mergekit fails at the first and gives NaN at the second.
    """
    weights = knobs.per_parent("weight", weight, entries.parents)
    if entries.parents == 1:
        return Settled(Sum(), ((1.0,),), gain=1.0)
    shares = normalized(weights) if normalize_weights else weights
    found = _coefficients(entries.once(gram).tolist(), shares, eps)
    return Settled(Sum(), (found,), gain=sum(map(abs, found)))


def normalized(weights: tuple[float, ...]) -> tuple[float, ...]:
    """Weights that sum to one. Raises MergeError for weights that sum to zero."""
    total = sum(weights)
    if abs(total) < TINY:
        raise MergeError(f"the weights {weights} sum to zero, so they are no shares of a mean. Change one.")
    return tuple(w / total for w in weights)


def _coefficients(products: list[list[float]], weights: tuple[float, ...], eps: float) -> tuple[float, ...]:
    lengths = [math.sqrt(row[k]) for k, row in enumerate(products)]
    units = [w / (n + eps) if n else 0.0 for w, n in zip(weights, lengths, strict=True)]  # coefficients of m
    mean, most = length(units, products), sum(abs(u) * n for u, n in zip(units, lengths, strict=True))
    if mean >= max(eps, NOISE) * most > 0:
        factor = sum(w * n for w, n in zip(weights, lengths, strict=True)) / mean
        return tuple(u * factor for u in units)
    if most > 0 and len(weights) > 2:
        raise MergeError(
            f"the directions of {len(weights)} parents cancel at the weights {weights}: they have no mean. "
            "Change a weight."
        )
    return weights


METHOD = Method(
    name="multislerp",
    settle=settle,
    knobs=(
        Knob("weight", default=1.0, per_parent=True),
        Knob("normalize_weights", True, scale="choice", values=(True, False)),
        Knob("eps", default=1e-8, low=1e-10, high=1e-6, scale="log"),
        Knob("differences", True, scale="choice", values=(True, False)),
    ),
    on="either",
    source="Goddard, goddard.blog/posts/multislerp-wow-what-a-cool-idea",
)
