"""Recipes compared: what an encoded genome says, against the recipe that it was made from."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from evomerge.types import Blend, KnobValue, Recipe


def alike(ours: Recipe, theirs: Recipe) -> bool:
    """Whether two recipes of equal depth say the same in the same words, coefficients up to rounding."""
    slots = zip(ours.slots, theirs.slots, strict=True)
    return (
        (ours.parents, ours.base) == (theirs.parents, theirs.base)
        and _same(ours.outer, theirs.outer)
        and all(a.sources == b.sources and a.scale == b.scale and _same(a.blends, b.blends) for a, b in slots)
    )


def _same(ours: Mapping[str, Blend], theirs: Mapping[str, Blend]) -> bool:
    """Equal parts in equal order, methods, and knobs."""
    pairs = zip(ours.values(), theirs.values(), strict=False)
    return list(ours) == list(theirs) and all(
        a.method == b.method and set(a.knobs) == set(b.knobs) and all(_close(v, b.knobs[k]) for k, v in a.knobs.items())
        for a, b in pairs
    )


def _close(ours: KnobValue, theirs: KnobValue) -> bool:
    if isinstance(ours, bool | str) or isinstance(theirs, bool | str):
        return ours == theirs
    return np.shape(ours) == np.shape(theirs) and bool(np.allclose(ours, theirs, rtol=0, atol=1e-9))
