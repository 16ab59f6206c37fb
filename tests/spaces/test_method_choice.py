"""The method as a choice: one space per method, and genes that count only where their method was chosen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import ConfigError
from evomerge.methods import METHODS as TABLE
from evomerge.methods import get
from evomerge.problem import gene_of
from evomerge.spaces.likeness import alike
from evomerge.spaces.method_choice import METHODS, MethodChoice
from evomerge.spaces.references import references
from evomerge.spaces.weights import WeightsSpace
from tests.spaces import holding
from tests.spaces.pools import pool

#: Ways to cut the model, and the parents that are merged.
CASES = (
    (2, {}),
    (2, {"groups": 2, "parts": ["mlp"]}),
    (3, {"groups": [[0, 1], [1, 4]], "parts": ["embeddings", "head"]}),
    (4, {"groups": "per_layer", "parts": ["norms", "self_attn"]}),
    (3, {"groups": 2, "methods": ["dare_ties", "slerp"], "search": {"dare_ties": ["weight", "rescale"]}}),
)
SPACES = [MethodChoice(pool(parents), **given) for parents, given in CASES]


def choosing(space, *names, others=0.5):
    """A genome in which the groups choose these methods."""
    genome = np.full(space.size, others)
    methods = list(dict.fromkeys(v.knob.split("/")[0] for v in space.variables if "/" in v.knob))
    genome[: len(names)] = [gene_of(methods.index(name), len(methods)) for name in names]
    return genome


# ---------------------------------------------------------------- variables


def test_layer_wise_fusion_has_the_112_genes_of_its_paper():
    found = MethodChoice(
        pool(3, blocks=40),
        groups=4,
        parts=["self_attn", "mlp"],
        search={"task_arithmetic": ["scale"], "ties": ["density", "scale"]},
        ranges={"linear": {"weight": [0, 1]}},  # a gene for each, normalised as they are
    )
    assert found.size == 4 * 3 * (3 + 3 + 1 + 2) + 4 == 112


def test_knobs_of_different_methods_are_different_quantities():
    found = MethodChoice(pool(2), groups=2)
    assert [v.name for v in found.variables[:3]] == ["method/all/0/all", "method/all/1/all", "linear/share/rest/0/a"]
    assert len({v.name for v in found.variables}) == found.size
    weights = [v.knob for v in found.variables if v.name.endswith("weight/rest/0/a")]
    assert weights == ["task_arithmetic/weight", "ties/weight"]


def test_choices_are_discrete_and_lie_over_their_group():
    choices = [v for v in MethodChoice(pool(2), groups=2).variables if v.knob == "method"]
    assert [(v.levels, v.scale, v.leading, v.depth) for v in choices] == [
        (4, "choice", False, (0.0, 0.5)),
        (4, "choice", False, (0.5, 1.0)),
    ]


def test_genes_outside_the_blocks_lie_where_their_group_does():
    found = MethodChoice(pool(3), groups=[[1, 4], [0, 1]], parts=["embeddings", "head"])
    outer = {(v.part, v.depth) for v in found.variables if v.part in ("embeddings", "head")}
    assert outer == {("embeddings", (0.0, 0.25)), ("head", (0.25, 1.0))}


@pytest.mark.parametrize(
    ("parents", "methods", "says"),
    [
        (3, ["task_arithmetic", "linear"], True),
        (3, ["linear", "task_arithmetic"], False),  # normalised, and the choice of the default
        (2, ["slerp", "linear"], True),
        (3, ["slerp", "task_arithmetic"], False),  # scores
    ],
)
def test_the_common_scale_is_that_of_the_first_method(parents, methods, says):
    found = MethodChoice(pool(parents, stacks={"model.layers": 4}), methods=methods, groups=2)
    assert found.common_scale == holding.common_factor_counts(found) == says


# ---------------------------------------------------------------- decode


@given(data=st.data(), space=st.sampled_from(SPACES))
@settings(max_examples=60, deadline=None)
def test_settled_genomes_mean_the_same_and_inactive_genes_mean_nothing(data, space):
    genome = data.draw(holding.genomes(space.size))
    holding.holds_when_settled(space, genome)
    holding.only_active_genes_count(space, genome, data.draw(holding.genomes(space.size)))


@pytest.mark.parametrize("parents", [1, 2, 3])
def test_all_methods_that_take_these_parents_may_be_chosen_among(parents):
    fit = [m for m in TABLE if takes(m, parents)]
    found = MethodChoice(pool(parents), groups=2, methods=fit)
    assert found.common_scale == WeightsSpace(pool(parents), method=fit[0]).common_scale
    for method in fit:
        recipe = found.decode(choosing(found, method, method, others=0.4))
        assert {slot.blends["*"].method for slot in recipe.slots} == {method}
        assert alike(found.decode(found.encode(recipe)), recipe)


def takes(method, parents):
    low, high = get(method).arity
    return low <= parents <= (high or parents)


@pytest.mark.parametrize("names", [("linear", "ties"), ("task_arithmetic", "slerp"), ("slerp", "slerp")])
def test_every_active_gene_counts(names):
    found = MethodChoice(pool(2), groups=2, parts=["mlp", "embeddings", "head"])
    holding.every_active_gene_counts(found, choosing(found, *names, others=0.4))


@pytest.mark.parametrize("method", [m for m in METHODS if m != "slerp"])
def test_one_method_everywhere_is_that_methods_own_space(method):
    parents, cut = pool(3), {"groups": 2, "parts": ["mlp", "head"]}
    alone, found = WeightsSpace(parents, method=method, **cut), MethodChoice(parents, **cut)
    genome = choosing(found, method, method, others=0.3)
    genome[[v.knob.startswith(f"{method}/") for v in found.variables]] = own = np.linspace(0.1, 0.9, alone.size)
    assert found.decode(genome) == alone.decode(own)


def test_each_group_has_the_blends_of_its_method():
    recipe = SPACES[1].decode(choosing(SPACES[1], "ties", "slerp"))
    assert [s.blends["*"].method for s in recipe.slots] == ["ties", "ties", "slerp", "slerp"]
    assert [s.blends["mlp"].method for s in recipe.slots] == ["ties", "ties", "slerp", "slerp"]


def test_embeddings_follow_the_first_groups_method_and_the_head_the_last_ones():
    recipe = SPACES[1].decode(choosing(SPACES[1], "task_arithmetic", "slerp"))
    assert {part: blend.method for part, blend in recipe.outer.items()} == {
        "embeddings": "task_arithmetic",
        "head": "slerp",
        "*": "slerp",
    }


def test_genes_of_the_embeddings_count_where_the_first_block_chose_their_method():
    found = SPACES[2]
    active = dict(zip([v.name for v in found.variables], found.active(choosing(found, "linear", "ties")), strict=True))
    assert active["linear/share/embeddings/0/a"] and not active["ties/weight/embeddings/0/a"]
    assert active["ties/weight/head/0/a"] and not active["linear/share/head/0/a"]
    assert active["linear/share/rest/0/a"] and not active["linear/share/rest/1/a"]


def test_slerp_of_many_parents_names_two_of_them():
    found = MethodChoice(pool(4))
    genome = choosing(found, "slerp", others=0.2)
    genome[[holding.at(found, f"slerp/score/rest/0/{p}") for p in "bd"]] = 0.9
    assert [p for p, _, _ in found.decode(genome).slots[0].sources] == [1, 3]


def test_a_recipe_of_three_methods_builds_and_speaks(trio):
    found = MethodChoice(trio.pool(), groups=2, parts=["mlp"])
    seen = [
        holding.finite_logits(found.decode(choosing(found, *names, others=0.6)), trio)
        for names in (("ties", "slerp"), ("slerp", "linear"), ("linear", "task_arithmetic"))
    ]
    assert not any((a == b).all() for a, b in pairwise(seen))


# ---------------------------------------------------------------- encode


@given(data=st.data(), space=st.sampled_from(SPACES))
@settings(max_examples=60, deadline=None)
def test_every_recipe_of_the_space_has_a_genome(data, space):
    found = holding.comes_back(space, space.decode(data.draw(holding.genomes(space.size)) * 0.98 + 0.01))
    assert np.array_equal(holding.problem(space).settled(found), found)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_encode_finds_the_settled_genome_again(data):
    """Where no linear weights are all zero, and slerp has one gene for its t."""
    space = SPACES[1]
    genome = holding.problem(space).settled(data.draw(holding.genomes(space.size)) * 0.98 + 0.01)
    assert holding.comes_back(space, space.decode(genome)) == pytest.approx(genome, abs=1e-9)


@pytest.mark.parametrize(("n", "space"), [(n, space) for (n, _), space in zip(CASES[:4], SPACES, strict=False)])
def test_references_are_said_by_the_first_method_that_can(n, space):
    parents = pool(n)
    said = {
        name: space.decode(space.encode(recipe)).slots[0].blends["*"]
        for name, recipe in references(parents, seed=0, dtype="bfloat16").items()
    }
    assert {name: b.method for name, b in said.items() if name != "base"} == dict.fromkeys(
        set(said) - {"base"}, "linear"
    )
    assert (said["base"].method, said["base"].knobs["weight"]) == ("task_arithmetic", (0.0,) * n)
    assert said["parent:b"].knobs["weight"] == tuple(float(p == 1) for p in range(n))
    assert said["average"].knobs["weight"] == pytest.approx((1 / n,) * n)


def test_what_no_method_says_has_no_genome():
    found = MethodChoice(pool(2), groups=2)
    recipe = found.decode(choosing(found, "ties", "linear"))
    assert found.encode(recipe) is not None
    assert MethodChoice(pool(2), groups=2, methods=["linear", "slerp"]).encode(recipe) is None
    assert MethodChoice(pool(2)).encode(recipe) is None
    assert MethodChoice(pool(3), groups=2).encode(recipe) is None
    assert MethodChoice(pool(2, base="other"), groups=2).encode(recipe) is None
    assert MethodChoice(pool(2, blocks=6), groups=2).encode(recipe) is None


# ---------------------------------------------------------------- bad settings


@pytest.mark.parametrize(
    ("parents", "given", "message"),
    [
        (pool(2), {"methods": ["linear", "tie"]}, r"unknown method 'tie'\. Did you mean 'ties'"),
        (pool(2), {"methods": ["ties"]}, r"space.methods is \['ties'\]; wanted two or more.* use space=weights"),
        (pool(2), {"methods": ["ties", "ties"]}, r"wanted two or more, each once"),
        (
            pool(2),
            {"methods": ["linear", "passthrough"]},
            r"space.methods=passthrough takes exactly 1 parents, got 2\. Leave",
        ),
        (pool(1), {}, r"space.methods=slerp takes exactly 2 parents, got 1"),
        (pool(2, base=None), {}, r"space.methods=task_arithmetic merges differences from a base"),
        (pool(2), {"ranges": {"dare": {"weight": [0, 1]}}}, r"space.ranges: unknown method of space.methods 'dare'"),
        (pool(2), {"fixed": {"tie": {"scale": 1.0}}}, r"space.fixed: .*'tie'\. Did you mean 'ties'"),
        (pool(2), {"ranges": {"ties": {"wait": [0, 1]}}}, r"of ties: space.ranges: unknown knob of ties 'wait'"),
        (pool(2), {"search": {"linear": []}}, r"of linear: the space has no knob to search"),
        (pool(3), {"ranges": {"slerp": {"t": [0, 1]}}}, r"space.ranges names slerp, which has no t but scores among 3"),
        (pool(2), {"groups": 5}, r"space.groups is 5 for a model of 4 blocks"),
        (pool(3), {"parts": ["mlp", "mlp"]}, r"space.parts names 'mlp', which has genes already"),
    ],
)
def test_bad_settings_are_refused_with_what_was_wanted(parents, given, message):
    with pytest.raises(ConfigError, match=message):
        MethodChoice(parents, **given)
