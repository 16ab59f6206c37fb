"""Base, parents and average as recipes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evomerge.spaces.mergekit import MergekitSpace
from evomerge.spaces.method_choice import MethodChoice
from evomerge.spaces.parent_choice import ParentChoice
from evomerge.spaces.references import references, unique
from evomerge.spaces.simplex import Simplex
from evomerge.spaces.weights import WeightsSpace
from tests.spaces import holding
from tests.spaces.pools import pool

TWO, THREE = {"parent:a", "parent:b"}, {"parent:a", "parent:b", "parent:c"}
KNOTS = {"groups": 3, "smooth": True}
#: (parents, base, space, settings, references that it says)
SPACES = [
    (2, None, WeightsSpace, {"method": "linear", **KNOTS}, {*TWO, "average"}),
    (2, None, WeightsSpace, {"method": "slerp", **KNOTS, "parts": ["head"]}, TWO),
    (3, None, WeightsSpace, {"method": "linear", "groups": 2, "parts": ["embeddings", "norms"]}, {*THREE, "average"}),
    (3, "base", WeightsSpace, {"method": "task_arithmetic", **KNOTS}, {"base", *THREE, "average"}),
    (3, "base", WeightsSpace, {"method": "dare_ties", "parts": ["head"]}, {"base", *THREE}),
    (3, "sha-a", WeightsSpace, {"method": "linear"}, {"base", *THREE, "average"}),
    (2, "sha-b", WeightsSpace, {"method": "slerp"}, {"base", *TWO}),
    (2, None, WeightsSpace, {"method": "nuslerp", **KNOTS}, TWO),
    (3, "base", WeightsSpace, {"method": "multislerp", "groups": 2, "parts": ["norms"]}, THREE),
    (3, "base", WeightsSpace, {"method": "ties", "fixed": {"normalize": True}}, THREE),  # shares, and no base
    (2, None, ParentChoice, {"take": 1, "method": "linear"}, TWO),
    (3, None, ParentChoice, {"take": 2, "method": "slerp", **KNOTS}, THREE),
    (3, "base", ParentChoice, {"take": 2, "method": "ties"}, {"base", *THREE}),
    (2, None, MethodChoice, {"methods": ["slerp", "linear"]}, {*TWO, "average"}),
    (3, None, MethodChoice, {"methods": ["slerp", "linear"], "parts": ["head"]}, {*THREE, "average"}),
    (3, "base", MethodChoice, {"groups": 2, "methods": ["slerp", "ties"]}, {"base", *THREE}),
    (2, None, Simplex, KNOTS, {*TWO, "average"}),
    (3, "base", Simplex, {**KNOTS, "negative": True}, {*THREE, "average"}),
    (2, None, MergekitSpace, {"merge_method": "linear", "smooth": True, "layer_granularity": 2}, {*TWO, "average"}),
    (2, None, MergekitSpace, {"merge_method": "slerp"}, set()),
    (3, "base", MergekitSpace, {"merge_method": "ties", "filters": ["mlp"]}, {"base", *THREE}),
]


def found(of):
    return references(of, seed=7, dtype="bfloat16")


def test_there_is_the_base_each_parent_and_the_average():
    assert list(found(pool(2))) == ["base", "parent:a", "parent:b", "average"]


def test_without_a_base_there_is_no_base():
    assert list(found(pool(2, base=None))) == ["parent:a", "parent:b", "average"]


@pytest.mark.parametrize(("name", "digest"), [("base", "base"), ("parent:a", "sha-a"), ("parent:b", "sha-b")])
def test_one_model_alone_is_passed_through_in_every_block(name, digest):
    recipe = found(pool(2, blocks=3))[name]
    assert recipe.parents == (digest,)
    assert [s.sources for s in recipe.slots] == [((0, "layers", b),) for b in range(3)]
    blends = [b for mapping in (*(s.blends for s in recipe.slots), recipe.outer) for b in mapping.items()]
    assert {(part, b.method, len(b.knobs)) for part, b in blends} == {("*", "passthrough", 0)}


def test_the_average_has_equal_weights_for_all_parents_and_not_the_base():
    recipe = found(pool(3))["average"]
    assert recipe.parents == ("sha-a", "sha-b", "sha-c")
    for blends in (*(s.blends for s in recipe.slots), recipe.outer):
        assert (blends["*"].method, blends["*"].knobs) == ("linear", {"weight": 1.0, "normalize": True})
    assert [[p for p, _, _ in s.sources] for s in recipe.slots] == [[0, 1, 2]] * 4


def test_every_stack_has_its_own_blocks():
    recipe = found(pool(1, stacks={"encoder": 2, "decoder": 1}))["parent:a"]
    assert [s.sources[0] for s in recipe.slots] == [(0, "encoder", 0), (0, "encoder", 1), (0, "decoder", 0)]


def test_seed_base_and_dtype_are_the_runs():
    for recipe in found(pool(2)).values():
        assert (recipe.seed, recipe.base, recipe.out_dtype) == (7, "base", "bfloat16")


def test_all_references_are_different_recipes():
    digests = [r.digest for r in found(pool(3)).values()]
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize(("parents", "base", "member", "given", "said"), SPACES)
def test_every_space_says_those_references_that_it_can(parents, base, member, given, said):
    known = pool(parents, base=base)
    assert holding.answers_each_reference(member(known, **given), known) == said


def test_parents_of_one_name_are_numbered():
    assert unique(("x", "y", "x", "x")) == ["x", "y", "x#2", "x#3"]
    assert list(found(replace(pool(2), names=("m", "m")))) == ["base", "parent:m", "parent:m#2", "average"]
