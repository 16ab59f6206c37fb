"""Which blends only add up multiples of the parents' differences, and which multiples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.methods import get
from evomerge.methods.knobs import per_parent
from evomerge.types import Blend

#: As in task_arithmetic: weights whose sum is smaller are not normalised.
TINY = 1e-8


def of_differences(blend: Blend, n: int) -> tuple[float, ...] | None:
    """c with merged == base + sum_k c[k] (theta_k - base), or None for a blend that is more than that.

    A method on tensors is such a sum only if its weights add up to one.
    """
    knobs = {**{k.name: k.default for k in get(blend.method).knobs}, **blend.knobs}
    if blend.method == "passthrough":
        return (1.0,) if knobs["scale"] in (1.0, None) else None
    if blend.method == "linear":
        return _average(knobs, n)
    if blend.method == "task_arithmetic" or (blend.method == "dare_linear" and _dense(knobs["density"])):
        return _added(knobs, n)
    return None


def scales(blend: Blend, n: int) -> bool:
    """Whether n equal tensors become a multiple of themselves; all other methods leave them as they are."""
    return blend.method in ("linear", "passthrough") and of_differences(blend, n) is None


def _average(knobs: Mapping[str, Any], n: int) -> tuple[float, ...] | None:
    weights = per_parent("weight", knobs["weight"], n)
    total = sum(weights) if knobs["normalize"] else 1.0
    found = tuple(w / total for w in weights) if total else weights
    return found if abs(sum(found) - 1) < 1e-9 else None


def _added(knobs: Mapping[str, Any], n: int) -> tuple[float, ...]:
    weights = per_parent("weight", knobs["weight"], n)
    divisor = sum(weights) if knobs["normalize"] else 1.0
    return tuple(knobs["scale"] * w / (divisor if abs(divisor) >= TINY else 1.0) for w in weights)


def _dense(density: float | Sequence[float]) -> bool:
    return min(density if isinstance(density, Sequence) else (density,)) >= 1
