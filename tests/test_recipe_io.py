"""Recipes as data and as YAML: nothing is lost on the way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import MergeError
from evomerge.recipe_io import from_data, read_yaml, to_yaml
from evomerge.spaces.references import references
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Blend, Pool, Recipe, Slot

POOL = Pool(("a", "b"), ("aaaa", "bbbb"), "base", {"model.layers": 6})
SPACE = WeightsSpace(POOL, method="dare_ties", groups=3, parts=["mlp"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=SPACE.size, max_size=SPACE.size))
def test_data_and_yaml_keep_every_bit(tmp_path_factory, genome):
    recipe = SPACE.decode(np.array(genome))
    assert from_data(recipe.data()) == recipe
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(to_yaml(recipe, {"aaaa": "A", "bbbb": "B", "base": "BASE"}))
    found, locations = read_yaml(path)
    assert found == recipe and found.digest == recipe.digest
    assert locations == {"aaaa": "A", "bbbb": "B", "base": "BASE"}


@pytest.mark.parametrize("name", ["base", "parent:a", "average"])
def test_references_survive_too(tmp_path, name):
    recipe = references(POOL, seed=0, dtype="bfloat16")[name]
    (tmp_path / "r.yaml").write_text(to_yaml(recipe, {}))
    assert read_yaml(tmp_path / "r.yaml")[0] == recipe


def test_equal_neighbours_are_written_as_one_range(tmp_path):
    text = to_yaml(SPACE.decode(np.full(SPACE.size, 0.5)), {})
    assert text.count("sources") == 1
    assert to_yaml(SPACE.decode(np.linspace(0, 1, SPACE.size)), {}).count("sources") == 3


def test_a_stack_in_another_order_is_not_written_as_a_range(tmp_path):
    blend = {"*": Blend("passthrough")}
    slots = tuple(Slot(((0, "model.layers", b),), blend) for b in (0, 2, 1, 1, 2, 3))
    recipe = Recipe(("aaaa",), None, slots, blend)
    (tmp_path / "r.yaml").write_text(to_yaml(recipe, {}))
    assert read_yaml(tmp_path / "r.yaml")[0] == recipe


def test_the_digest_names_what_is_built_and_nothing_else():
    blend = Blend("ties", {"weight": (1.0, 2.0), "density": 0.5})
    same = Blend("ties", {"density": 0.5, "weight": (1.0, 2.0)})
    other = Blend("ties", {"weight": (1.0, 2.0), "density": 0.25})
    digest = {
        k: Recipe(("a", "b"), "c", (), {"*": b}).digest for k, b in (("one", blend), ("two", same), ("three", other))
    }
    assert digest["one"] == digest["two"] != digest["three"]


def test_the_order_of_blends_counts():
    one, two = {"mlp": Blend("ties"), "*": Blend("linear")}, {"*": Blend("linear"), "mlp": Blend("ties")}
    assert Recipe(("a",), None, (), one).digest != Recipe(("a",), None, (), two).digest


def test_weights_that_cancel_under_normalisation_are_refused(tmp_path):
    recipe = Recipe(("a", "b"), None, (), {"*": Blend("linear", {"weight": (1.0, -1.0), "normalize": True})})
    (tmp_path / "r.yaml").write_text(to_yaml(recipe, {}))
    with pytest.raises(MergeError, match="sum to zero"):
        read_yaml(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    "method, knobs, told",
    [
        ("ties", {"density": 1.5}, "density is 1.5; wanted more than 0 and at most 1"),
        ("ties", {"density": (0.5, 0.0)}, r"density is \(0.5, 0.0\)"),
        ("ties", {"density": float("nan")}, "density is nan; wanted a finite number"),
        ("dare_linear", {"weight": "half"}, "weight is 'half'; wanted a finite number"),
        ("task_arithmetic", {"scale": True}, "scale is True; wanted a finite number"),
        ("ties", {"scope": "layer"}, "unknown scope 'layer'"),
        ("linear", {"weight": 0.0}, "sum to zero"),
    ],
)
def test_values_that_no_method_can_take_are_refused(tmp_path, method, knobs, told):
    recipe = Recipe(("a", "b"), "c", (), {"*": Blend(method, knobs)})
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(recipe, {"a": "/a", "b": "/b", "c": "/c"}))
    with pytest.raises(MergeError, match=told):
        read_yaml(path)
