"""A setting written with filters says every tensor's value, read back by the rules that mergekit reads by."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evomerge.mergekit_io.filters import setting
from evomerge.mergekit_io.settings import Parameter, find, parse
from tests.mergekit_io.llamas import BLOCKS, shapes

NAMES = [name for name in shapes() if ".layers." not in name or ".layers.0." in name]


@given(st.lists(st.sampled_from([0.0, 0.5, 1.5]), min_size=len(NAMES), max_size=len(NAMES)))
def test_what_is_written_is_read_back_for_every_block(numbers):
    values = dict(zip(NAMES, numbers, strict=True))
    levels = [parse({"weight": setting(values)}, "x")]
    for name, value in values.items():
        for block in range(BLOCKS + 8):
            there = name.replace(".layers.0.", f".layers.{block}.")
            assert find(Parameter("weight", "weight", "input", None), levels, there, 0.0) == value


def test_a_part_of_the_model_is_one_filter():
    assert setting({name: 0.25 if ".mlp." in name else 1.0 for name in NAMES}) == [
        {"filter": "mlp", "value": 0.25},
        {"value": 1.0},
    ]
    assert setting(dict.fromkeys(NAMES, 0.5)) == 0.5


def test_a_number_in_a_filter_is_an_experts_and_never_a_blocks():
    names = [f"model.layers.0.mlp.experts.{e}.up_proj.weight" for e in range(9)]
    values = {name: float(e == 1) for e, name in enumerate(names)}
    assert setting(values) == [{"filter": "experts.1", "value": 1.0}, {"value": 0.0}]
    levels = [parse({"weight": setting(values)}, "x")]
    for name, value in values.items():
        there = name.replace(".layers.0.", ".layers.1.")
        assert find(Parameter("weight", "weight", "input", None), levels, there, 0.0) == value
