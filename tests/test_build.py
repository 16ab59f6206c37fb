"""Building in place: equal to the maths on whole tensors, whatever the slicing; refused where it cannot be right."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from evomerge import build
from evomerge.engine import merging
from evomerge.errors import MergeError, ParentError
from evomerge.methods import METHODS
from evomerge.models import blank
from evomerge.models.family import open_family
from evomerge.spaces.references import references, uniform
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Blend
from tests.backends.adapted import make_adapter
from tests.engine.held import BASE, Held

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def family(pico):
    return open_family([str(pico["a"]), str(pico["b"])], str(pico["base"]))


@pytest.fixture
def live(family):
    model, _ = blank.live_model(family.base_folder, CPU, "float32")
    return blank.targets(model, family.model.files)


def middle(space):
    return space.decode([0.3 + 0.4 * (i % 2) for i in range(space.size)])


def test_a_parent_reference_is_that_parent_bit_for_bit(family, live, pico):
    recipes = references(family.pool(), seed=0, dtype="float32")
    for name in ("a", "b"):
        build.write(recipes[f"parent:{name}"], family, live)
        saved = load_file(pico[name] / "model.safetensors")
        assert all(torch.equal(live[n], saved[n]) for n in live)


def test_the_average_is_the_mean_of_the_parents(family, live, pico):
    build.write(references(family.pool(), seed=0, dtype="float32")["average"], family, live)
    a, b = (load_file(pico[n] / "model.safetensors") for n in ("a", "b"))
    for name, tensor in live.items():
        torch.testing.assert_close(tensor, (a[name] + b[name]) / 2)


def test_task_arithmetic_adds_the_weighted_differences(family, live, pico):
    space = WeightsSpace(family.pool(), parts=["self_attn"], groups=2)
    genome = [0.1 * (i + 1) for i in range(space.size)]
    recipe = space.decode(genome)
    build.write(recipe, family, live)
    base, a, b = (load_file(pico[n] / "model.safetensors") for n in ("base", "a", "b"))
    name = "model.layers.1.self_attn.q_proj.weight"
    w = recipe.slots[1].blends["self_attn"].knobs["weight"]
    assert w != recipe.slots[0].blends["self_attn"].knobs["weight"]
    expected = base[name] + w[0] * (a[name] - base[name]) + w[1] * (b[name] - base[name])
    torch.testing.assert_close(live[name], expected)


def takes(method, n_parents):
    low, high = METHODS[method].arity
    return low <= n_parents <= (high or n_parents)


@pytest.mark.parametrize("method", METHODS)
def test_slices_have_the_bits_of_the_tensors_that_are_written(family, live, method, monkeypatch):
    parents = family.pool().digests[: 2 if takes(method, 2) else 1]
    recipe = uniform(family.pool(), parents, Blend(method, {}), 3, "float32")
    build.write(recipe, family, live)
    planned = build.layers(recipe)
    monkeypatch.setattr(merging, "SLICE", 100)
    for name, tensor in live.items():
        found = torch.empty_like(tensor)
        for box, part in build.merge_tensor(recipe, planned, family, name, CPU):
            found[box] = part
        assert torch.equal(found, tensor)


def test_writing_leaves_nothing_of_the_recipe_before(family, live):
    space = WeightsSpace(family.pool(), method="dare_ties")
    one, two = space.decode([0.2, 0.9, 0.3]), space.decode([0.7, 0.1, 0.8])
    build.write(one, family, live)
    first = {name: tensor.clone() for name, tensor in live.items()}
    build.write(two, family, live)
    build.write(one, family, live)
    assert all(torch.equal(live[name], first[name]) for name in live)


def test_norms_are_never_masked_unless_asked(family, live, pico):
    base, a = (load_file(pico[n] / "model.safetensors") for n in ("base", "a"))
    changed = {}
    for mask_all in (False, True):
        space = WeightsSpace(family.pool(), method="dare_linear", mask_all=mask_all, fixed={"rescale": "none"})
        build.write(space.decode([0.9, 0.1 / 0.85 * 1.0, 0.0]), family, live)
        name = "model.norm.weight"
        changed[mask_all] = int((live[name] != base[name]).sum())
    assert changed[False] == a["model.norm.weight"].numel()
    assert changed[True] < changed[False]


def test_another_seed_draws_another_mask(family, live):
    space = [WeightsSpace(family.pool(), method="dare_linear", seed=s) for s in (0, 1)]
    name = "model.layers.0.mlp.up_proj.weight"
    made = []
    for s in space:
        build.write(s.decode([0.5, 0.5, 0.3]), family, live)
        made.append(live[name].clone())
    assert not torch.equal(*made)


def test_a_bf16_model_gets_the_float32_result_rounded_once(family):
    recipe = middle(WeightsSpace(family.pool(), method="ties"))
    kinds = {}
    for dtype in ("float32", "bfloat16"):
        model, _ = blank.live_model(family.base_folder, CPU, dtype)
        kinds[dtype] = blank.targets(model, family.model.files)
        build.write(recipe, family, kinds[dtype])
    assert all(torch.equal(kinds["float32"][n].bfloat16(), t) for n, t in kinds["bfloat16"].items())


# ---------------------------------------------------------------- what stands already


def standing_in(family, live, recipe):
    """The targets written once, and what is remembered of them."""
    standing = {}
    build.write(recipe, family, live, standing)
    return standing


def spoil(live):
    """Targets whose entries say whether they were written since."""
    for tensor in live.values():
        tensor.fill_(77.0)


def test_what_stands_already_is_not_touched(family, live):
    recipe = middle(WeightsSpace(family.pool(), method="ties"))
    standing = standing_in(family, live, recipe)
    spoil(live)
    again = middle(WeightsSpace(family.pool(), method="ties"))  # another object that means the same
    build.write(again, family, live, standing)
    assert all(bool((tensor == 77.0).all()) for tensor in live.values())


def test_only_tensors_whose_coefficients_changed_are_written_and_they_are_right(family, live):
    space = WeightsSpace(family.pool(), parts=["self_attn", "mlp"], groups=2, method="dare_ties")
    genome = [0.4] * space.size
    standing = standing_in(family, live, space.decode(genome))
    spoil(live)
    moved = next(i for i, v in enumerate(space.variables) if v.part == "mlp" and v.knob == "weight")
    genome[moved] = 0.9
    build.write(space.decode(genome), family, live, standing)
    written = {name for name, tensor in live.items() if not bool((tensor == 77.0).all())}
    assert written == {
        n for n in live if ".mlp." in n and f"layers.{0 if space.variables[moved].depth[0] == 0 else 1}." in n
    }
    fresh = {name: torch.empty_like(tensor) for name, tensor in live.items()}
    build.write(space.decode(genome), family, fresh)
    assert all(torch.equal(live[name], fresh[name]) for name in written)


def test_another_seed_or_method_is_another_matrix(family, live):
    recipe = middle(WeightsSpace(family.pool(), method="dare_ties"))
    for other in (replace(recipe, seed=9), middle(WeightsSpace(family.pool(), method="dare_linear"))):
        standing = standing_in(family, live, recipe)
        spoil(live)
        build.write(other, family, live, standing)
        matrices = [tensor for name, tensor in live.items() if "layers" in name and tensor.dim() == 2]
        assert matrices and not any(bool((tensor == 77.0).all()) for tensor in matrices)


def test_a_write_that_failed_is_not_remembered(family, live):
    recipe = middle(WeightsSpace(family.pool()))
    standing = standing_in(family, live, recipe)
    bad = uniform(
        family.pool(), family.pool().digests, Blend("linear", {"weight": 1e39, "normalize": False}), 0, "float32"
    )
    with pytest.raises(MergeError, match="NaN or infinite"):
        build.write(bad, family, live, standing)
    failed = next(iter(live))
    assert not torch.isfinite(live[failed]).all()
    build.write(recipe, family, live, standing)
    fresh = {name: torch.empty_like(tensor) for name, tensor in live.items()}
    build.write(recipe, family, fresh)
    assert all(torch.equal(live[name], fresh[name]) for name in live)


def test_walks_over_many_recipes_end_where_a_fresh_build_does(family, live):
    """Parts and methods change to and fro, as in a search."""
    standing: dict = {}
    random = torch.Generator().manual_seed(5)
    for step in range(12):
        space = WeightsSpace(family.pool(), parts=["self_attn", "mlp"], method=["ties", "della", "sce"][step // 2 % 3])
        recipe = space.decode((torch.randint(1, 4, (space.size,), generator=random) / 4).tolist())
        build.write(recipe, family, live, standing)
        fresh = {name: torch.empty_like(tensor) for name, tensor in live.items()}
        build.write(recipe, family, fresh)
        assert all(torch.equal(live[name], fresh[name]) for name in live)


# ---------------------------------------------------------------- whole models, adapters


def test_ties_over_the_whole_model_keeps_its_share_of_all_entries(family, pico):
    base, a = (load_file(pico[name] / "model.safetensors") for name in ("base", "a"))
    blend = Blend("ties", {"density": 0.3, "scope": "model"})
    recipe = uniform(family.pool(), family.pool().digests[:1], blend, 0, "float32")
    live = {name: torch.empty(shape) for name, shape in family.shapes.items()}
    build.write(recipe, family, live)
    kept = torch.cat([(live[name] != base[name]).flatten() for name in live])
    delta = torch.cat([(a[name] - base[name]).flatten() for name in live]).abs()
    assert abs(int(kept.sum()) - int(0.3 * len(delta))) <= 2  # base + delta may round to the base
    assert delta[kept].min() >= delta[~kept].max()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PEFT's, of tied embeddings
@pytest.mark.parametrize("method", [m for m in METHODS if takes(m, 2)])
def test_adapters_merge_as_checkpoints_with_their_differences_do(pico, tmp_path, method):
    adapters = [make_adapter(pico["base"], tmp_path / str(k), seed=k, r=2, target_modules=["q_proj"]) for k in (1, 2)]
    lora = open_family([str(a) for a in adapters], str(pico["base"]))
    name = "model.layers.0.self_attn.q_proj.weight"
    base = lora.home(lora.pool().base, name, CPU)
    deltas = [lora.delta(digest, name, CPU) for digest in lora.pool().digests]
    recipe = uniform(lora.pool(), lora.pool().digests, Blend(method, {}), 0, "float32")
    found = torch.empty_like(base)
    build.write_tensor(recipe, build.layers(recipe), lora, name, found)
    torch.testing.assert_close(found, explicit(method, base, deltas, lora.pool().digests), rtol=1e-5, atol=1e-5)
    untouched = "model.layers.0.mlp.up_proj.weight"
    ground = lora.home(lora.pool().base, untouched, CPU)
    left = torch.empty_like(ground)
    build.write_tensor(recipe, build.layers(recipe), lora, untouched, left)
    torch.testing.assert_close(left, ground)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PEFT's, of tied embeddings
@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties"])
def test_no_tensor_that_is_made_of_an_adapter_outlives_its_candidate(pico, tmp_path, method):
    options = {"target_modules": ["q_proj"], "modules_to_save": ["up_proj"]}
    adapters = [make_adapter(pico["base"], tmp_path / str(k), seed=k, r=2, **options) for k in (1, 2)]
    lora = open_family([str(a) for a in adapters], str(pico["base"]))
    lora.placement = "device"
    recipe = uniform(lora.pool(), lora.pool().digests, Blend(method, {}), 0, "float32")
    build.write(recipe, lora, {name: torch.empty(shape) for name, shape in lora.shapes.items()}, {})
    wholes = {lora.home(lora.pool().base, name, CPU).data_ptr() for name in lora.shapes}
    kept = [inputs for key, inputs in lora.learned["together"].items() if key[0] == "inputs"]
    assert kept
    for inputs in kept:
        assert {source.whole.data_ptr() for source in inputs.sources if source.whole is not None} <= wholes


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_another_block_of_a_parent_differs_from_the_base_by_all_that_it_is(pico, tmp_path):
    """Of the base itself, too, and of an adapter as of the checkpoint that it stands for."""
    adapter = make_adapter(pico["base"], tmp_path / "1", seed=1, r=2, target_modules=["q_proj"])
    family = open_family([str(adapter), str(pico["base"])], str(pico["base"]))
    pool = family.pool()
    blend = Blend("task_arithmetic", {"weight": 0.5})
    recipe = uniform(pool, pool.digests, blend, 0, "float32")
    (stack,) = family.stacks
    for parent in (0, 1):
        moved = replace(recipe.slots[0], sources=((parent, stack, 0), (parent, stack, 1)), blends={"*": blend})
        planned = build.layers(replace(recipe, slots=(moved, *recipe.slots[1:])))
        for rest in ("self_attn.q_proj.weight", "mlp.up_proj.weight"):
            names = [f"{stack}.{block}.{rest}" for block in (0, 1)]
            base = family.read(pool.base, names[0], CPU)
            one, other = (family.read(pool.digests[parent], name, CPU) for name in names)
            found = torch.empty_like(base)
            build.write_tensor(recipe, planned, family, names[0], found)
            torch.testing.assert_close(found, base + 0.5 * (one - base) + 0.5 * (other - base))


def explicit(method, base, deltas, digests):
    """The same merge of whole tensors in memory, under the same names."""
    name = "model.layers.0.self_attn.q_proj.weight"
    checkpoints = Held({BASE: base, **{d: base + delta for d, delta in zip(digests, deltas, strict=True)}})
    whole = merging.Merging(
        name,
        tuple(base.shape),
        Blend(method, {}),
        tuple((digest, name) for digest in digests),
        (BASE, name) if METHODS[method].on_deltas({}) else None,
        0,
    )
    found = torch.empty_like(base)
    whole.write(checkpoints, found)
    return found


# ---------------------------------------------------------------- what is refused


def test_a_result_that_overflows_is_an_error_not_a_model(family, live):
    recipe = uniform(
        family.pool(), family.pool().digests, Blend("linear", {"weight": 1e39, "normalize": False}), 0, "float32"
    )
    with pytest.raises(MergeError, match="NaN or infinite"):
        build.write(recipe, family, live)


def test_a_recipe_of_strangers_names_what_is_missing(family, live):
    recipe = replace(references(family.pool(), seed=0, dtype="float32")["parent:a"], parents=("feedface",))
    with pytest.raises(ParentError, match="digest feedface"):
        build.write(recipe, family, live)


def test_a_method_on_differences_needs_a_base(family, live):
    recipe = replace(middle(WeightsSpace(family.pool())), base=None)
    with pytest.raises(MergeError, match=r"Set parents\.base"):
        build.write(recipe, family, live)


def test_too_few_slots_and_scaled_slots_are_refused(family, live):
    recipe = middle(WeightsSpace(family.pool()))
    with pytest.raises(MergeError, match="1 blocks and the live model 2"):
        build.write(replace(recipe, slots=recipe.slots[:1]), family, live)
    with pytest.raises(MergeError, match=r"scale 0\.5"):
        build.write(replace(recipe, slots=(replace(recipe.slots[0], scale=0.5), recipe.slots[1])), family, live)


@pytest.mark.parametrize("field", ["dtype", "vocabulary"])
def test_what_a_recipe_asks_and_cannot_be_done_is_refused(family, live, field):
    recipe = replace(middle(WeightsSpace(family.pool())), **{field: "union"})
    with pytest.raises(MergeError, match=f"{field} 'union'"):
        build.write(recipe, family, live)


def test_blends_match_by_label_then_substring_then_star():
    blends = {"vectors": Blend("linear"), "up_proj": Blend("slerp"), "mlp": Blend("ties"), "*": Blend("passthrough")}
    pick = lambda name, *labels: build.pick(blends, name, set(labels)).method  # noqa: E731
    assert pick("x.norm.weight", "norms", "vectors") == "linear"
    assert pick("x.mlp.up_proj.weight", "mlp") == "slerp"
    assert pick("x.mlp.down_proj.weight", "mlp") == "ties"
    assert pick("x.mlpx.weight", "other") == "passthrough"
    with pytest.raises(MergeError, match="no blend"):
        build.pick({"mlp": Blend("ties")}, "x.weight", {"other"})


def test_a_tied_head_is_written_once(family):
    model, _ = blank.live_model(family.base_folder, CPU, "float32")
    names = blank.targets(model, [*family.model.files, "lm_head.weight"])
    assert ("lm_head.weight" in names) != ("model.embed_tokens.weight" in names)


def test_a_name_that_the_live_model_lacks_is_refused(family):
    model, _ = blank.live_model(family.base_folder, CPU, "float32")
    with pytest.raises(ParentError, match=r"keeps no tensor 'model\.fused\.weight'"):
        blank.targets(model, [*family.model.files, "model.fused.weight"])
    with pytest.raises(ParentError, match="the checkpoint lacks"):
        blank.targets(model, [n for n in family.model.files if "mlp.up" not in n])
