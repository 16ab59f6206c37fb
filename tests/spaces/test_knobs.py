"""Which knobs are searched over which ranges, and what the config gets told if that cannot be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evomerge.errors import ConfigError
from evomerge.methods import METHODS, get
from evomerge.spaces.knobs import check_arity, checked, chosen, defaults, pinned, shared, usual
from evomerge.spaces.shares import SHARE
from tests.spaces.pools import numeric, of_method, pool


def choose(method="ties", *, search=None, fixed=None, ranges=None, scales=None, parents=None):
    parents = of_method(method) if parents is None else parents
    held = pinned(get(method), fixed or {}, parents)
    return {k.name: k for k in chosen(get(method), search, held, ranges or {}, scales or {}, parents)}


#: What is searched of each method by default.
SEARCHED = {
    "linear": ["weight"],
    "slerp": ["t"],
    "nuslerp": ["weight"],
    "multislerp": ["weight"],
    "karcher": ["weight"],
    "task_arithmetic": ["weight"],
    "ties": ["weight", "density"],
    "dare_linear": ["weight", "density"],
    "dare_ties": ["weight", "density"],
    "della": ["weight", "density"],
    "della_linear": ["weight", "density"],
    "breadcrumbs": ["weight", "density"],
    "breadcrumbs_ties": ["weight", "density"],
    "sce": ["select_topk", "scale"],
    "ram": ["epsilon"],
    "ramplus_tl": ["r", "alpha"],
    "model_stock": ["t_scale"],
    "nearswap": ["t_quantile"],
    "arcee_fusion": ["iqr_factor"],
    "passthrough": ["scale"],
}


def test_the_default_search_of_every_method_is_small_and_has_no_choices():
    assert {name: list(choose(name)) for name in METHODS} == SEARCHED


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "dare_ties", "della", "breadcrumbs"])
def test_the_scale_is_searched_where_weights_are_normalised_and_cannot_say_it(method):
    assert "scale" not in choose(method)
    assert set(choose(method, fixed={"normalize": True})) - set(SEARCHED[method]) == {"scale"}


@pytest.mark.parametrize(
    ("method", "fixed", "is_shared"),
    [
        ("linear", {}, True),
        ("linear", {"normalize": False}, False),
        ("nuslerp", {}, True),
        ("karcher", {}, True),
        ("multislerp", {}, True),
        ("multislerp", {"normalize_weights": False}, False),
        ("task_arithmetic", {}, False),
        ("ties", {"normalize": True}, True),
        ("slerp", {}, False),
    ],
)
def test_normalised_weights_are_searched_as_shares(method, fixed, is_shared):
    parents = of_method(method)
    found = shared(get(method), list(choose(method, fixed=fixed).values()), {**usual(get(method)), **fixed}, parents)
    assert (SHARE in found) == is_shared
    assert (SHARE in found) != ("weight" in [k.name for k in found]) or method == "slerp"


def test_there_are_no_shares_of_one_parent_nor_where_normalising_is_searched():
    one, either = choose("linear", parents=pool(1)), choose("linear", search=["weight", "normalize"])
    assert SHARE not in shared(get("linear"), list(one.values()), usual(get("linear")), pool(1))
    assert SHARE not in shared(get("linear"), list(either.values()), usual(get("linear")), pool(3))


def test_every_method_of_the_table_has_a_default_search_and_takes_its_pool():
    for name, method in METHODS.items():
        assert choose(name)
        check_arity(method, of_method(name))


def test_the_named_knobs_are_searched_in_the_methods_order():
    assert list(choose(search=["scale", "weight"])) == ["weight", "scale"]


def test_a_fixed_knob_is_not_searched():
    assert set(choose(fixed={"density": 0.3})) == {"weight"}


def test_a_range_replaces_the_suggested_one_and_keeps_the_step_in_the_knobs_own_units():
    before, after = choose()["weight"], choose(ranges={"weight": [0, 3.4]})["weight"]
    assert (after.low, after.high) == (0.0, 3.4)
    assert after.step * 3.4 == pytest.approx(before.step * (before.high - before.low))


def test_a_step_is_half_the_range_at_most():
    assert choose(ranges={"weight": [0.9, 1.0]})["weight"].step == 0.5


def test_a_scale_replaces_the_suggested_one():
    assert choose(scales={"density": "linear"})["density"].scale == "linear"
    assert choose(scales={"weight": "log"}, ranges={"weight": [0.1, 2]})["weight"].scale == "log"


def test_methods_on_deltas_are_not_normalised_and_those_on_tensors_are():
    normalised = {name: usual(m)["normalize"] for name, m in METHODS.items() if m.knob("normalize")}
    assert normalised == {name: METHODS[name].on == "tensors" for name in normalised}
    assert {"linear", "task_arithmetic", "ties", "dare_ties", "della"} <= set(normalised)


@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.on == "either"])
def test_what_merges_either_merges_differences_where_there_is_a_base(method):
    parents = of_method(method)
    without = replace(parents, base=None)
    assert defaults(get(method), parents)["differences"] is True
    assert defaults(get(method), without)["differences"] is False
    with pytest.raises(ConfigError, match=r"space.fixed.differences is true and there is no base\. Set parents.base"):
        pinned(get(method), {"differences": True}, without)
    with pytest.raises(ConfigError, match=r"space.search names differences, and there is no base\. Set parents.base"):
        choose(method, search=["weight", "differences"], parents=without)


@pytest.mark.parametrize("method", METHODS)
def test_every_numeric_knob_of_every_method_can_be_searched(method):
    assert list(choose(method, search=numeric(method))) == numeric(method)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search": ["wieght"]}, r"space.search: unknown knob of ties 'wieght'\. Did you mean 'weight'"),
        ({"ranges": {"t": [0, 1]}}, r"space.ranges: unknown knob of ties 't'\..* Known: density, normalize"),
        ({"scales": {"desity": "log"}}, r"space.scales: unknown knob of ties 'desity'\. Did you mean 'density'"),
        ({"search": []}, r"no knob to search\. Name some in space.search"),
        ({"search": ["scale"], "fixed": {"scale": 1.0}}, r"space.search and space.fixed both name scale"),
        ({"ranges": {"weight": [1, 0]}}, r"space.ranges.weight is \[1, 0\]; wanted \[low, high\] with low < high"),
        ({"ranges": {"weight": [1, 1]}}, r"space.ranges.weight is \[1, 1\]"),
        ({"ranges": {"weight": [1]}}, r"space.ranges.weight is \[1\]"),
        ({"ranges": {"weight": [0, 1, 2]}}, r"space.ranges.weight is \[0, 1, 2\]"),
        ({"ranges": {"weight": [0, float("inf")]}}, r"space.ranges.weight is \[0, inf\]"),
        ({"ranges": {"weight": [float("nan"), 1]}}, r"space.ranges.weight is \[nan, 1\]"),
        ({"ranges": {"density": [0, 1]}}, r"space.ranges.density starts at 0 on a log scale; wanted above 0"),
        ({"scales": {"weight": "log"}}, r"space.ranges.weight starts at 0.0 on a log scale"),
        ({"scales": {"weight": "cubic"}}, r"space.scales.weight is 'cubic'; wanted linear or log"),
        ({"scales": {"weight": "choice"}}, r"space.scales.weight is 'choice'; wanted linear or log"),
        (
            {"search": ["normalize"], "scales": {"normalize": "linear"}},
            r"space.scales.normalize is set, but normalize is a choice of False, True",
        ),
        (
            {"search": ["rescale"], "ranges": {"rescale": [0, 1]}},
            r"space.ranges.rescale is set, but rescale is a choice of none, l1, inv_p",
        ),
    ],
)
def test_a_bad_setting_is_refused_with_what_was_wanted(settings, message):
    with pytest.raises(ConfigError, match=message):
        choose(**settings)


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"lambda": 1.0}, r"space.fixed: unknown knob of ties 'lambda'"),
        ({"rescale": "l2"}, r"space.fixed.rescale is 'l2'; wanted none, l1, inv_p"),
        ({"scale": "big"}, r"space.fixed.scale is 'big'; wanted a number"),
        ({"scale": [1.0, 2.0]}, r"space.fixed.scale is \[1.0, 2.0\]; wanted a number"),
        ({"weight": [1.0]}, r"wanted a number, or a list of 2 \(one per parent\)"),
        ({"weight": True}, r"space.fixed.weight is True"),
        ({"density": float("nan")}, r"space.fixed.density is nan"),
    ],
)
def test_a_fixed_value_that_cannot_be_used_is_refused(fixed, message):
    with pytest.raises(ConfigError, match=message):
        pinned(get("ties"), fixed, pool(2))


def test_fixed_values_become_what_recipes_hold():
    found = pinned(get("ties"), {"weight": [1, 2], "density": 1, "normalize": True}, pool(2))
    assert found == {"weight": (1.0, 2.0), "density": 1.0, "normalize": True}
    assert all(type(v) is float for v in found["weight"])


def test_a_fixed_choice_becomes_the_methods_own_value():
    assert pinned(get("ties"), {"normalize": 1}, pool(2))["normalize"] is True


def test_a_knob_with_one_number_for_all_cannot_be_per_parent():
    with pytest.raises(
        ConfigError, match=r"space.per_parent names scale, of which ties has one number for all parents"
    ):
        checked(get("ties"), {"scale": None}, "per_parent")


@pytest.mark.parametrize(
    ("method", "parents", "message"),
    [
        ("slerp", 1, r"space.method=slerp takes exactly 2 parents, got 1"),
        ("slerp", 3, r"space.method=slerp takes exactly 2 parents, got 3"),
        ("passthrough", 2, r"space.method=passthrough takes exactly 1 parents, got 2"),
        ("nuslerp", 3, r"space.method=nuslerp takes exactly 2 parents, got 3"),
        ("nearswap", 2, r"space.method=nearswap takes exactly 1 parents, got 2"),
        ("karcher", 1, r"space.method=karcher takes at least 2 parents, got 1"),
    ],
)
def test_another_number_of_parents_than_the_method_takes_is_refused(method, parents, message):
    with pytest.raises(ConfigError, match=message):
        check_arity(get(method), pool(parents))


def test_the_error_names_the_setting_that_named_the_method_and_its_remedy():
    with pytest.raises(ConfigError, match=r"space.methods=slerp takes exactly 2 parents, got 3\. Leave it out\."):
        check_arity(get("slerp"), pool(3), setting="methods", remedy="Leave it out.")
    with pytest.raises(ConfigError, match=r"space.methods=ties merges differences"):
        check_arity(get("ties"), pool(3, base=None), setting="methods")


@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if m.needs_base])
def test_a_method_on_differences_needs_a_base(method):
    with pytest.raises(ConfigError, match=rf"space.method={method} merges differences from a base\. Set parents.base"):
        check_arity(get(method), replace(of_method(method), base=None))


@pytest.mark.parametrize("method", [name for name, m in METHODS.items() if not m.needs_base])
def test_a_method_on_tensors_needs_none(method):
    check_arity(get(method), replace(of_method(method), base=None))
