"""Recipes compared: rounding is no difference, anything else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evomerge.spaces.likeness import alike
from evomerge.types import Blend, Recipe, Slot

BLENDS = {"mlp": Blend("ties", {"weight": (0.1, 0.2), "rescale": "l1"}), "*": Blend("linear", {"weight": 0.5})}
RECIPE = Recipe(("a", "b"), "base", (Slot(((0, "layers", 0), (1, "layers", 0)), BLENDS),), BLENDS)


def saying(mlp=None, rest=None, **changes):
    """The recipe with other blends in its block, or other changes."""
    blends = {"mlp": mlp or BLENDS["mlp"], "*": rest or BLENDS["*"]}
    return replace(RECIPE, slots=(replace(RECIPE.slots[0], blends=blends),), **changes)


def test_rounding_is_no_difference():
    assert alike(RECIPE, saying(Blend("ties", {"rescale": "l1", "weight": (0.1 + 1e-12, 0.2)})))


@pytest.mark.parametrize(
    "other",
    [
        saying(Blend("ties", {"weight": (0.1, 0.2001), "rescale": "l1"})),
        saying(Blend("ties", {"weight": (0.1, 0.2), "rescale": "none"})),
        saying(Blend("ties", {"weight": (0.1, 0.2)})),
        saying(Blend("dare_ties", {"weight": (0.1, 0.2), "rescale": "l1"})),
        saying(rest=Blend("linear", {"weight": (0.5, 0.5)})),
        saying(rest=Blend("linear", {"weight": 0.5, "normalize": True})),
        saying(base=None),
        saying(parents=("b", "a")),
        saying(outer={"*": BLENDS["*"]}),
        saying(outer=dict(reversed(BLENDS.items()))),
        replace(RECIPE, slots=(Slot(((0, "layers", 1), (1, "layers", 0)), BLENDS),)),
        replace(RECIPE, slots=(Slot(RECIPE.slots[0].sources, BLENDS, scale=0.5),)),
    ],
)
def test_any_other_word_is_one(other):
    assert not alike(RECIPE, other)
