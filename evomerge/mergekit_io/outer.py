"""Blends of embeddings, final norm and head: a recipe gives these all its parents, mergekit those of one slice."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.errors import MergeError
from evomerge.types import Blend, KnobValue


def over_all(blend: Blend, positions: Sequence[int], n_parents: int, where: str) -> Blend:
    """The same blend with all parents of the recipe before it: the others get weight 0.

    positions: where the blend's own parents stand among all. Raises MergeError for a slerp of some of several.
    """
    if list(positions) == list(range(n_parents)):
        return blend
    if blend.method == "slerp":
        return _slerp(blend, positions, n_parents, where)
    knobs = dict(blend.knobs)
    if blend.method == "passthrough":
        weight = _spread((number(knobs["scale"]),), positions, n_parents, 0.0)
        return Blend("linear", {"weight": weight, "normalize": False})
    for name, value in knobs.items():
        if isinstance(value, tuple):
            knobs[name] = _spread(value, positions, n_parents, 0.0 if name == "weight" else 1.0)
    return Blend(blend.method, knobs)


def number(value: KnobValue) -> float:
    assert isinstance(value, int | float), f"{value!r} is one number for all parents"
    return float(value)


def _spread(values: tuple[float, ...], positions: Sequence[int], n_parents: int, missing: float) -> tuple[float, ...]:
    given = dict(zip(positions, values, strict=True))
    return tuple(given.get(p, missing) for p in range(n_parents))


def _slerp(blend: Blend, positions: Sequence[int], n_parents: int, where: str) -> Blend:
    if n_parents > 2:
        raise MergeError(
            f"{where}: slerp of different pairs in different slices; embeddings and head of a recipe are blended from "
            f"all its {n_parents} parents, and slerp takes 2. Keep to one pair, or use linear."
        )
    return Blend("slerp", {"t": 1 - number(blend.knobs["t"])})  # the pair in the other order
