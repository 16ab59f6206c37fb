"""A recipe told to mergekit is the same recipe; and what cannot be told is refused with its reason."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from evomerge.errors import MergeError
from evomerge.mergekit_io import notes, read, to_mergekit
from evomerge.mergekit_io.dialect import DIALECTS
from evomerge.methods import get
from evomerge.models.family import Family, open_family
from evomerge.spaces.references import references
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Blend, Recipe, Slot
from tests.mergekit_io.llamas import BLOCKS, weights
from tests.mergekit_io.merging import built, largest_difference

STACK = "model.layers"
CONFIGS = sorted((Path(__file__).parents[1] / "golden" / "mergekit").glob("*.yml"))
SAME = 1e-6  # sums in another order


@pytest.fixture(scope="module")
def family(llamas) -> Family:
    return open_family([str(llamas / "math"), str(llamas / "code")], str(llamas / "base"))


def locations(family: Family) -> dict[str, str]:
    return {p.digest: p.name for p in family.all}


def told(recipe: Recipe, family: Family, folder: Path) -> tuple[Recipe, Family]:
    path = folder / "told.yml"
    path.write_text(to_mergekit(recipe, family, locations(family)))
    assert not [note for note in notes(path) if "does not read" in note]
    return read(path, opened)


def opened(models: list[str], base: str | None, vocabulary: str) -> Family:
    return _opened(tuple(models), base, vocabulary)


@lru_cache
def _opened(models: tuple[str, ...], base: str | None, vocabulary: str) -> Family:
    return open_family(models, base, vocabulary)  # once for many examples


# ---------------------------------------------------------------- the same tensors

PARTS = st.sampled_from(["mlp", "self_attn", "norms", "vectors", "q_proj", "name:mlp", "layers.1.", "weight"])
OUTER = st.sampled_from(["embeddings", "head", "norms", "lm_head"])
NUMBER = st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0])


@st.composite
def blends(draw, method: str, n: int, parts, fixed):
    """fixed: knobs that are the same everywhere."""
    weights_from = 0.25 if DIALECTS[method].divided else -0.5

    def values(knob):
        if knob.name in ("weight", "density"):
            low = 0.25 if knob.name == "density" else weights_from
            each = st.sampled_from([v for v in (-0.5, 0.0, 0.25, 0.5, 1.0) if v >= low])
        else:
            each = st.sampled_from([knob.low, knob.high, *([] if knob.default is None else [knob.default])])
        if knob.scale == "choice":
            return st.sampled_from([v for v in knob.values if v != "inv_p"])
        return st.one_of(each, st.tuples(*[each] * n)) if knob.per_parent else each

    def knobs():
        free = [knob for knob in get(method).knobs if knob.name not in (*fixed, *DIALECTS[method].silent)]
        found = {knob.name: draw(values(knob)) for knob in free}
        kept = {k: v for k, v in found.items() if k in ("rescale", "t") or draw(st.integers(0, 3))}  # some by default
        return {**kept, **fixed}

    keys = draw(st.lists(parts, unique=True, max_size=2))
    return {key: Blend(method, knobs()) for key in (*keys, "*")}


@st.composite
def recipes(draw, family: Family, method: str):
    """Any depth, any blocks, parents left out of slots where the method allows it."""
    n = get(method).arity[1] or 2 if method != "passthrough" else 2
    digests = tuple(p.digest for p in family.parents)[:n]
    fixed = dict(DIALECTS[method].silent)
    if get(method).on == "either":
        fixed["differences"] = draw(st.booleans())
    slots = []
    for _ in range(draw(st.integers(1, 4))):
        least = 1 if DIALECTS[method].absent or method == "passthrough" else n
        most = 1 if method == "passthrough" else n
        order = draw(st.permutations(range(n)))[: draw(st.integers(least, most))]
        sources = tuple((p, STACK, draw(st.integers(0, BLOCKS - 1))) for p in order)
        slots.append(Slot(sources, draw(blends(method, len(order), PARTS, fixed))))
    outer = draw(blends("linear" if method == "passthrough" else method, n, OUTER, fixed))
    return Recipe(digests, family.base.digest, tuple(slots), outer)


@pytest.mark.parametrize("method", DIALECTS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_the_told_recipe_builds_the_same_tensors(family, tmp_path_factory, method, data):
    recipe = data.draw(recipes(family, method))
    back, parents = told(recipe, family, tmp_path_factory.mktemp("told"))
    assert back.seed == recipe.seed  # masks belong to parent and tensor, and both are the same
    assert largest_difference(built(back, parents), built(recipe, family)) <= SAME


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.stem)
def test_what_mergekit_told_us_is_told_back(here, tmp_path, config):
    recipe, family = read(config, open_family)
    back, parents = told(recipe, family, tmp_path)
    assert back.out_dtype == recipe.out_dtype
    assert largest_difference(built(back, parents), built(recipe, family)) <= SAME


@pytest.mark.parametrize("name", ["base", "parent:math", "average"])
def test_references_are_told(family, tmp_path, name):
    recipe = references(family.pool(), seed=0, dtype="float32")[name]
    back, parents = told(recipe, family, tmp_path)
    assert largest_difference(built(back, parents), built(recipe, family)) <= SAME


@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic"])
def test_a_searched_recipe_is_told(family, tmp_path, method):
    space = WeightsSpace(family.pool(), method=method, groups=2, parts=["mlp", "embeddings"])
    recipe = space.decode([(i % 7) / 7 for i in range(space.size)])
    back, parents = told(recipe, family, tmp_path)
    assert largest_difference(built(back, parents), built(recipe, family)) <= SAME


def test_a_stack_of_whole_blocks_is_told_as_passthrough(here, tmp_path):
    recipe, family = read(next(c for c in CONFIGS if c.stem == "passthrough"), open_family)
    text = yaml.safe_load(to_mergekit(recipe, family, locations(family)))
    assert text["merge_method"] == "passthrough"
    assert [s["sources"][0]["layer_range"] for s in text["slices"]] == [[0, 3], [1, 2], [2, 3], [3, 4]]


def test_equal_blocks_are_one_slice_and_common_settings_stand_once(family):
    space = WeightsSpace(family.pool(), method="ties", mask_all=True)
    text = yaml.safe_load(to_mergekit(space.decode([0.5] * space.size), family, locations(family)))
    assert len(text["slices"]) == 1
    assert text["parameters"] == {"normalize": False, "rescale": False}


# ---------------------------------------------------------------- methods that come to the same


def uniform(family: Family, blend: Blend, outer: Blend | None = None) -> Recipe:
    slots = tuple(Slot(((0, STACK, b), (1, STACK, b)), {"*": blend}) for b in range(BLOCKS))
    digests = tuple(p.digest for p in family.parents)
    return Recipe(digests, family.base.digest, slots, {"*": outer or blend})


DARE = {"weight": 0.5, "density": 0.5, "rescale": "l1"}


@pytest.mark.parametrize(
    "blocks, outer, method",
    [
        (Blend("dare_linear", DARE), Blend("task_arithmetic", {"weight": 0.5}), "dare_linear"),
        (Blend("task_arithmetic"), Blend("dare_linear", {"density": 1.0}), "dare_linear"),
        (Blend("ties", {"density": 0.5}), Blend("dare_ties", {"weight": 0.5}), "ties"),
        (Blend("dare_ties", DARE), Blend("ties", {"normalize": False}), "dare_ties"),
        (Blend("della", DARE), Blend("breadcrumbs_ties", {"gamma": 0.2}), "della"),
        (Blend("breadcrumbs", {"density": 0.5}), Blend("task_arithmetic"), "breadcrumbs"),
        (Blend("della_linear", {**DARE, "epsilon_frac": 0.3}), Blend("task_arithmetic"), "della_linear"),
    ],
)
def test_methods_that_come_to_the_same_are_one(family, tmp_path, blocks, outer, method):
    recipe = uniform(family, blocks, outer)
    back, parents = told(recipe, family, tmp_path)
    assert {b.method for s in back.slots for b in s.blends.values()} == {method}
    assert largest_difference(built(back, parents), built(recipe, family)) <= SAME


def test_a_normalised_weight_of_one_parent_is_told_as_the_parent_itself(family, tmp_path):
    twice = Blend("linear", {"weight": (2.0, 0.0), "normalize": True})
    recipe = uniform(family, twice)
    back, parents = told(recipe, family, tmp_path)
    assert {b.method for s in back.slots for b in s.blends.values()} == {"passthrough"}
    assert largest_difference(built(back, parents), built(recipe, family)) == 0


def test_parts_of_a_block_from_two_parents_are_told_as_linear(family, tmp_path):
    first, second = (Blend("linear", {"weight": w, "normalize": False}) for w in ((1.0, 0.0), (0.0, 1.0)))
    recipe = uniform(family, first)
    recipe = replace(recipe, slots=tuple(replace(s, blends={"mlp": second, "*": first}) for s in recipe.slots))
    back, parents = told(recipe, family, tmp_path)
    assert {b.method for s in back.slots for b in s.blends.values()} == {"linear"}
    assert largest_difference(built(back, parents), built(recipe, family)) == 0


def test_random_masks_are_told_in_a_comment(family):
    assert "masks differ" in to_mergekit(uniform(family, Blend("dare_ties", DARE)), family, locations(family))
    assert "masks differ" not in to_mergekit(uniform(family, Blend("dare_ties")), family, locations(family))


# ---------------------------------------------------------------- refusals

GUARD = {"guard": "absolute"}
SUM, TIES = Blend("task_arithmetic"), Blend("ties", {"density": 0.5})


@pytest.mark.parametrize(
    "blocks, outer, said",
    [
        (TIES, SUM, "'lm_head.weight' is merged by task_arithmetic and .* by ties.*mask_all"),
        (TIES, Blend("dare_ties", DARE), "one method"),
        (SUM, Blend("linear"), "one method"),
        (Blend("dare_linear", {**DARE, "rescale": "inv_p"}), None, "inv_p.*space.fixed.rescale=l1"),
        (Blend("slerp"), Blend("linear"), "one method"),
        (Blend("della", {"density": 0.5}), None, "inv_p.*space.fixed.rescale=l1"),
        (Blend("ties", {"scope": "model"}), None, "scope model, .*space.fixed.scope=tensor"),
        (Blend("karcher", {"weight": (1.0, 2.0)}), None, r"weight \(1.0, 2.0\), .*space.fixed.weight=1.0"),
        (Blend("sce"), None, "guard zero, .*space.fixed.guard=absolute"),
        (Blend("sce", {**GUARD, "select": "weights"}), None, "select weights, .*space.fixed.select=deltas"),
        (Blend("sce", {**GUARD, "scale": 1.2}), None, "scale 1.2, .*space.fixed.scale=1.0"),
        (Blend("model_stock", {"t_scale": 0.5}), None, "t_scale 0.5, .*space.fixed.t_scale=1.0"),
        (Blend("model_stock", {"clamp_t": "unit"}), None, "clamp_t unit, .*space.fixed.clamp_t=none"),
        (Blend("arcee_fusion", {"iqr_factor": 2.0}), None, "iqr_factor 2.0, .*space.fixed.iqr_factor=1.5"),
        (Blend("nearswap"), None, "no t, but a quantile.*space.fixed.t=NUMBER"),
        (Blend("nuslerp"), Blend("nuslerp", {"differences": False}), "as differences.*space.fixed.differences=true"),
    ],
)
def test_blends_that_mergekit_has_no_words_for_are_refused(family, blocks, outer, said):
    with pytest.raises(MergeError, match=said):
        to_mergekit(uniform(family, blocks, outer), family, locations(family))


def test_the_mean_of_equally_weighted_parents_can_be_said(family, tmp_path):
    for weight in (0.5, (0.5, 0.5)):
        recipe = uniform(family, Blend("karcher", {"weight": weight}))
        again, opened_again = told(recipe, family, tmp_path)
        assert largest_difference(built(again, opened_again), built(recipe, family)) <= SAME


def test_a_searched_number_of_steps_is_told_as_it_is_taken(family):
    text = to_mergekit(uniform(family, Blend("karcher", {"max_iter": 7.7})), family, locations(family))
    assert yaml.safe_load(text)["parameters"]["max_iter"] == 8


def test_slots_that_mergekit_has_no_words_for_are_refused(family):
    recipe = uniform(family, SUM)
    first, *others = recipe.slots
    twice = replace(first, sources=((0, STACK, 0), (0, STACK, 1)))
    for slot, said in ((twice, "several sources from one parent"), (replace(first, scale=0.5), "scale 0.5")):
        with pytest.raises(MergeError, match=said):
            to_mergekit(replace(recipe, slots=(slot, *others)), family, locations(family))
    with pytest.raises(MergeError, match="no slots"):
        to_mergekit(replace(recipe, slots=()), family, locations(family))


def test_the_base_as_a_parent_is_left_out_where_it_adds_nothing(family, tmp_path):
    recipe = uniform(family, SUM)
    recipe = replace(recipe, parents=(recipe.parents[0], recipe.base))
    back, parents = told(recipe, family, tmp_path)
    assert back.parents == recipe.parents[:1]
    assert largest_difference(built(back, parents), built(recipe, family)) <= SAME
    mean = Blend("task_arithmetic", {"normalize": True})
    averaged = replace(uniform(family, mean), parents=recipe.parents)
    with pytest.raises(MergeError, match="base as a weighted parent"):
        to_mergekit(averaged, family, locations(family))


def test_methods_without_weights_cannot_leave_a_parent_out(family):
    recipe = uniform(family, Blend("ram"))
    first, *others = recipe.slots
    alone = replace(first, sources=first.sources[:1])
    with pytest.raises(MergeError, match="by ram without parent 1 of the recipe"):
        to_mergekit(replace(recipe, slots=(alone, *others)), family, locations(family))
    with pytest.raises(MergeError, match="base as a weighted parent"):
        to_mergekit(replace(recipe, parents=(recipe.parents[0], recipe.base)), family, locations(family))


def test_a_merge_of_tensors_as_they_are_has_no_base_model_and_no_vocabulary_of_a_base(family):
    recipe = uniform(family, Blend("nuslerp", {"differences": False}))
    assert "base_model" not in yaml.safe_load(to_mergekit(recipe, family, locations(family)))
    with pytest.raises(MergeError, match=r"the vocabulary is its own.*space.fixed.differences=true"):
        to_mergekit(replace(recipe, vocabulary="base"), family, locations(family))


def test_three_parents_in_slerp_and_unknown_places_are_refused(family):
    recipe = uniform(family, Blend("slerp"))
    slots = tuple(replace(s, sources=((0, STACK, 0), (2, STACK, 0))) for s in recipe.slots)
    with pytest.raises(MergeError, match="slerp of the parents"):
        to_mergekit(replace(recipe, parents=(*recipe.parents, recipe.base), slots=slots), family, locations(family))
    with pytest.raises(MergeError, match="lies is not known"):
        to_mergekit(recipe, family, {})
    with pytest.raises(MergeError, match="same content"):
        to_mergekit(replace(uniform(family, SUM), parents=recipe.parents[:1] * 2), family, locations(family))


# ---------------------------------------------------------------- names of models


def test_folders_with_signs_that_mergekit_reads_are_told_apart(llamas, tmp_path):
    odd = tmp_path / "a+b@c"
    odd.symlink_to(llamas / "math")
    family = open_family([str(llamas / "math")], str(llamas / "base"))
    recipe = references(family.pool(), seed=0, dtype="float32")["parent:math"]
    text = to_mergekit(recipe, family, {**locations(family), recipe.parents[0]: str(odd)})
    (tmp_path / "told.yml").write_text(text)
    assert read(tmp_path / "told.yml", open_family)[0].parents == recipe.parents


def test_an_adapter_is_told_as_base_plus_lora(llamas, tmp_path):
    name = "base_model.model.model.layers.0.mlp.up_proj"
    up, down = weights(5)["model.layers.0.mlp.up_proj.weight"][:, :2], weights(6)["model.norm.weight"].repeat(2, 1)
    (tmp_path / "lora").mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["up_proj"], "task_type": "CAUSAL_LM"}
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(config))
    keys = {f"{name}.lora_A.weight": down.contiguous(), f"{name}.lora_B.weight": up.contiguous()}
    save_file(keys, tmp_path / "lora" / "adapter_model.safetensors")
    family = open_family([str(tmp_path / "lora")], str(llamas / "base"))
    space = WeightsSpace(family.pool())
    recipe = space.decode([0.5] * space.size)
    assert f"{llamas / 'base'}+{tmp_path / 'lora'}" in to_mergekit(recipe, family, locations(family))
    back, parents = told(recipe, family, tmp_path)
    assert largest_difference(built(back, parents), built(recipe, family)) == 0
