"""What a blend's weights mean: whether they only add up the parents' differences, and what equal parents become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evomerge.methods import get
from evomerge.methods.knobs import per_parent
from evomerge.methods.task_arithmetic import divisor
from evomerge.types import Blend, Method

#: Whose weights are divided by their sum whatever their knobs say.
RATIOS = ("nuslerp", "karcher")
#: Sums of differences where every entry is kept, and the same with an election of signs.
SUMS = ("task_arithmetic", "dare_linear", "della_linear", "breadcrumbs")
ELECTIONS = ("ties", "dare_ties", "della", "breadcrumbs_ties")


def of_differences(blend: Blend, n: int) -> tuple[float, ...] | None:
    """c with merged == base + sum_k c[k] (theta_k - base), or None for a blend that is more than that.

    A method on tensors is such a sum only if its weights add up to one, an election only if one parent votes.
    """
    knobs = _settings(blend)
    if blend.method == "passthrough":
        return (1.0,) if knobs["scale"] in (1.0, None) else None
    if blend.method == "linear":
        return _average(knobs, n)
    if blend.method not in (*SUMS, *ELECTIONS) or not _entire(knobs, n):
        return None
    return _added(knobs, n) if blend.method in SUMS else _voted(knobs, n)


def scales(blend: Blend, n: int) -> bool:
    """Whether n equal tensors become a multiple of themselves; all other blends leave them as they are."""
    if blend.method in ("linear", "passthrough"):
        return of_differences(blend, n) is None
    knobs = _settings(blend)
    if blend.method != "multislerp" or knobs["differences"] or knobs["normalize_weights"] or n == 1:
        return False
    return abs(abs(sum(per_parent("weight", knobs["weight"], n))) - 1) > 1e-9


def normalised(method: Method, knobs: Mapping[str, Any]) -> bool:
    """Whether weights are divided by their sum, so that a common factor of theirs means nothing."""
    if method.name in RATIOS:
        return True
    switches = [k for k in map(method.knob, ("normalize", "normalize_weights")) if k is not None]
    return any(bool(knobs.get(k.name, k.default)) for k in switches)


def _settings(blend: Blend) -> dict[str, Any]:
    return {**{k.name: k.default for k in get(blend.method).knobs}, **blend.knobs}


def _average(knobs: Mapping[str, Any], n: int) -> tuple[float, ...] | None:
    weights = per_parent("weight", knobs["weight"], n)
    total = sum(weights) if knobs["normalize"] else 1.0
    found = tuple(w / total for w in weights) if total else weights
    return found if abs(sum(found) - 1) < 1e-9 else None


def _added(knobs: Mapping[str, Any], n: int) -> tuple[float, ...]:
    weights = per_parent("weight", knobs["weight"], n)
    below = divisor(weights, bool(knobs.get("normalize", False)))
    return tuple(knobs["scale"] * w / below for w in weights)


def _voted(knobs: Mapping[str, Any], n: int) -> tuple[float, ...] | None:
    """Of an election: who votes alone wins everywhere."""
    weights = per_parent("weight", knobs["weight"], n)
    if sum(w != 0 for w in weights) > 1:
        return None
    return tuple(knobs["scale"] * (float(w != 0) if knobs["normalize"] else w) for w in weights)


def _entire(knobs: Mapping[str, Any], n: int) -> bool:
    """Whether every entry of those parents that have weight is kept."""
    weights, densities = (per_parent(name, knobs.get(name, 1.0), n) for name in ("weight", "density"))
    return all(w == 0 or d >= 1 for w, d in zip(weights, densities, strict=True))
