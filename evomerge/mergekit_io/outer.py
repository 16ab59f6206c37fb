"""Blends of embeddings, final norm and head: a recipe gives these all its parents, mergekit those of one slice."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.errors import MergeError
from evomerge.mergekit_io.dialect import DIALECTS
from evomerge.methods import METHODS
from evomerge.types import Blend, KnobValue


def over_all(blend: Blend, positions: Sequence[int], n_parents: int, where: str) -> Blend:
    """The same blend with all parents of the recipe before it: the others get weight 0.

    positions: where the blend's own parents stand among all. Raises MergeError for some of them by a method without
    such weights.
    """
    if list(positions) == list(range(n_parents)):
        return blend
    if blend.method == "passthrough":
        weight = _spread((number(blend.knobs["scale"]),), positions, n_parents, 0.0)
        return Blend("linear", {"weight": weight, "normalize": False})
    if len(positions) < n_parents and not DIALECTS[blend.method].absent:
        raise MergeError(
            f"{where}: {blend.method} of different models in different slices; embeddings and head of a recipe are "
            f"blended from all its {n_parents} parents, and these are {len(positions)}. Keep to the same models, or "
            "use linear."
        )
    if blend.method == "slerp":
        return Blend("slerp", {"t": 1 - number(blend.knobs["t"])})  # the pair in the other order
    return Blend(
        blend.method, {name: _over(blend.method, name, v, positions, n_parents) for name, v in blend.knobs.items()}
    )


def _over(method: str, name: str, value: KnobValue, positions: Sequence[int], n_parents: int) -> KnobValue:
    if not isinstance(value, tuple):
        return value
    knob = METHODS[method].knob(name)
    assert knob is not None and isinstance(knob.default, float), f"{name} is a number for each parent"
    return _spread(value, positions, n_parents, 0.0 if name == "weight" else knob.default)


def number(value: KnobValue) -> float:
    assert isinstance(value, int | float), f"{value!r} is one number for all parents"
    return float(value)


def _spread(values: tuple[float, ...], positions: Sequence[int], n_parents: int, missing: float) -> tuple[float, ...]:
    given = dict(zip(positions, values, strict=True))
    return tuple(given.get(p, missing) for p in range(n_parents))
