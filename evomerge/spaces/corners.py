"""Knobs at which a method gives nothing but a parent, the base or the plain average: references in a space's terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from evomerge.methods.coefficients import of_differences
from evomerge.spaces import genes
from evomerge.spaces.weights_genes import Definition
from evomerge.types import Blend

#: Where a method without weights reaches the parent at this place, entry for entry.
ARCS: Mapping[str, Callable[[int], Mapping[str, Any]]] = {
    "slerp": lambda parent: {"t": float(parent)},
    "nearswap": lambda parent: {"t_quantile": 1.0, "t": None},
}
#: Methods that are more than sums and still give the one parent that has weight.
CORNERS = ("nuslerp", "multislerp", "karcher")


def average(of: Definition) -> Mapping[str, Any] | None:
    """Knobs at which the plain average of the parents comes out, if the method has such."""
    n = len(of.pool.digests)
    knobs = {"weight": (_equal(of),) * n, **_whole(of)}
    return knobs if _adds(of, knobs, (1.0 / n,) * n) else None


def _equal(of: Definition) -> float:
    """The weight of each parent in the plain average: 1/n, or what is nearest to it if weights are normalised."""
    equal = 1.0 / len(of.pool.digests)
    weight = next((k for k in of.knobs if k.name == "weight"), None)
    if weight is None or not of.fixed.get("normalize"):
        return equal
    gene = genes.nearest(genes.gene(weight, equal), of.levels)
    return float(genes.value(weight, genes.place(gene, of.levels)))


def alone(of: Definition, digest: str) -> Mapping[str, Any] | None:
    """Knobs at which a parent or the base is all that is left, if the method has such."""
    digests, name = of.pool.digests, of.method.name
    if digest in digests and name in ARCS:
        return ARCS[name](digests.index(digest))
    if of.method.knob("weight") is None or (digest not in digests and digest != of.pool.base):
        return None
    weights = tuple(float(d == digest) for d in digests)
    knobs = {"weight": weights, **(_whole(of) if digest in digests else {})}
    corner = name in CORNERS and digest in digests
    return knobs if corner or _adds(of, knobs, weights) else None


def _adds(of: Definition, knobs: Mapping[str, Any], wanted: Sequence[float]) -> bool:
    """Whether the method with these knobs adds up the parents' differences from the base so many times each."""
    found = of_differences(Blend(of.method.name, {**of.fixed, **knobs}), len(of.pool.digests))
    return found is not None and np.allclose(found, wanted, rtol=0, atol=1e-9)


def _whole(of: Definition) -> dict[str, float]:
    """What keeps a delta as it is: nothing dropped, nothing scaled."""
    return {k.name: 1.0 for k in of.method.knobs if k.name in ("density", "scale")}
