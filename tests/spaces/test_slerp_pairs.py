"""Slerp among many parents: which two, and how far from one to the other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.spaces import depth
from evomerge.spaces.slerp_pairs import SlerpPairs
from evomerge.types import Blend
from tests.spaces import holding
from tests.spaces.pools import pool


def space(parents=3, groups=1, parts=("*",)):
    return SlerpPairs(pool(parents), depth.matrix(groups, 4), parts, seed=5, dtype="bfloat16")


CASES = [space(), space(4, 2), space(3, "per_layer", ("mlp", "*")), space(5, 2, ("embeddings", "norms", "head", "*"))]


def test_the_two_parents_with_the_largest_sums_over_the_parts_are_merged():
    found = space(3, parts=("mlp", "*"))
    recipe = found.decode(np.array([1.0, 0.0, 0.0, 0.0, 0.3, 0.8]))  # sums 1.0, 0.3, 0.8
    assert all([p for p, _, _ in slot.sources] == [0, 2] for slot in recipe.slots)


def test_t_is_the_softmax_of_the_pairs_scores_in_each_part():
    blends = space(3, parts=("mlp", "*")).decode(np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.75])).slots[0].blends
    assert blends["mlp"].knobs["t"] == pytest.approx(math.exp(0) / (math.exp(0) + math.exp(4)))
    assert blends["*"].knobs["t"] == pytest.approx(math.exp(3) / (math.exp(0) + math.exp(3)))


def test_of_equal_scores_the_first_parents_are_merged_halfway():
    slot = space(4).decode(np.full(4, 0.5)).slots[0]
    assert ([p for p, _, _ in slot.sources], slot.blends["*"].knobs["t"]) == ([0, 1], 0.5)


def test_outside_the_blocks_the_pair_of_the_first_or_the_last_group_is_interpolated_linearly():
    recipe = space(3, 2).decode(np.array([1.0, 1.0, 0.0, 0.0, 1.0, 1.0]))
    assert recipe.outer == {
        "embeddings": Blend("linear", {"weight": (0.5, 0.5, 0.0), "normalize": False}),
        "head": Blend("linear", {"weight": (0.0, 0.5, 0.5), "normalize": False}),
        "*": Blend("linear", {"weight": (0.0, 0.5, 0.5), "normalize": False}),
    }


def test_own_scores_of_the_head_move_its_t_within_the_groups_pair():
    found = space(3, parts=("head", "*"))
    recipe = found.decode(np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0]))
    assert recipe.outer["head"].knobs["weight"] == (0.5, 0.5, 0.0)  # c's score is not of the pair
    moved = found.decode(np.array([0.0, 0.5, 1.0, 1.0, 1.0, 0.0]))
    assert moved.outer["head"].knobs["weight"][1] == pytest.approx(1 / (1 + math.exp(-2)))
    assert moved.outer["*"] == recipe.outer["*"]


@given(data=st.data(), found=st.sampled_from(CASES))
@settings(max_examples=60, deadline=None)
def test_every_recipe_of_the_space_has_a_genome(data, found):
    holding.comes_back(found, found.decode(data.draw(holding.genomes(found.size))))


def test_other_recipes_have_none():
    recipe = CASES[1].decode(np.linspace(0.1, 0.9, CASES[1].size) ** 2)
    assert CASES[0].encode(recipe) is None
    assert space(4, 1).encode(recipe) is None
    assert space(4, 2, ("mlp", "*")).encode(recipe) is None
    assert CASES[1].encode(recipe) is not None


def test_variables_tell_part_parent_and_depth_and_none_is_leading():
    found = space(3, 2, ("head", "*")).variables
    assert [(v.name, v.part, v.parent, v.depth) for v in (found[0], found[-1])] == [
        ("score/head/0/a", "head", "a", (0.5, 1.0)),
        ("score/rest/1/c", "rest", "c", (0.5, 1.0)),
    ]
    assert not any(v.leading for v in found)
    assert not space().common_scale
