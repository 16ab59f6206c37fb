"""The weights space: what each gene means in the recipe, and the way back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evomerge.build import pick
from evomerge.errors import ConfigError
from evomerge.methods import METHODS, get
from evomerge.methods.coefficients import normalised
from evomerge.recipe_io import from_data
from evomerge.spaces.knobs import defaults
from evomerge.spaces.references import references
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import VECTORS, Blend, Recipe, Slot
from tests.spaces import holding
from tests.spaces.made_up import built
from tests.spaces.pools import numeric, of_method, pool

STANDING_IN = [name for name, method in METHODS.items() if method.plain]
#: Ways to cut the model into sets of genes.
CUTS = (
    {},
    {"groups": 2},
    {"groups": 3},
    {"groups": "per_layer"},
    {"groups": [[0, 1], [1, 4]]},
    {"groups": 3, "smooth": True},  # knots that fall between the four blocks
    {"groups": 2, "smooth": True},
    {"parts": ["self_attn", "mlp"]},
    {"groups": 2, "parts": ["norms", "embeddings", "head"]},
    {"parts": ["norms", "embeddings"], "mask_all": True},
    {"parts": ["vectors", "down_proj"]},
)
#: A gene for each weight, where linear by itself has shares.
FREE = {"per_parent": ["weight"]}
BY_HAND = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def space(method="task_arithmetic", parents=None, **settings):
    return WeightsSpace(of_method(method) if parents is None else parents, method=method, **settings)


def genome(of, data):
    drawn = data.draw(arrays(np.float64, of.size, elements=st.floats(0, 1)))
    return drawn


def at(of, name):
    return [v.name for v in of.variables].index(name)


def weights(recipe, part="*"):
    return [s.blends[part].knobs["weight"] for s in recipe.slots]


# ---------------------------------------------------------------- variables


@pytest.mark.parametrize(
    ("method", "settings", "size"),
    [
        ("task_arithmetic", {}, 3),
        ("task_arithmetic", {"groups": 2}, 6),
        ("ties", {}, 3 + 1),
        ("ties", {"per_parent": ["weight", "density"]}, 3 + 3),
        ("ties", {"per_parent": []}, 1 + 1),
        ("ties", {"groups": "per_layer", "parts": ["mlp"]}, 4 * 2 * (3 + 1)),
        ("dare_ties", {"groups": 2, "parts": ["embeddings"]}, 2 * (3 + 1) + 3),  # outside the blocks, and never masked
        ("dare_ties", {"groups": 2, "parts": ["embeddings"], "mask_all": True}, 2 * (3 + 1) + (3 + 1)),
        ("ties", {"fixed": {"normalize": True}}, 2 + 1 + 1),  # shares, density, scale
        ("slerp", {"groups": 2}, 2),
        ("nuslerp", {}, 1),
        ("multislerp", {}, 2),
        ("sce", {}, 2),
        ("passthrough", {}, 1),
        ("linear", {}, 2),
        ("linear", {"groups": 3}, 3 * 2),
        ("linear", {"per_parent": ["weight"]}, 3),
        ("linear", {"ranges": {"weight": [0, 1]}}, 3),
        ("linear", {"levels": 11}, 3),
        ("linear", {"fixed": {"normalize": False}}, 3),
        ("linear", {"search": ["weight", "normalize"]}, 3 + 1),
    ],
)
def test_there_are_as_many_genes_as_knobs_groups_parts_and_parents(method, settings, size):
    found = space(method, **settings)
    assert found.size == len(found.variables) == size
    assert len({v.name for v in found.variables}) == size


def test_variables_tell_range_scale_step_and_default_of_their_knob():
    weight, _, _, density = space("ties", ranges={"weight": [0, 2]}).variables
    assert (weight.name, weight.knob, weight.low, weight.high, weight.scale) == (
        "weight/rest/0/a",
        "weight",
        0,
        2,
        "linear",
    )
    assert (weight.leading, weight.default) == (True, pytest.approx(1 / 3 / 2))  # one of three parents
    assert weight.step == pytest.approx(1 / 6 / 2)
    assert (density.name, density.low, density.high, density.scale) == ("density/rest/0/all", 0.05, 1.0, "log")
    assert (density.leading, density.default) == (False, 1.0)


@pytest.mark.parametrize("method", METHODS)
def test_the_default_genome_decodes_to_the_defaults(method):
    found = space(method, search=[k.name for k in get(method).knobs])
    values = found.decode(np.array([v.default for v in found.variables])).slots[0].blends["*"].knobs
    n = len(of_method(method).digests)
    for knob in get(method).knobs:
        wanted = (1 / n,) * n if knob.name == "weight" else middle(knob) if knob.default is None else knob.default
        assert values[knob.name] == (pytest.approx(wanted) if knob.scale != "choice" else wanted)


def middle(knob):
    return (knob.low + knob.high) / 2


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_default_genome_of_a_model(method):
    found = space(method, model_pool(method))
    assert 1 <= found.size <= 4
    assert all(torch.isfinite(t).all() for t in built(found.decode(holding.default(found))))


def test_parents_of_one_name_have_genes_of_their_own():
    found = space(parents=replace(pool(2), names=("m", "m")))
    assert [v.name for v in found.variables] == ["weight/rest/0/m", "weight/rest/0/m#2"]


@pytest.mark.parametrize("part", ["embeddings", "head"])
@pytest.mark.parametrize(
    ("cut", "first", "last"),
    [
        ({}, (0, 1), (0, 1)),
        ({"groups": 4}, (0, 0.25), (0.75, 1)),
        ({"groups": [[1, 4], [0, 1]]}, (0, 0.25), (0.25, 1)),
        ({"groups": 2, "smooth": True}, (0, 0.5), (0.5, 1)),
    ],
)
def test_genes_outside_the_blocks_lie_where_the_group_does_that_they_lie_beside(part, cut, first, last):
    found = space("linear", parts=["embeddings", "head"], **cut)
    assert {v.depth for v in found.variables if v.part == part} == {first if part == "embeddings" else last}


@pytest.mark.parametrize(
    ("method", "given", "says"),
    [
        ("linear", {}, False),
        ("linear", {"groups": 2, "smooth": True, "parts": ["mlp", "head"]}, False),
        ("linear", {"per_parent": []}, False),
        ("linear", {"fixed": {"normalize": False}}, True),
        ("linear", {"search": ["weight", "normalize"]}, False),  # choices stay at their default
        ("task_arithmetic", {}, True),
        ("task_arithmetic", {"per_parent": []}, True),
        ("task_arithmetic", {"fixed": {"normalize": True}}, True),  # the scale leads
        ("task_arithmetic", {"fixed": {"normalize": True}, "search": ["weight"]}, False),
        ("task_arithmetic", {"search": ["scale"]}, False),  # nothing leads
        ("ties", {}, True),
        ("ties", {"fixed": {"normalize": True}}, True),  # the scale leads
        ("ties", {"fixed": {"normalize": True}, "per_parent": ["weight"], "search": ["weight"]}, False),
        ("ties", {"search": ["weight", "normalize"]}, False),
        ("nuslerp", {}, False),
        ("nuslerp", {"per_parent": ["weight"]}, False),
        ("multislerp", {"per_parent": ["weight"]}, False),
        ("multislerp", {"fixed": {"normalize_weights": False}}, True),
        ("karcher", {"per_parent": ["weight"]}, False),
        ("sce", {}, True),
        ("ram", {}, False),
        ("arcee_fusion", {}, False),
        ("model_stock", {}, True),
        ("dare_linear", {"fixed": {"normalize": True}, "search": ["weight"], "mask_all": True}, False),
        ("dare_ties", {}, True),
        ("slerp", {}, True),
        ("passthrough", {}, True),
    ],
)
def test_a_space_says_whether_a_common_factor_of_what_leads_is_another_model(method, given, says):
    found = space(method, model_pool(method), **given)
    assert found.common_scale == holding.common_factor_counts(found) == says


# ---------------------------------------------------------------- decode


@given(data=st.data(), method=st.sampled_from(sorted(METHODS)), cut=st.sampled_from(CUTS))
@settings(max_examples=80, deadline=None)
def test_encode_finds_the_genome_again(data, method, cut):
    found = space(method, search=numeric(method), per_parent=_per_parent(method), **cut)
    g = genome(found, data)
    recipe = found.decode(g)
    if normalised(get(method), defaults(get(method), of_method(method))):  # all-zero weights mean the average
        assume(all(sum(b.knobs["weight"]) < len(b.knobs["weight"]) for b in _blends(recipe)))
    assert found.encode(recipe) == pytest.approx(g, abs=1e-9)


@given(data=st.data(), cut=st.sampled_from(CUTS), method=st.sampled_from(["linear", "nuslerp", "karcher"]))
@settings(max_examples=60, deadline=None)
def test_encode_finds_the_shares_again(data, cut, method):
    found = space(method, **cut)
    g = genome(found, data)
    assume(all(b.knobs["weight"][-1] > 0 for b in _blends(found.decode(g))))  # a share of nothing is any share
    assert found.encode(found.decode(g)) == pytest.approx(g, abs=1e-9)


def _per_parent(method):
    return [k.name for k in get(method).knobs if k.per_parent]


def _blends(recipe):
    return [b for mapping in (*(s.blends for s in recipe.slots), recipe.outer) for b in mapping.values()]


@given(data=st.data(), method=st.sampled_from(sorted(METHODS)))
@settings(max_examples=30, deadline=None)
def test_choices_come_back_as_the_same_recipe(data, method):
    found = space(method, search=[k.name for k in get(method).knobs], groups=2)
    recipe = found.decode(genome(found, data) * 0.98 + 0.01)
    back = found.encode(recipe)
    again = found.decode(back)
    for ours, theirs in zip(_blends(recipe), _blends(again), strict=True):
        assert ours.method == theirs.method
        for name, value in ours.knobs.items():
            wanted = value if isinstance(value, bool | str) else pytest.approx(value, abs=1e-9)
            assert theirs.knobs[name] == wanted


@pytest.mark.parametrize("method", METHODS)
def test_the_genome_is_found_again_from_the_recipe_on_file(method):
    found = space(method, groups=2, parts=["mlp"])
    g = np.random.default_rng(0).uniform(0.1, 0.9, found.size)
    assert found.encode(from_data(json.loads(json.dumps(found.decode(g).data())))) == pytest.approx(g, abs=1e-9)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("method", METHODS)
def test_every_gene_counts_and_decoding_is_repeatable(method, cut):
    found = space(method, search=[k.name for k in get(method).knobs], per_parent=_per_parent(method), **cut)
    g = np.full(found.size, 0.4)
    digests = [found.decode(g).digest, found.decode(g.copy()).digest]
    assert digests[0] == digests[1]
    for i in range(found.size):
        other = g.copy()
        other[i] = 0.95
        digests.append(found.decode(other).digest)
    assert len(set(digests)) == 1 + found.size


def test_decoding_leaves_the_genome_alone():
    g = np.full(3, 0.4)
    space().decode(g)
    assert g.tolist() == [0.4] * 3


def test_groups_have_their_own_weights_by_hand():
    found = space("linear", pool(2), groups=[[0, 1], [1, 4]], **FREE)
    assert weights(found.decode(BY_HAND[:4])) == [pytest.approx(w) for w in [(0.1, 0.2)] + [(0.3, 0.4)] * 3]


def test_knots_are_interpolated_between_their_values():
    found = space("linear", pool(2, blocks=5), groups=2, smooth=True, **FREE)
    recipe = found.decode(np.array([0.0, 0.2, 1.0, 0.4]))
    wanted = [(0.0, 0.2), (0.25, 0.25), (0.5, 0.3), (0.75, 0.35), (1.0, 0.4)]
    assert weights(recipe) == [pytest.approx(w) for w in wanted]


def test_densities_are_interpolated_on_their_log_scale():
    found = space("ties", pool(1, blocks=3), groups=2, smooth=True, search=["density"], ranges={"density": [0.01, 1.0]})
    recipe = found.decode(np.array([0.0, 1.0]))
    assert [s.blends["*"].knobs["density"] for s in recipe.slots] == pytest.approx([0.01, 0.1, 1.0])


def test_groups_run_over_all_stacks_together():
    found = space("linear", pool(1, stacks={"encoder": 1, "decoder": 3}), groups=2)
    recipe = found.decode(np.array([0.25, 0.75]))
    assert [s.sources[0][1:] for s in recipe.slots] == [("encoder", 0), ("decoder", 0), ("decoder", 1), ("decoder", 2)]
    assert weights(recipe) == [(0.25,), (0.25,), (0.75,), (0.75,)]


def test_named_parts_have_their_own_weights_and_the_rest_shares():
    found = space("linear", pool(2), parts=["self_attn", "mlp"], **FREE)
    (blends, *_) = [s.blends for s in found.decode(BY_HAND).slots]
    assert list(blends) == ["self_attn", "mlp", "*"]  # the first match wins: the rest comes last
    assert [blends[p].knobs["weight"] for p in blends] == [
        pytest.approx(w) for w in [(0.1, 0.2), (0.3, 0.4), (0.5, 0.6)]
    ]


def test_embeddings_follow_the_first_group_and_final_norm_and_head_the_last():
    outer = space("linear", pool(1), groups="per_layer").decode(np.array([0.1, 0.2, 0.3, 0.4])).outer
    assert {part: b.knobs["weight"][0] for part, b in outer.items()} == pytest.approx(
        {"embeddings": 0.1, "head": 0.4, "*": 0.4}
    )


def test_embeddings_and_head_can_have_one_gene_each_whatever_the_groups():
    found = space("linear", pool(1), groups=2, parts=["embeddings", "head"])
    assert [v.name.split("/")[1] for v in found.variables] == ["embeddings", "head", "rest", "rest"]
    recipe = found.decode(np.array([0.1, 0.2, 0.3, 0.4]))
    assert {part: b.knobs["weight"][0] for part, b in recipe.outer.items()} == pytest.approx(
        {"embeddings": 0.1, "head": 0.2, "*": 0.4}
    )
    assert all(set(s.blends) == {"*"} for s in recipe.slots)


def test_the_final_norm_goes_with_the_norms_of_the_last_group():
    found = space("linear", pool(1), groups=2, parts=["norms"])
    recipe = found.decode(np.array([0.1, 0.2, 0.3, 0.4]))
    assert recipe.outer["*"].knobs["weight"] == pytest.approx((0.2,))
    assert recipe.outer["embeddings"].knobs["weight"] == pytest.approx((0.3,))


@pytest.mark.parametrize("method", STANDING_IN)
def test_vectors_embeddings_and_head_get_the_linear_stand_in_with_the_same_weights(method):
    found = space(method, search=["weight", "density", "scale"], fixed={"normalize": True}, groups=2)
    recipe = found.decode(np.linspace(0.1, 0.9, found.size))
    for slot in recipe.slots:
        assert next(iter(slot.blends)) == VECTORS
        thin, full = slot.blends[VECTORS], slot.blends["*"]
        assert (thin.method, full.method) == ("task_arithmetic", method)
        assert thin.knobs == {k: full.knobs[k] for k in ("weight", "scale", "normalize")}
        assert pick(slot.blends, "layers.0.input_layernorm.weight", {"norms", VECTORS}) is thin
        assert pick(slot.blends, "layers.0.mlp.up_proj.weight", {"mlp"}) is full
    assert [b.method for b in recipe.outer.values()] == ["task_arithmetic"] * 3
    assert recipe.outer["embeddings"].knobs == recipe.slots[0].blends[VECTORS].knobs
    assert recipe.outer["head"].knobs == recipe.outer["*"].knobs == recipe.slots[-1].blends[VECTORS].knobs


@pytest.mark.parametrize("method", STANDING_IN)
def test_with_mask_all_the_method_itself_rules_everywhere(method):
    found = space(method, mask_all=True, parts=["norms"])
    recipe = found.decode(np.full(found.size, 0.4))
    assert {b.method for b in _blends(recipe)} == {method}
    assert all(VECTORS not in s.blends for s in recipe.slots)


def test_own_genes_of_norms_rule_the_vectors():
    found = space("dare_ties", pool(1), parts=["norms"], search=["weight"])
    g = np.zeros(2)
    g[at(found, "weight/norms/0/a")] = 1.0
    blends = found.decode(g).slots[0].blends
    assert pick(blends, "layers.0.input_layernorm.weight", {"norms", VECTORS}).knobs["weight"] == (1.2,)
    assert pick(blends, "layers.0.mlp.up_proj.weight", {"mlp"}).knobs["weight"] == pytest.approx((0.0,))


def test_own_genes_of_vectors_go_to_their_linear_stand_in():
    found = space("dare_ties", pool(1), parts=["vectors"], search=["weight"])
    g = np.zeros(2)
    g[at(found, "weight/vectors/0/a")] = 1.0
    blend = pick(found.decode(g).slots[0].blends, "layers.0.input_layernorm.weight", {"norms", VECTORS})
    assert (blend.method, blend.knobs["weight"]) == ("task_arithmetic", (1.2,))


def test_all_zero_normalised_weights_mean_the_plain_average():
    assert weights(space("linear", **FREE).decode(np.zeros(3))) == [(1.0, 1.0, 1.0)] * 4
    assert weights(space("linear", per_parent=[]).decode(np.zeros(1))) == [1.0] * 4
    assert weights(space("karcher", **FREE).decode(np.zeros(3))) == [(1.0, 1.0, 1.0)] * 4
    given = {"search": ["weight"], "ranges": {"weight": [-1, 1]}, "fixed": {"normalize": True}}
    opposite = space("task_arithmetic", pool(2), **given)
    assert weights(opposite.decode(np.array([1.0, 0.0]))) == [(1.0, 1.0)] * 4


def test_all_zero_weights_without_normalising_mean_the_base():
    found = space("task_arithmetic", ranges={"weight": [0, 1]})
    assert weights(found.decode(np.zeros(3))) == [(0.0, 0.0, 0.0)] * 4


def test_knobs_without_genes_are_fixed_or_at_their_defaults():
    knobs = space("dare_ties", fixed={"rescale": "l1", "scale": 0.7}).decode(np.full(4, 0.5)).slots[0].blends["*"].knobs
    assert (knobs["rescale"], knobs["scale"], knobs["normalize"]) == ("l1", 0.7, False)
    assert set(knobs) == {k.name for k in get("dare_ties").knobs}


def test_knobs_per_parent_are_tuples_and_others_one_number():
    knobs = space("ties", per_parent=["density"]).decode(np.array([0.2, 0.0, 0.5, 1.0])).slots[0].blends["*"].knobs
    assert isinstance(knobs["weight"], float)
    assert knobs["density"] == pytest.approx((0.05, 0.05**0.5, 1.0))


def test_ranges_and_scales_change_what_a_gene_means():
    found = space("ties", pool(1), ranges={"weight": [2, 4], "density": [0.5, 1]}, scales={"density": "linear"})
    knobs = found.decode(np.array([0.5, 0.5])).slots[0].blends["*"].knobs
    assert (knobs["weight"], knobs["density"]) == ((3.0,), 0.75)


def test_recipes_carry_pool_seed_and_dtype():
    recipe = WeightsSpace(pool(2), seed=7, dtype="bfloat16").decode(np.full(2, 0.5))
    assert (recipe.parents, recipe.base, recipe.seed, recipe.out_dtype) == (("sha-a", "sha-b"), "base", 7, "bfloat16")
    assert recipe.dtype == "float32"


# ---------------------------------------------------------------- levels


def test_a_searched_number_takes_evenly_spread_values_ends_included():
    found = space("task_arithmetic", pool(1), ranges={"weight": [0.0, 2.0]}, levels=5)
    values = {weights(found.decode(np.array([g])))[0][0] for g in np.linspace(0, 1, 101)}
    assert sorted(values) == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert found.variables[0].levels == 5


def test_levels_of_a_log_knob_are_even_on_its_scale():
    found = space("ties", pool(1), search=["density"], ranges={"density": [0.01, 1.0]}, levels=3)
    recipes = [found.decode(np.array([g])) for g in (0.1, 0.5, 0.9)]
    assert [r.slots[0].blends["*"].knobs["density"] for r in recipes] == pytest.approx([0.01, 0.1, 1.0])


def test_a_choice_keeps_the_levels_it_has():
    found = space("ties", pool(1), search=["weight", "rescale"], levels=11)
    assert [(v.knob, v.levels, v.scale) for v in found.variables] == [
        ("weight", 11, "linear"),
        ("rescale", len(get("ties").knob("rescale").values), "choice"),
    ]


LEVELLED = [
    space(m, search=[k.name for k in get(m).knobs], levels=n, **cut)
    for m, n, cut in (
        ("task_arithmetic", 2, {"groups": 2}),
        ("ties", 11, {"groups": 3, "smooth": True}),
        ("dare_linear", 7, {"parts": ["mlp", "head"]}),
        ("slerp", 11, {"groups": 2, "smooth": True}),
    )
]


@given(data=st.data(), found=st.sampled_from(LEVELLED))
@settings(max_examples=60, deadline=None)
def test_settled_genomes_mean_the_same_and_are_found_again(data, found):
    g = genome(found, data)
    holding.holds_when_settled(found, g)
    settled = holding.problem(found).settled(g)
    recipe = found.decode(settled)
    if not any(b.knobs.get("normalize") for b in _blends(recipe)):  # else weights that cancel mean the average
        assert holding.comes_back(found, recipe) == pytest.approx(settled, abs=1e-12)


def test_every_default_is_settled():
    for found in LEVELLED:
        assert np.array_equal(holding.problem(found).settled(holding.default(found)), holding.default(found))


def test_values_off_the_grid_have_no_genome():
    fine, coarse = space("task_arithmetic", pool(2)), space("task_arithmetic", pool(2), levels=11)
    assert coarse.encode(fine.decode(np.array([0.3, 0.7]))).tolist() == [3.5 / 11, 7.5 / 11]
    assert coarse.encode(fine.decode(np.array([0.3, 0.72]))) is None


def test_with_knots_a_choice_is_that_of_the_nearest_one():
    found = space("ties", pool(1, blocks=5), search=["rescale"], groups=2, smooth=True)
    recipe = found.decode(np.array([0.1, 0.9]))
    assert [s.blends["*"].knobs["rescale"] for s in recipe.slots] == ["none"] * 3 + ["inv_p"] * 2


# ---------------------------------------------------------------- references as genomes

EVERYONE = {"parent:a", "parent:b", "parent:c"}
WHOLE, VOTED = {"base", *EVERYONE, "average"}, {"base", *EVERYONE}
EXPRESSIBLE = {
    "linear": {*EVERYONE, "average"},
    "slerp": {"parent:a", "parent:b"},
    "nuslerp": {"parent:a", "parent:b"},
    "multislerp": EVERYONE,
    "karcher": EVERYONE,
    "task_arithmetic": WHOLE,
    "ties": VOTED,
    "dare_linear": WHOLE,
    "dare_ties": VOTED,
    "della": VOTED,
    "della_linear": WHOLE,
    "breadcrumbs": WHOLE,
    "breadcrumbs_ties": VOTED,
    "sce": set(),
    "ram": set(),
    "ramplus_tl": set(),
    "model_stock": set(),
    "nearswap": {"parent:a"},
    "arcee_fusion": set(),
    "passthrough": {"parent:a", "average"},
}


def model_pool(method):
    n = len(of_method(method).digests)
    return pool(n, stacks={"model.layers": 4})


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("method", METHODS)
def test_references_are_expressed_where_they_can_be_and_are_then_the_same_model(method, cut):
    parents = model_pool(method)
    found = space(method, parents, **cut)
    expressed = set()
    for name, recipe in references(parents, seed=0, dtype="bfloat16").items():
        g = found.encode(recipe)
        if g is None:
            continue
        expressed.add(name)
        assert ((g >= 0) & (g <= 1)).all()
        for ours, theirs in zip(built(found.decode(g)), built(recipe), strict=True):
            assert torch.allclose(ours, theirs, rtol=0, atol=1e-5), name
    assert expressed == EXPRESSIBLE[method]


def test_the_genome_of_a_parent_is_its_one_hot_weights():
    found = space("linear", pool(3))
    recipe = references(pool(3), seed=0, dtype="bfloat16")["parent:b"]
    assert found.encode(recipe).tolist() == [0.0, 1.0]  # shares of what is left
    assert space("linear", pool(3), **FREE).encode(recipe).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("given", "equal"), [({}, 1 / 3), ({"levels": 11}, 0.3), ({"ranges": {"weight": [0.5, 1]}}, 0.5)]
)
def test_the_average_is_equal_weights_amid_the_range(given, equal):
    found = space("linear", pool(3), **given)
    recipe = found.decode(found.encode(references(pool(3), seed=0, dtype="bfloat16")["average"]))
    assert weights(recipe)[0] == pytest.approx((equal,) * 3)


def test_the_parents_of_slerp_are_the_ends_of_its_arc():
    found = space("slerp", groups=2, levels=5)
    known = references(pool(2), seed=0, dtype="bfloat16")
    ends = {name: found.encode(recipe) for name, recipe in known.items()}
    assert {name: g if g is None else g.tolist() for name, g in ends.items()} == {
        "base": None,
        "parent:a": [0.1, 0.1],  # of five levels the first and the last
        "parent:b": [0.9, 0.9],
        "average": None,
    }
    assert space("slerp", ranges={"t": [0, 0.9]}).encode(known["parent:b"]) is None


def test_a_base_that_is_listed_among_the_parents_is_a_parent():
    listed = replace(pool(2), digests=("base", "sha-b"))
    recipe = references(listed, seed=0, dtype="bfloat16")["base"]
    assert space("linear", listed).encode(recipe).tolist() == [1.0]


@pytest.mark.parametrize(
    ("method", "settings", "lost"),
    [
        ("linear", {"ranges": {"weight": [0.1, 1]}}, EVERYONE),  # no zero
        ("task_arithmetic", {"ranges": {"weight": [0, 0.5]}}, EVERYONE),  # no one
        ("task_arithmetic", {"fixed": {"scale": 0.5}}, {*EVERYONE, "average"}),
        ("task_arithmetic", {"fixed": {"normalize": True}}, {"base"}),
        ("multislerp", {"ranges": {"weight": [0.1, 1]}}, EVERYONE),
        ("nearswap", {"fixed": {"t": 0.001}}, {"parent:a"}),
        ("nearswap", {"ranges": {"t_quantile": [0, 0.9]}}, {"parent:a"}),
        ("task_arithmetic", {"per_parent": []}, {*EVERYONE}),
        ("ties", {"fixed": {"density": 0.2}}, EVERYONE),  # would be trimmed
        ("ties", {"ranges": {"density": [0.1, 0.9]}}, EVERYONE),
        ("dare_linear", {"fixed": {"density": 0.5}}, {*EVERYONE, "average"}),
    ],
)
def test_references_outside_the_settings_are_not_expressed(method, settings, lost):
    parents = model_pool(method)
    found = space(method, parents, **settings)
    genomes = {n: found.encode(r) for n, r in references(parents, seed=0, dtype="bfloat16").items()}
    assert {n for n, g in genomes.items() if g is not None} == EXPRESSIBLE[method] - lost


def recipe_of(blends, parents=("sha-a", "sha-b"), blocks=4):
    slots = tuple(Slot(tuple((p, "layers", b) for p in range(len(parents))), blends(b)) for b in range(blocks))
    return Recipe(parents, "base", slots, blends(blocks - 1))


def test_foreign_recipes_are_not_expressed():
    found = space("ties", pool(2), search=["weight"])
    knobs = {"weight": (0.5, 0.25), "density": 1.0, "scale": 1.0, "normalize": False, "rescale": "none"}

    def encoded(method="ties", of=recipe_of, **changes):
        return found.encode(of(lambda b: {"*": Blend(method, {**knobs, **changes})}))

    assert encoded() is not None
    assert encoded(method="dare_ties") is None
    assert encoded(density=0.5) is None
    assert encoded(normalize=True) is None
    assert encoded(weight=(0.5, 9.0)) is None
    assert encoded(of=lambda blends: recipe_of(blends, parents=("sha-a", "sha-x"))) is None
    assert encoded(of=lambda blends: recipe_of(blends, parents=("sha-b", "sha-a"))) is None
    assert encoded(of=lambda blends: recipe_of(blends, blocks=3)) is None
    assert found.encode(Recipe(("sha-a", "sha-b"), "base", (), {})) is None
    assert found.encode(recipe_of(lambda b: {"mlp": Blend("ties", knobs)})) is None


def test_recipes_that_move_blocks_or_scale_or_have_another_base_are_not_expressed():
    found = space("task_arithmetic", pool(2), groups=2)
    recipe = found.decode(np.full(4, 0.3))
    assert found.encode(recipe) is not None
    assert found.encode(replace(recipe, slots=recipe.slots[::-1])) is None
    assert found.encode(replace(recipe, slots=tuple(replace(s, scale=0.5) for s in recipe.slots))) is None
    assert found.encode(replace(recipe, base="other")) is None
    known = references(pool(2), seed=0, dtype="bfloat16")["parent:a"]
    halved = tuple(Slot(s.sources, {"*": Blend("passthrough", {"scale": 0.5})}) for s in known.slots)
    assert found.encode(replace(known, slots=halved)) is None
    whole = tuple(Slot(s.sources, {"*": Blend("passthrough", {"scale": 1.0})}) for s in known.slots)
    assert found.encode(replace(known, slots=whole)) is not None


def test_a_knob_that_a_recipe_leaves_out_is_at_the_methods_default():
    def encoded(**fixed):
        found = space("ties", pool(2), search=["weight"], fixed=fixed)
        return found.encode(recipe_of(lambda b: {"*": Blend("ties", {"weight": (0.5, 0.25)})}))

    assert encoded(normalize=True) is not None  # as the method does when not told
    assert encoded(normalize=False) is None
    assert encoded(normalize=True, density=0.5) is None


def test_weights_that_differ_within_a_group_are_not_expressed():
    found = space("task_arithmetic", pool(2), groups=2)
    by_block = [0.1, 0.1, 0.3, 0.3]

    def encoded(values):
        return found.encode(recipe_of(lambda b: {"*": Blend("task_arithmetic", {"weight": (values[b], 0.5)})}))

    assert encoded(by_block) is not None
    assert encoded([0.1, 0.2, 0.3, 0.3]) is None
    assert encoded([0.1, 0.1, 0.3, 0.4]) is None


# ---------------------------------------------------------------- bad settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "tie"}, r"unknown method 'tie'\. Did you mean 'ties'"),
        ({"method": "slerp"}, r"space.method=slerp takes exactly 2 parents, got 3"),
        ({"groups": 5}, r"space.groups is 5 for a model of 4 blocks; wanted 1 to 4"),
        ({"groups": [[0, 3], [2, 4]]}, r"cover block 2 2 times"),
        ({"groups": "all"}, r"space.groups is 'all'"),
        ({"search": ["density"]}, r"space.search: unknown knob of task_arithmetic 'density'"),
        ({"search": ["weight"], "fixed": {"weight": 1.0}}, r"space.search and space.fixed both name weight"),
        ({"per_parent": ["wait"]}, r"space.per_parent: unknown knob of task_arithmetic 'wait'"),
        ({"per_parent": ["scale"]}, r"space.per_parent names scale"),
        ({"ranges": {"weight": [1.5, -0.2]}}, r"space.ranges.weight is \[1.5, -0.2\]; wanted \[low, high\]"),
        ({"scales": {"weight": "log"}}, r"starts at -0.5 on a log scale"),
        ({"parts": ["mlp", "mlp"]}, r"space.parts names 'mlp', which has genes already"),
        ({"parts": ["*"]}, r"space.parts names '\*', which has genes already"),
        ({"levels": 1}, r"space.levels is 1; wanted at least 2 values for each number, or null for any"),
        ({"parts": ["rest"]}, r"space.parts names 'rest', which has genes already"),
    ],
)
def test_bad_settings_are_refused_with_what_was_wanted(settings, message):
    with pytest.raises(ConfigError, match=message):
        WeightsSpace(pool(3), **settings)


def test_differences_without_a_base_are_refused():
    with pytest.raises(ConfigError, match=r"space.method=ties merges differences from a base\. Set parents.base"):
        WeightsSpace(pool(2, base=None), method="ties")
