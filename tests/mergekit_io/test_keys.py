"""Whatever blend each tensor has, the keys give it back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.build import pick
from evomerge.mergekit_io.keys import keyed
from evomerge.models import layout
from evomerge.types import VECTORS, Blend
from tests.mergekit_io.llamas import shapes

SHAPES = {n: s for n, s in shapes().items() if ".0." in n} | {"model.layers.0.norm.weight": (16,)}
LABELS = {n: {layout.place(n).part, *([VECTORS] if len(s) == 1 else [])} for n, s in SHAPES.items()}
FILTERS = st.lists(st.sampled_from(["mlp", "self_attn", "proj", "down_proj", "norm", "layers.0", "weight", "x"]))


@given(st.lists(st.integers(0, 2), min_size=len(SHAPES), max_size=len(SHAPES)), FILTERS)
def test_every_tensor_gets_its_own_blend(choices, filters):
    blends = {name: Blend("slerp", {"t": float(c)}) for name, c in zip(SHAPES, choices, strict=True)}
    found = keyed(blends, LABELS, filters)
    assert {name: pick(found, name, LABELS[name]) for name in blends} == blends


def test_filters_become_the_keys_in_the_order_that_serves():
    def number(name):
        return 1.0 if "down_proj" in name else 2.0 if "mlp" in name else 3.0

    blends = {name: Blend("slerp", {"t": number(name)}) for name in SHAPES}
    assert list(keyed(blends, LABELS, ["mlp", "down_proj"])) == ["down_proj", "name:mlp", "*"]


@pytest.mark.parametrize("filters", [[], ["mlp"], ["proj", "mlp"]])
def test_one_blend_for_all_is_one_key(filters):
    assert list(keyed({name: Blend("slerp", {"t": 0.5}) for name in SHAPES}, LABELS, filters)) == ["*"]
