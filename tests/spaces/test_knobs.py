"""Which knobs are searched over which ranges, and what the config gets told if that cannot be."""

from __future__ import annotations

import pytest

from evomerge.errors import ConfigError
from evomerge.methods import METHODS, get
from evomerge.spaces.knobs import check_arity, checked, chosen, defaults, pinned
from tests.spaces.pools import numeric, of_method, pool


def choose(method="ties", *, search=None, fixed=None, ranges=None, scales=None):
    return {k.name: k for k in chosen(get(method), search, fixed or {}, ranges or {}, scales or {})}


@pytest.mark.parametrize(
    ("method", "wanted"),
    [
        ("linear", {"weight"}),
        ("slerp", {"t"}),
        ("task_arithmetic", {"weight"}),
        ("ties", {"weight", "density"}),
        ("dare_linear", {"weight", "density"}),
        ("dare_ties", {"weight", "density"}),
        ("passthrough", {"scale"}),
    ],
)
def test_by_default_the_leading_knob_and_densities_are_searched(method, wanted):
    assert set(choose(method)) == wanted


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


def test_methods_on_deltas_are_not_normalised_and_linear_is():
    assert {name: defaults(m).get("normalize") for name, m in METHODS.items()} == {
        "linear": True,
        "slerp": None,
        "task_arithmetic": False,
        "ties": False,
        "dare_linear": False,
        "dare_ties": False,
        "passthrough": None,
    }


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
        ({"scales": {"weight": "log"}}, r"space.ranges.weight starts at -0.2 on a log scale"),
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


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "dare_linear", "dare_ties"])
def test_a_method_on_differences_needs_a_base(method):
    with pytest.raises(ConfigError, match=rf"space.method={method} merges differences from a base\. Set parents.base"):
        check_arity(get(method), pool(3, base=None))


@pytest.mark.parametrize("method", ["linear", "slerp", "passthrough"])
def test_a_method_on_tensors_needs_none(method):
    low, _ = get(method).arity
    check_arity(get(method), pool(low, base=None))
