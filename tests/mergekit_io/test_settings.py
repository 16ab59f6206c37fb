"""Gradients, filters and precedence, against a second implementation that knows nothing of the first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import MergeError
from evomerge.mergekit_io.dialect import Parameter
from evomerge.mergekit_io.settings import find, parse

NAMES = [f"model.layers.{b}.{rest}" for b in (0, 1, 10) for rest in ("self_attn.q_proj.weight", "mlp.up_proj.weight")]
FILTERS = st.sampled_from(["self_attn", "mlp", "proj", "layers.1", "up", "*", "", "absent", None])
NUMBERS = st.one_of(st.integers(-3, 3), st.floats(-3, 3), st.sampled_from(["1e-3", "0.5"]))
FLAGS = st.sampled_from([True, False, 0, 1, "yes", "off"])


def settings(scalars):
    gradients = st.one_of(scalars, st.lists(scalars, max_size=5))
    rules = st.fixed_dictionaries({"value": gradients}, optional={"filter": FILTERS})
    return st.one_of(gradients, rules, st.lists(rules, min_size=1, max_size=4))


def by_hand(levels, name, t, convert, steps, default):
    """What mergekit documents, as one loop: the levels in turn, of each the first entry whose filter is in the name."""
    for raw in levels:
        if raw is None:
            continue
        entries = raw if isinstance(raw, list) and raw and isinstance(raw[0], dict) else [raw]
        for entry in entries:
            text = entry.get("filter") if isinstance(entry, dict) else None
            if not (text is None or text == "*" or name.find(text) >= 0):
                continue
            value = entry["value"] if isinstance(entry, dict) else entry
            points = [convert(v) for v in (value if isinstance(value, list) else [value])]
            if not points:
                break
            place = t * (len(points) - 1)
            low = int(place // 1)
            if steps or low == len(points) - 1:
                return points[low]
            return points[low] * (1 - (place - low)) + points[low + 1] * (place - low)
    return default


def boolean(raw):
    return raw in (True, "yes")


@given(st.lists(st.one_of(st.none(), settings(NUMBERS)), max_size=3), st.sampled_from(NAMES), st.floats(0, 1))
def test_numbers_resolve_as_by_hand(levels, name, t):
    parsed = [parse(None if raw is None else {"weight": raw}, "x") for raw in levels]
    ours = find(Parameter("weight", "weight", "input", 7.5), parsed, name, t)
    assert ours == pytest.approx(by_hand(levels, name, t, float, False, 7.5), abs=1e-12)


@given(st.lists(st.one_of(st.none(), settings(FLAGS)), max_size=3), st.sampled_from(NAMES), st.floats(0, 1))
def test_flags_step_as_by_hand(levels, name, t):
    parsed = [parse(None if raw is None else {"normalize": raw}, "x") for raw in levels]
    ours = find(Parameter("normalize", "normalize", "shared", True), parsed, name, t)
    assert ours is by_hand(levels, name, t, boolean, True, True)


def test_a_list_whose_filters_all_miss_leaves_the_choice_to_the_next_level():
    levels = [parse({"weight": [{"filter": "mlp", "value": 1}]}, "x"), parse({"weight": 2}, "x")]
    assert find(Parameter("weight", "weight", "input", None), levels, "a.self_attn", 0) == 2
    assert find(Parameter("weight", "weight", "input", None), levels[:1], "a.self_attn", 0) is None


@pytest.mark.parametrize(
    "raw, said",
    [
        ({"wieght": 1}, r"unknown parameter 'wieght'\. Did you mean 'weight'"),
        ({"weight": "much"}, "wanted a finite number"),
        ({"weight": True}, "wanted a finite number"),
        ({"weight": [1, None]}, "wanted a finite number"),
        ({"weight": float("inf")}, "wanted a finite number"),
        ({"weight": [[1, 2]]}, "wanted a finite number"),
        ({"weight": [{"filter": "mlp", "value": 1}, 0.5]}, "wanted a finite number"),
        ({"normalize": 0.5}, "wanted true or false"),
        ({"normalize": "maybe"}, "wanted true or false"),
        ({"weight": {"filter": "mlp"}}, "has a filter and no value"),
        ({"weight": {"fliter": "mlp", "value": 1}}, "Did you mean 'filter'"),
        ({"weight": {"filter": 3, "value": 1}}, "wanted text"),
        ([1, 2], "wanted parameters by name"),
    ],
)
def test_settings_that_mean_nothing_are_refused(raw, said):
    with pytest.raises(MergeError, match=said):
        parse(raw, "merge.yml: parameters")
