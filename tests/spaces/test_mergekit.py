"""The mergekit space: what mergekit-evolve itself makes of raw genes, bounds and defaults, and the way back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evomerge.build import pick
from evomerge.errors import ConfigError
from evomerge.models import layout
from evomerge.recipe_io import from_data
from evomerge.spaces.mergekit import NORMALIZED, MergekitSpace
from evomerge.spaces.references import references
from evomerge.types import VECTORS, Blend, Pool, Recipe
from tests.spaces import holding
from tests.spaces.pools import pool

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "mergekit_genome.json").read_text())
TENSORS, LAYERS = GOLDEN["meta"]["tensors"], GOLDEN["meta"]["layers"]
CASES = [(case["definition"], genome) for case in GOLDEN["cases"] for genome in case["genomes"]]
FAMILY = pool(3, stacks={"model.layers": LAYERS})
METHODS = ("linear", "task_arithmetic", "ties", "dare_ties", "slerp")
WEIGHTED = METHODS[:-1]
#: Ways to cut a model of four blocks into sets of genes.
CUTS = (
    {},
    {"layer_granularity": 2},
    {"layer_granularity": 1, "filters": ["self_attn", "mlp"]},
    {"layer_granularity": 2, "smooth": True},
    {"layer_granularity": 1, "smooth": True, "filters": ["embed_tokens"]},
    {"layer_granularity": 2, "filters": ["embed_tokens", "lm_head"], "allow_negative_weights": True},
    {"filters": ["mlp", "mlp", "*", "norm"]},
)


def space(method="task_arithmetic", parents=None, **given):
    return MergekitSpace(FAMILY if parents is None else parents, merge_method=method, **given)


def cut_for(method, cut):
    return {k: v for k, v in cut.items() if k == "layer_granularity"} if method == "slerp" else cut


# ---------------------------------------------------------------- against mergekit


@pytest.mark.parametrize(
    ("definition", "genome"), CASES, ids=[f"{i}-{d['merge_method']}" for i, (d, _) in enumerate(CASES)]
)
def test_raw_genes_mean_what_mergekit_resolves_for_every_tensor(definition, genome):
    recipe = space_of(definition).merge(live(definition, genome["raw"]))
    for name, number in zip(TENSORS, genome["which"], strict=True):
        assert_resolved(recipe, name, genome["parameters"][number])


def space_of(definition):
    given = {k: v for k, v in definition.items() if k not in ("models", "base_model")}
    models, base = tuple(definition["models"]), definition["base_model"]
    return MergekitSpace(Pool(models, models, base, {"model.layers": LAYERS}), **given)


def live(definition, raw):
    """The genes without those of a base among the models, which mergekit has and never reads."""
    models = definition["models"]
    step = (definition.get("layer_granularity") or LAYERS, len(models))
    genes = np.array(raw).reshape(LAYERS // step[0], step[1], -1)
    read = [m != definition["base_model"] or definition["merge_method"] == "linear" for m in models]
    return genes[:, read].ravel()


def assert_resolved(recipe, name, wanted):
    blend, parents = at(recipe, name)
    if "t" in wanted:
        assert_between(blend, parents, wanted)
        return
    weights = {p: v["weight"] for p, v in wanted["inputs"].items() if v}
    densities = {p: v.get("density", 1.0) for p, v in wanted["inputs"].items() if v}
    assert parents == tuple(weights)
    assert blend.knobs["weight"] == pytest.approx(tuple(weights.values()), abs=1e-6)
    assert blend.knobs.get("density", (1.0,) * len(parents)) == pytest.approx(tuple(densities.values()), abs=1e-6)
    assert blend.knobs["normalize"] == wanted["normalize"]
    assert blend.knobs.get("rescale", "none") == ("l1" if wanted.get("rescale") else "none")


def assert_between(blend, parents, wanted):
    """mergekit has t = 0 at its base; ours is the first parent, or linear weights among more than two."""
    shares = {p: wanted["t"] if p != wanted["base"] else 1 - wanted["t"] for p in wanted["inputs"]}
    if blend.method == "slerp":
        found = dict(zip(parents, (1 - blend.knobs["t"], blend.knobs["t"]), strict=True))
    else:
        found = {p: w for p, w in zip(parents, blend.knobs["weight"], strict=True) if w}
        assert (blend.method, blend.knobs["normalize"], len(parents) > 2) == ("linear", False, True)
    assert found == pytest.approx(shares, abs=1e-6)


def at(recipe, name):
    """The blend of a tensor and the parents that it blends."""
    where = layout.place(name)
    labels = {where.part, *([VECTORS] if "norm" in name else [])}
    if where.stack is None:
        return pick(recipe.outer, name, labels), recipe.parents
    slot = recipe.slots[where.block]
    assert all(source[1:] == (where.stack, where.block) for source in slot.sources)
    return pick(slot.blends, name, labels), tuple(recipe.parents[p] for p, _, _ in slot.sources)


# ---------------------------------------------------------------- variables


def test_the_genes_are_in_mergekits_order():
    found = space("ties", pool(2), layer_granularity=2, filters=["mlp"])
    assert [v.name for v in found.variables] == [
        f"{knob}/{part}/{group}/{parent}"
        for group in (0, 1)
        for parent in "ab"
        for part in ("mlp", "rest")
        for knob in ("weight", "density")
    ]
    assert [v.leading for v in found.variables[:2]] == [True, False]


def test_genes_of_one_knob_part_and_parent_are_pieces_over_depth():
    found = space("ties", pool(2), layer_granularity=1, smooth=True, filters=["mlp"])
    pieces = {}
    for v in found.variables:
        pieces.setdefault((v.knob, v.part, v.parent), []).append(v.depth)
    assert set(pieces) == {(k, part, p) for k in ("weight", "density") for part in ("mlp", "rest") for p in "ab"}
    assert all(depths == [(b / 4, (b + 1) / 4) for b in range(4)] for depths in pieces.values())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("normalize", [None, False, True])
def test_the_space_says_whether_a_common_factor_of_its_weights_is_another_model(method, normalize):
    found = space(method, normalize=normalize, layer_granularity=2)
    assert found.common_scale == holding.common_factor_counts(found)
    assert found.common_scale == (method != "slerp" and not ((normalize is None and method in NORMALIZED) or normalize))


def test_weights_lead_and_scores_of_which_only_the_differences_count_do_not():
    assert all(v.leading for v in space("linear").variables)
    found = space("slerp", layer_granularity=2)
    assert not any(v.leading for v in found.variables)
    raw = np.array([0.2, 0.9, 0.4, 1.3, 0.1, 0.8])
    assert all_knobs(found.merge(raw + 2)) == nearly(all_knobs(found.merge(raw)))


@pytest.mark.parametrize("filters", [["mlp", "mlp"], ["rest"]])
def test_filters_of_one_name_have_parts_of_their_own(filters):
    found = space("linear", pool(2), filters=filters)
    assert len({v.name for v in found.variables}) == len({(v.part, v.parent) for v in found.variables}) == found.size


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("given", [{}, {"allow_negative_weights": True}, {"low": -2.0, "high": 3.0}])
def test_the_default_genome_is_mergekits_start(method, given):
    found = space(method, **given)
    start = np.array([v.default for v in found.variables])
    wanted = [1.0 if v.knob == "density" else 1 / 3 for v in found.variables]
    assert all_knobs(found.decode(start)) == nearly(all_knobs(found.merge(wanted)))


def all_knobs(recipe):
    return [at(recipe, name)[0].knobs for name in TENSORS]


def nearly(knobs):
    return [
        {k: pytest.approx(v, abs=1e-9) if isinstance(v, tuple | float) else v for k, v in own.items()} for own in knobs
    ]


@pytest.mark.parametrize(
    ("method", "given", "bounds"),
    [
        ("linear", {}, (0, 1)),
        ("task_arithmetic", {}, (0, 1.5)),
        ("task_arithmetic", {"normalize": True}, (0, 1)),
        ("ties", {"allow_negative_weights": True}, (-1, 1)),
        ("slerp", {"allow_negative_weights": True}, (0, 4)),
        ("ties", {"low": -0.5, "high": 2.0}, (-0.5, 2)),
    ],
)
def test_weights_are_bounded_where_bounds_lose_no_model(method, given, bounds):
    found = space(method, **given)
    assert {(v.low, v.high) for v in found.variables if v.knob != "density"} == {bounds}
    assert {(v.low, v.high) for v in found.variables if v.knob == "density"} <= {(0, 1)}


def test_the_first_step_is_mergekits_in_its_own_units():
    for found in (space("ties"), space("task_arithmetic"), space("ties", allow_negative_weights=True)):
        assert [v.step * (v.high - v.low) for v in found.variables] == pytest.approx([1 / 6] * found.size)


# ---------------------------------------------------------------- decode


@given(data=st.data(), method=st.sampled_from(METHODS), cut=st.sampled_from(CUTS))
@settings(max_examples=60, deadline=None)
def test_encode_finds_a_genome_of_the_same_recipe(data, method, cut):
    found = space(method, **cut_for(method, cut))
    lowest = 0.01 if method == "linear" and "smooth" in cut else 0  # a block without weights is the average instead
    recipe = found.decode(data.draw(arrays(np.float64, found.size, elements=st.floats(lowest, 1))))
    back = found.encode(from_data(json.loads(json.dumps(recipe.data()))))
    assert back is not None
    assert ((back >= 0) & (back <= 1)).all()
    again = found.decode(back)
    assert again.parents == recipe.parents
    assert [s.sources for s in again.slots] == [s.sources for s in recipe.slots]
    assert all_knobs(again) == nearly(all_knobs(recipe))


@pytest.mark.parametrize("method", WEIGHTED)
def test_the_sign_of_a_weight_counts_only_if_allowed(method):
    raw = np.linspace(0.2, 0.9, space(method).size)
    mirrored = raw * [-1 if v.knob == "weight" else 1 for v in space(method).variables]
    assert space(method).merge(mirrored) == space(method).merge(raw)
    free = space(method, allow_negative_weights=True)
    assert free.merge(mirrored) != free.merge(raw)


def test_genes_outside_the_cube_are_clipped():
    found = space("ties")
    assert found.decode(np.full(found.size, 1.7)) == found.decode(np.ones(found.size))
    assert found.decode(np.full(found.size, -0.7)) == found.decode(np.zeros(found.size))


def test_weights_of_linear_that_sum_to_zero_are_the_average():
    assert space("linear").merge([0, 0, 0]).outer["*"].knobs["weight"] == pytest.approx((1 / 3,) * 3)
    assert space("linear", normalize=False).merge([0, 0, 0]).outer["*"].knobs["weight"] == (0, 0, 0)


def test_the_base_among_the_parents_has_genes_only_where_mergekit_reads_them():
    family = Pool(("a", "base", "b"), ("sha-a", "sha-base", "sha-b"), "sha-base", {"layers": 4})
    assert [v.name for v in space("ties", family).variables if v.leading] == ["weight/rest/0/a", "weight/rest/0/b"]
    assert space("ties", family).merge([1, 1, 1, 1]).parents == ("sha-a", "sha-b")
    assert space("linear", family).size == 3


def test_slerp_stays_between_a_bounded_t_and_a_half():
    found = space("slerp", pool(2))
    assert found.decode(np.array([1.0, 0.0])).outer["*"].knobs["t"] == pytest.approx(1 / (1 + math.exp(4)))
    assert found.decode(np.array([0.3, 0.3])).outer["*"].knobs["t"] == 0.5
    assert found.merge([0.0, 1000.0]).outer["*"].knobs["t"] == 1.0


def test_slerp_of_equal_scores_takes_the_first_parents():
    assert space("slerp", pool(4)).merge([0.25] * 4).parents == ("sha-a", "sha-b")


def test_seed_dtype_and_vocabulary_reach_the_recipe():
    family = Pool(("a", "b"), ("sha-a", "sha-b"), "sha-base", {"layers": 4}, vocabulary="union")
    recipe = MergekitSpace(family, merge_method="linear", seed=5, dtype="bfloat16").merge([1, 0])
    assert (recipe.seed, recipe.out_dtype, recipe.vocabulary, recipe.base) == (5, "bfloat16", "union", "sha-base")


# ---------------------------------------------------------------- encode


@pytest.mark.parametrize("method", WEIGHTED)
def test_a_parent_alone_is_one_hot_and_the_base_is_zero(method):
    found = space(method, layer_granularity=2, filters=["mlp"])
    known = references(FAMILY, seed=0, dtype="float32")
    for number, name in enumerate(("parent:a", "parent:b", "parent:c")):
        knobs = found.decode(found.encode(known[name])).slots[3].blends["*"].knobs
        assert knobs["weight"] == pytest.approx([float(p == number) for p in range(3)])
        assert knobs.get("density", (1.0,) * 3) == (1.0, 1.0, 1.0)
    base = found.encode(known["base"])
    assert base is None if method == "linear" else found.decode(base).outer["*"].knobs["weight"] == (0, 0, 0)


@pytest.mark.parametrize("method", METHODS)
def test_the_plain_average_is_equal_weights_where_that_is_the_same_model(method):
    found = space(method)
    average = found.encode(references(FAMILY, seed=0, dtype="float32")["average"])
    if method in ("linear", "task_arithmetic"):
        assert found.decode(average).outer["*"].knobs["weight"] == pytest.approx((1 / 3,) * 3)
    else:
        assert average is None


def test_a_parent_beyond_the_bounds_has_no_genome():
    assert space("ties", high=0.5).encode(references(FAMILY, seed=0, dtype="float32")["parent:a"]) is None


def test_slerp_cannot_say_a_parent():
    known = references(FAMILY, seed=0, dtype="float32")
    assert [space("slerp").encode(recipe) for recipe in known.values()] == [None] * 5


@pytest.mark.parametrize("method", METHODS)
def test_what_the_space_cannot_say_has_no_genome(method):
    found = space(method, layer_granularity=2)
    recipe = found.decode(np.linspace(0.2, 0.9, found.size) ** 2)
    assert found.encode(recipe) is not None
    assert space("linear" if method != "linear" else "ties").encode(recipe) is None
    assert space(method, pool(3, stacks={"model.layers": 2})).encode(recipe) is None
    assert space(method, pool(3, base="other", stacks=FAMILY.stacks)).encode(recipe) is None
    assert space(method, pool(2, stacks=FAMILY.stacks)).encode(recipe) is None
    assert space(method, layer_granularity=None).encode(recipe) is None
    assert space(method, layer_granularity=2, high=0.1).encode(recipe) is None
    changed = [s if b else type(s)(s.sources, {"*": Blend("linear")}) for b, s in enumerate(recipe.slots)]
    assert found.encode(Recipe(recipe.parents, recipe.base, tuple(changed), recipe.outer)) is None
    assert found.encode(Recipe(recipe.parents, recipe.base, recipe.slots, {"*": Blend("linear")})) is None


# ---------------------------------------------------------------- bad settings


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("tie", {}, r"unknown space.merge_method 'tie'\. Did you mean 'ties'"),
        ("dare_linear", {}, r"unknown space.merge_method 'dare_linear'.* For others use space=weights"),
        ("ties", {"layer_granularity": 3}, r"layer_granularity is 3 for a model of 4 blocks; wanted one of 1, 2, 4"),
        (
            "ties",
            {"parents": pool(2, base=None)},
            r"merge_method=ties merges differences from a base\. Set parents.base",
        ),
        ("slerp", {"parents": pool(1)}, r"merge_method=slerp takes at least 2 parents other than its base, got 1"),
        (
            "ties",
            {"parents": Pool(("b",), ("x",), "x", {"layers": 4})},
            r"takes at least 1 parents other than its base",
        ),
        ("slerp", {"filters": ["mlp"]}, r"space.smooth and space.filters are not for slerp"),
        ("slerp", {"smooth": True}, r"space.smooth and space.filters are not for slerp"),
        ("ties", {"low": 1.0}, r"space.low is 1.0 and space.high 1.0; wanted numbers with low < high"),
        ("ties", {"high": math.inf}, r"space.low is 0.0 and space.high inf"),
        ("ties", {"parents": pool(2, stacks={"encoder": 2, "decoder": 2})}, r"2 stacks of blocks \(encoder, decoder\)"),
    ],
)
def test_bad_settings_are_refused_with_what_was_wanted(method, given, message):
    with pytest.raises(ConfigError, match=message):
        space(method, **given)


@pytest.mark.parametrize("granularity", [0, -1, None, 4])
def test_no_granularity_is_the_whole_model(granularity):
    assert space(layer_granularity=granularity).size == 3
