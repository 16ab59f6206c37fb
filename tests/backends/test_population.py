"""Candidates as coefficients of their parents' factors mean the weights that building them gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge import build
from evomerge.backends import population
from evomerge.errors import ConfigError, MergeError
from evomerge.models.family import Family, open_family
from evomerge.spaces.references import references
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Blend, Recipe, Slot
from tests.backends.adapted import added, blended, make_adapter

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PEFT's, of tied embeddings


@pytest.fixture(scope="module")
def family(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Adapters of unequal ranks and modules: some tensors are touched by both, one or none."""
    root = tmp_path_factory.mktemp("population")
    one = make_adapter(base_folder, root / "one", seed=1, r=2, target_modules=["q_proj", "up_proj"])
    two = make_adapter(base_folder, root / "two", seed=2, r=3, target_modules=["q_proj", "down_proj"], lora_alpha=5)
    return open_family([str(one), str(two)], str(base_folder))


def built(recipe: Recipe, family: Family) -> dict[str, torch.Tensor]:
    live = {name: torch.empty(shape) for name, shape in family.shapes.items()}
    build.write(recipe, family, live)
    return live


def assert_means_what_is_built(recipe: Recipe, family: Family) -> None:
    joined = population.join(family)
    table = population.tables([recipe], family, joined, "test")
    assert family.base is not None
    for name, wanted in built(recipe, family).items():
        found = family.base.read(name)
        if name in joined:
            found = found + joined[name].left * table[name][0] @ joined[name].right
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(genes=st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_base_plus_scaled_factors_is_the_built_model(family: Family, genes: list[float]):
    space = WeightsSpace(family.pool(), groups=2, ranges={"weight": [-1, 2]})
    assert_means_what_is_built(space.decode((genes * space.size)[: space.size]), family)


@pytest.mark.parametrize(
    "blend",
    [
        Blend("task_arithmetic", {"weight": (0.5, -0.25), "normalize": True, "scale": 3.0}),
        Blend("linear", {"weight": (3.0, 1.0), "normalize": True}),
        Blend("linear", {"weight": (0.25, 0.75), "normalize": False}),
        Blend("dare_linear", {"weight": (0.5, 0.7), "density": 1.0}),
    ],
)
def test_every_sum_of_differences_is_served(family: Family, blend: Blend):
    assert_means_what_is_built(blended(family, blend.method, **blend.knobs), family)


def test_all_references_are_sums(family: Family):
    for recipe in references(family.pool(), seed=0, dtype="float32").values():
        assert_means_what_is_built(recipe, family)


def test_parents_are_told_by_their_digests_and_not_by_their_place(family: Family):
    one, two = (p.digest for p in family.parents)
    assert family.base is not None
    mixed = {"*": Blend("linear", {"weight": (0.5, 0.25, 0.25), "normalize": False})}
    slots = tuple(Slot(tuple((p, "model.layers", block) for p in (2, 0, 1)), mixed) for block in range(2))
    recipe = Recipe((one, family.base.digest, two), family.base.digest, slots, mixed)
    assert_means_what_is_built(recipe, family)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert population.coefficients(recipe, family, "test")[name] == (0.25, 0.5)


def test_blocks_that_draw_on_one_parent_alone_are_sums(family: Family):
    copy = {"*": Blend("passthrough", {})}
    slots = tuple(Slot(((block, "model.layers", block),), copy) for block in range(2))
    average = {"*": Blend("linear", {"weight": 1.0, "normalize": True})}
    recipe = Recipe(tuple(p.digest for p in family.parents), None, slots, average)
    assert_means_what_is_built(recipe, family)


def test_a_parent_given_twice_is_one_adapter(family: Family):
    assert family.base is not None
    twice = Family(family.base, (family.parents[0], family.parents[0]))
    assert len(population.adapters(twice)) == 1
    assert_means_what_is_built(added(twice, 0.5, 0.25), twice)


@pytest.mark.parametrize(
    ("method", "knobs"),
    [
        ("ties", {}),
        ("dare_linear", {"density": 0.5}),
        ("linear", {"weight": (0.3, 0.3), "normalize": False}),
    ],
)
def test_more_than_a_sum_is_refused_with_the_backend_to_take(family: Family, method: str, knobs: dict[str, object]):
    with pytest.raises(ConfigError, match=rf"by '{method}' .* Set backend=hf, or choose"):
        population.coefficients(blended(family, method, **knobs), family, "hf_lora")


def test_another_method_where_no_adapter_reaches_changes_nothing(family: Family):
    ties, sums = Blend("ties", {}), Blend("task_arithmetic", {"weight": (1.0, 0.5)})
    recipe = added(family)
    slots = tuple(Slot(s.sources, {"norms": ties, "*": sums}) for s in recipe.slots)
    recipe = Recipe(recipe.parents, recipe.base, slots, {"norms": ties, "*": sums})
    assert_means_what_is_built(recipe, family)


def test_moved_blocks_and_other_depths_are_refused(family: Family):
    recipe = added(family, 1.0, 1.0)
    for slots, why in ((recipe.slots[::-1], "moves blocks"), (recipe.slots[:1], "has another depth")):
        with pytest.raises(ConfigError, match=why):
            population.coefficients(Recipe(recipe.parents, recipe.base, slots, recipe.outer), family, "hf_lora")


def test_infinite_coefficients_are_the_candidates_own_fault(family: Family):
    with pytest.raises(MergeError, match="wanted finite numbers"):
        population.coefficients(added(family, 1.0, float("inf")), family, "hf_lora")


def test_full_checkpoints_and_tensors_stored_whole_are_refused(
    family: Family, base_folder: Path, expert_folder: Path, tmp_path: Path
):
    with pytest.raises(ConfigError, match=r"expert is a full checkpoint.*Set backend=hf"):
        population.check_family(open_family([str(expert_folder)], str(base_folder)), "hf_lora")
    whole = make_adapter(base_folder, tmp_path / "whole", seed=3, target_modules=["q_proj"], modules_to_save=["norm"])
    with pytest.raises(ConfigError, match=r"stores 'model\.layers\.0\.input_layernorm\.weight' whole .* 5 such"):
        population.check_family(open_family([str(whole)], str(base_folder)), "hf_lora")
