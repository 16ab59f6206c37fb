"""Karcher mean: the point of the sphere nearest to all parents' directions along arcs, at their mean length.

The iteration is the classical one (Karcher 1977, doi:10.1002/cpa.3160300502) as mergekit runs it, but on coefficients:
every point that it visits is a sum of the parents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from evomerge.errors import MergeError
from evomerge.methods import knobs
from evomerge.methods.entries import Entries
from evomerge.methods.gram import NOISE, dots, gram, length
from evomerge.methods.kernels import Sum
from evomerge.methods.multislerp import normalized
from evomerge.methods.settled import Settled
from evomerge.types import Knob, Method


def settle(
    entries: Entries, *, weight: float | Sequence[float] = 1.0, max_iter: float = 10, tol: float = 1e-5
) -> Settled:
    """The mean direction times sum_k a_k |theta_k|, with a_k = w_k / sum_k w_k.

    Equal weights are mergekit's mean, which knows no others; only their ratios matter. max_iter, rounded, bounds the
    steps; one shorter than tol is the last. Parents no longer than tol lend their length alone. Where the directions
    cancel, the search for the mean begins at the first. Raises MergeError for a negative weight, or if all are zero.
    """
    weights = knobs.per_parent("weight", weight, entries.parents)
    if min(weights) < 0:
        raise MergeError(f"karcher has the weights {weights}; wanted none below 0, for then there may be no mean.")
    shares = normalized(weights)
    lengths, cosines = entries.once(directions)
    heard = [k for k, n in enumerate(lengths) if n > tol and shares[k] > 0]
    found = [0.0] * len(shares)
    if heard:
        total = sum(shares[k] for k in heard)
        among = [[cosines[j][k] for k in heard] for j in heard]
        mean = _mean(among, [shares[k] / total for k in heard], round(max_iter), tol)
        size = sum(a * n for a, n in zip(shares, lengths, strict=True))
        for k, m in zip(heard, mean, strict=True):
            found[k] = m * size / lengths[k]
    return Settled(Sum(), (tuple(found),), gain=sum(map(abs, found)))


def directions(entries: Entries) -> tuple[list[float], list[list[float]]]:
    """Lengths (P,) of the whole tensors and the cosines (P, P) between them; 0 where one has no length."""
    products = entries.once(gram)
    lengths = np.sqrt(products.diagonal())
    safe = np.where(lengths > 0, lengths, 1.0)
    return lengths.tolist(), (products / np.outer(safe, safe)).tolist()


def _mean(cosines: list[list[float]], shares: list[float], max_iter: int, tol: float) -> list[float]:
    """Coefficients (P,) of the unit vectors with these cosines (P, P) in their weighted mean."""
    limit = max(tol, NOISE)
    mean = _unit(shares, cosines, limit)
    for _ in range(max_iter):
        step = _tangent(mean, cosines, shares, limit)
        angle = length(step, cosines)
        if angle < limit:
            break
        turned = math.sin(angle) / angle
        mean = _unit([math.cos(angle) * m + turned * s for m, s in zip(mean, step, strict=True)], cosines, limit)
    return mean


def _unit(vector: list[float], cosines: list[list[float]], limit: float) -> list[float]:
    """The vector at length one; the first parent's if it is too short."""
    norm = length(vector, cosines)
    if norm < limit:
        return [1.0] + [0.0] * (len(vector) - 1)
    return [v / norm for v in vector]


def _tangent(mean: list[float], cosines: list[list[float]], shares: list[float], limit: float) -> list[float]:
    """sum_k a_k log_mean(u_k), without the parents that lie at the mean, or opposite, where log is not defined."""
    pulls, along = [], 0.0
    for share, dot in zip(shares, dots(mean, cosines), strict=True):
        angle = math.acos(min(1.0, max(-1.0, dot)))
        pulls.append(share * angle / math.sin(angle) if limit <= angle <= math.pi - limit else 0.0)
        along += pulls[-1] * dot
    return [p - along * m for p, m in zip(pulls, mean, strict=True)]


METHOD = Method(
    name="karcher",
    settle=settle,
    knobs=(
        Knob("weight", default=1.0, per_parent=True),
        Knob("max_iter", default=10, low=1, high=20),
        Knob("tol", default=1e-5, low=1e-7, high=1e-3, scale="log"),
    ),
    on="tensors",
    source="Karcher 1977, doi:10.1002/cpa.3160300502; mergekit 0.1.5",
    arity=(2, None),
)
