"""Which parents take part: the largest keys, and genes of the absent ones that mean nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import ConfigError
from evomerge.methods import METHODS, get
from evomerge.spaces.likeness import alike
from evomerge.spaces.parent_choice import ParentChoice
from evomerge.spaces.references import references
from evomerge.spaces.weights import WeightsSpace
from tests.spaces import holding
from tests.spaces.pools import pool

CASES = (
    (8, {"take": 2, "method": "slerp", "groups": 2}),
    (5, {"take": 3, "method": "dare_ties", "parts": ["mlp", "head"]}),
    (4, {"take": 3, "method": "task_arithmetic", "groups": 3, "smooth": True, "levels": 6}),
    (3, {"take": 3}),
    (4, {"take": 1, "search": ["weight", "normalize"]}),
)
SPACES = [ParentChoice(pool(parents), **given) for parents, given in CASES]


def present(recipe):
    return "".join(digest.removeprefix("sha-") for digest in recipe.parents)


# ---------------------------------------------------------------- which


def test_the_largest_keys_take_part():
    found = SPACES[0]
    genome = holding.default(found)
    genome[:8] = [0.1, 0.2, 0.9, 0.3, 0.4, 0.8, 0.5, 0.6]
    assert present(found.decode(genome)) == "cf"


def test_of_equal_keys_the_first_parents_take_part():
    found = SPACES[0]
    genome = holding.default(found)
    assert present(found.decode(genome)) == "ab"
    genome[6] = 0.51
    assert present(found.decode(genome)) == "ag"


@given(data=st.data(), space=st.sampled_from(SPACES))
@settings(max_examples=60, deadline=None)
def test_a_recipe_names_as_many_parents_as_take_part_in_the_pools_order(data, space):
    recipe = space.decode(data.draw(holding.genomes(space.size)))
    take = dict(zip(SPACES, (given["take"] for _, given in CASES), strict=True))[space]
    assert len(present(recipe)) == take
    assert list(present(recipe)) == sorted(present(recipe))
    assert all([p for p, _, _ in slot.sources] == list(range(take)) for slot in recipe.slots)


def test_parents_of_one_name_are_told_apart():
    found = ParentChoice(replace(pool(3), names=("m", "m", "x")))
    genome = holding.default(found)
    genome[holding.at(found, "key/all/0/m#2")] = genome[holding.at(found, "key/all/0/x")] = 0.9
    genome[holding.at(found, "weight/rest/0/m#2")] = 1.0
    recipe = found.decode(genome)
    assert recipe.parents == ("sha-b", "sha-c")
    assert recipe.slots[0].blends["*"].knobs["weight"][0] == 1.5


# ---------------------------------------------------------------- variables


def test_there_is_a_key_per_parent_and_the_knobs_of_all_of_them():
    names = [v.name for v in ParentChoice(pool(5), take=2, method="ties", groups=2).variables]
    assert names == [
        *(f"key/all/0/{p}" for p in "abcde"),
        *(f"weight/rest/0/{p}" for p in "abcde"),
        "density/rest/0/all",
        *(f"weight/rest/1/{p}" for p in "abcde"),
        "density/rest/1/all",
    ]


def test_a_choice_of_8_of_16_meets_few_combinations():
    many = replace(pool(8), names=tuple("abcdefghijklmnop"), digests=tuple(f"sha-{c}" for c in "abcdefghijklmnop"))
    found = ParentChoice(many, take=8)
    assert found.size == 16 + 16
    assert len(found._spaces) == 2


def test_weights_start_at_the_average_of_those_that_take_part():
    recipe = SPACES[1].decode(holding.default(SPACES[1]))
    assert recipe.slots[0].blends["*"].knobs["weight"] == pytest.approx((1 / 3,) * 3)


# ---------------------------------------------------------------- genes


@given(data=st.data(), space=st.sampled_from(SPACES))
@settings(max_examples=60, deadline=None)
def test_settled_genomes_mean_the_same_and_inactive_genes_mean_nothing(data, space):
    genome = data.draw(holding.genomes(space.size))
    holding.holds_when_settled(space, genome)
    holding.only_active_genes_count(space, genome, data.draw(holding.genomes(space.size)))


def test_genes_of_absent_parents_are_inactive_and_keys_are_not():
    found = SPACES[1]
    genome = holding.default(found)
    genome[[holding.at(found, f"key/all/0/{p}") for p in "bce"]] = 0.9
    active = {v.name for v, on in zip(found.variables, found.active(genome), strict=True) if on}
    assert {n for n in active if n.startswith("key")} == {f"key/all/0/{p}" for p in "abcde"}
    assert {n for n in active if n.startswith("weight/mlp")} == {f"weight/mlp/0/{p}" for p in "bce"}
    assert {n for n in active if n.startswith("density")} == {"density/mlp/0/all", "density/rest/0/all"}


def test_every_gene_of_a_parent_that_takes_part_counts():
    found = SPACES[1]
    genome = np.where(np.arange(found.size) < 5, 0.3, 0.4)
    genome[[1, 3, 4]] = 0.8
    digests = {found.decode(genome).digest}
    moved = [i for i in np.flatnonzero(found.active(genome)) if i >= 5]
    for i in moved:
        other = genome.copy()
        other[i] = 0.6
        digests.add(found.decode(other).digest)
    assert len(digests) == 1 + len(moved) == 1 + (3 + 1) + 3 + (3 + 1)  # mlp, head (never masked), rest


def test_a_combination_is_the_weights_space_of_its_parents():
    found, parents = SPACES[1], pool(5)
    few = replace(parents, names=("a", "c", "d"), digests=("sha-a", "sha-c", "sha-d"))
    alone = WeightsSpace(few, method="dare_ties", parts=["mlp", "head"])
    own = np.linspace(0.1, 0.9, alone.size)
    genome = holding.default(found)
    genome[[0, 2, 3]] = 0.9
    genome[[holding.at(found, v.name) for v in alone.variables]] = own
    assert found.decode(genome) == alone.decode(own)


def test_fixed_values_go_with_their_parents():
    found = ParentChoice(pool(3), take=2, method="ties", fixed={"density": [0.2, 0.4, 0.6]})
    genome = holding.default(found)
    genome[[0, 2]] = 0.9
    assert found.decode(genome).slots[0].blends["*"].knobs["density"] == (0.2, 0.6)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_merges_as_many_of_the_parents_as_it_takes(method):
    low, high = get(method).arity
    found = ParentChoice(pool(4), take=max(low, 2 if high is None else high), method=method)
    genome = holding.default(found)
    genome[[1, 3]] = [0.8, 0.9]
    recipe = found.decode(genome)
    assert present(recipe) == ("d" if high == 1 else "bd")
    assert alike(found.decode(found.encode(recipe)), recipe)


def test_two_of_three_parents_build_and_speak(trio):
    found = ParentChoice(trio.pool(), take=2, method="slerp")
    genome = holding.default(found)
    genome[[0, 2]] = 0.9
    recipe = found.decode(genome)
    assert recipe.parents == tuple(trio.pool().digests[p] for p in (0, 2))
    changed = holding.finite_logits(recipe, trio) != holding.finite_logits(found.decode(holding.default(found)), trio)
    assert changed.any()


# ---------------------------------------------------------------- encode


@given(data=st.data(), space=st.sampled_from(SPACES[:4]))
@settings(max_examples=60, deadline=None)
def test_every_recipe_of_the_space_has_a_genome(data, space):
    genome = holding.problem(space).settled(data.draw(holding.genomes(space.size)) * 0.98 + 0.01)
    found = holding.comes_back(space, space.decode(genome))
    knobs = np.arange(space.size) >= sum(v.knob == "key" for v in space.variables)
    assert holding.problem(space).settled(found)[knobs] == pytest.approx(genome[knobs], abs=1e-9)


def test_each_parent_and_the_base_are_said_and_the_average_of_those_that_fit():
    known = references(pool(5), seed=0, dtype="bfloat16")
    said = {name: SPACES[1].encode(recipe) for name, recipe in known.items()}
    assert {name for name, genome in said.items() if genome is not None} == {"base", *(f"parent:{p}" for p in "abcde")}
    recipe = SPACES[1].decode(said["parent:e"])
    assert present(recipe) == "abe"
    assert recipe.slots[0].blends["*"].knobs["weight"] == pytest.approx((0.0, 0.0, 1.0))
    assert (
        SPACES[1].encode(references(replace(pool(3), digests=("sha-b", "sha-d", "sha-e")), seed=0, dtype="")["average"])
        is None
    )
    every = SPACES[3].encode(references(pool(3), seed=0, dtype="bfloat16")["average"])
    assert SPACES[3].decode(every).slots[0].blends["*"].knobs["weight"] == pytest.approx((1 / 3,) * 3)


def test_each_parent_of_slerp_is_said_by_an_end_of_its_arc():
    found, parents = SPACES[0], pool(8)
    assert holding.answers_each_reference(found, parents) == {f"parent:{p}" for p in "abcdefgh"}
    known = references(parents, seed=0, dtype="bfloat16")
    ends = {name: found.decode(found.encode(known[name])) for name in ("parent:a", "parent:b", "parent:f")}
    assert {
        n: (present(r), r.slots[3].blends["*"].knobs["t"], r.outer["head"].knobs["t"]) for n, r in ends.items()
    } == {
        "parent:a": ("ab", 0.0, 0.0),
        "parent:b": ("ab", 1.0, 1.0),
        "parent:f": ("af", 1.0, 1.0),
    }


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, True),
        ({"method": "linear"}, False),
        ({"method": "nuslerp"}, False),
        ({"method": "linear", "fixed": {"normalize": False}}, True),
        ({"method": "slerp"}, True),
        ({"take": 3, "method": "ties", "fixed": {"normalize": True}}, False),
    ],
)
def test_there_is_a_common_scale_where_the_weights_of_those_that_take_part_have_one(given, says):
    found = ParentChoice(pool(3, stacks={"model.layers": 4}), **given)
    assert found.common_scale == holding.common_factor_counts(found) == says


def test_merges_of_more_or_of_other_parents_have_no_genome():
    of_four = WeightsSpace(pool(4), method="dare_ties", parts=["mlp", "head"])
    assert SPACES[1].encode(of_four.decode(np.full(of_four.size, 0.5))) is None
    others = replace(pool(3), digests=("sha-a", "sha-b", "sha-x"))
    foreign = WeightsSpace(others, method="dare_ties", parts=["mlp", "head"])
    assert SPACES[1].encode(foreign.decode(np.full(foreign.size, 0.5))) is None


# ---------------------------------------------------------------- bad settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"take": 4}, r"space.take is 4 for 3 parents; wanted 1 to 3"),
        ({"take": 0}, r"space.take is 0 for 3 parents"),
        (
            {"take": 3, "method": "slerp"},
            r"method=slerp takes exactly 2 parents, got 3\. Change space.take or space.method",
        ),
        ({"method": "passthrough"}, r"method=passthrough takes exactly 1 parents, got 2\. Change space.take"),
        ({"method": "lineer"}, r"unknown method 'lineer'\. Did you mean 'linear'"),
        ({"fixed": {"weight": [1.0, 2.0]}}, r"space.fixed.weight has 2 values; wanted 3, one per parent of the pool"),
        ({"groups": 9}, r"space.groups is 9 for a model of 4 blocks"),
        ({"levels": 1}, r"space.levels is 1; wanted at least 2"),
    ],
)
def test_bad_settings_are_refused_with_what_was_wanted(given, message):
    with pytest.raises(ConfigError, match=message):
        ParentChoice(pool(3), **given)
