"""Adapters as parents, from the command line: searched, exported as a model and as an adapter, and equal to PEFT's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from evomerge import build
from evomerge.adapter import export_adapter
from evomerge.cli import main
from evomerge.engine import merging
from evomerge.engine.passes import Pass
from evomerge.engine.pieces import Inputs
from evomerge.engine.sources import Stored
from evomerge.errors import MergeError
from evomerge.methods import METHODS
from evomerge.methods.coefficients import of_differences, scales
from evomerge.methods.entries import Entries
from evomerge.models.family import open_family
from evomerge.picks import pick
from evomerge.spaces.references import references, uniform
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Blend, Recipe, Slot

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PEFT's, of tied embeddings
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def adapters(pico, tmp_path_factory) -> list[Path]:
    """Two random adapters of unequal rank and modules over the tiny base."""
    root = tmp_path_factory.mktemp("adapters")
    return [
        make_adapter(pico["base"], root / "one", seed=1, r=2, target_modules=["q_proj", "up_proj"]),
        make_adapter(pico["base"], root / "two", seed=2, r=3, target_modules=["q_proj", "v_proj", "down_proj"]),
    ]


def make_adapter(base: Path, folder: Path, *, seed: int, **options) -> Path:
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), peft.LoraConfig(lora_alpha=4, **options))
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        if "lora_" in name:
            weight.data.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def family(pico, adapters):
    return open_family([str(a) for a in adapters], str(pico["base"]))


@pytest.fixture(scope="module")
def run(command, adapters, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "adapters"
    kept = [word for word in command if not word.startswith("parents.models")]
    models = f"parents.models=[{','.join(map(str, adapters))}]"
    assert main([*kept, models, "budget.evaluations=4", f"run={folder}"]) == 0
    return folder


def by_peft(base: Path, folder: Path) -> dict[str, torch.Tensor]:
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), folder)
    return model.merge_and_unload().state_dict()


def built(recipe, family) -> dict[str, torch.Tensor]:
    live = {name: torch.empty(shape) for name, shape in family.shapes.items()}
    build.write(recipe, family, live)
    return live


def test_an_adapter_alone_is_the_model_that_peft_merges(family, pico, adapters):
    recipes = references(family.pool(), seed=0, dtype="float32")
    for name, folder in zip(("one", "two"), adapters, strict=True):
        wanted, found = by_peft(pico["base"], folder), built(recipes[f"parent:{name}"], family)
        for tensor in found:
            torch.testing.assert_close(found[tensor], wanted[tensor], rtol=1e-6, atol=1e-6)


def test_a_coefficient_counts_once_and_its_sign_turns_the_difference(family, pico, adapters):
    space = WeightsSpace(family.pool(), ranges={"weight": [-1, 1]})
    forth, back = (built(space.decode([(w + 1) / 2, 0.5]), family) for w in (1.0, -0.5))
    base = load_file(pico["base"] / "model.safetensors")
    for name in base:
        torch.testing.assert_close(back[name] - base[name], -0.5 * (forth[name] - base[name]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_slicing_changes_no_bit_with_adapters(family, method, monkeypatch):
    _, high = METHODS[method].arity
    pool = family.pool()
    recipe = uniform(pool, pool.digests[: high or 2], Blend(method), 0, "float32")
    whole = built(recipe, family)
    monkeypatch.setattr(merging, "SLICE", 100)
    planned = build.layers(recipe)
    for name, tensor in whole.items():
        slices = [part for _, part in build.merge_tensor(recipe, planned, family, name, CPU)]
        assert torch.equal(torch.cat(slices), tensor)


def test_what_no_adapter_touches_is_the_base_bit_for_bit(family, pico):
    space = WeightsSpace(family.pool(), method="ties")
    found = built(space.decode([0.9] * space.size), family)
    base = load_file(pico["base"] / "model.safetensors")
    untouched = [n for n in base if not any(family.touches(p.digest, n) for p in family.parents)]
    assert len(untouched) == 12
    assert all(torch.equal(found[name], base[name]) for name in untouched)


def test_a_search_over_adapters_exports_a_model_and_an_adapter_that_are_the_same(run, pico, tmp_path, capsys):
    ident = next(f for f in json.loads(stop(run))["finalists"] if f["id"].startswith("search:"))["id"]
    assert main(["export", str(run), "--to", str(tmp_path / "model"), "--pick", ident]) == 0
    capsys.readouterr()
    assert main(["export", str(run), "--to", str(tmp_path / "adapter"), "--pick", ident, "--adapter"]) == 0
    assert "rank 5, relative error 0 of" in capsys.readouterr().out
    assert {"README.md", "recipe.yaml"} <= {p.name for p in (tmp_path / "adapter").iterdir()}
    model, merged = load_file(tmp_path / "model" / "model.safetensors"), by_peft(pico["base"], tmp_path / "adapter")
    for name in model:
        torch.testing.assert_close(model[name], merged[name], rtol=1e-5, atol=1e-6)


def test_an_adapter_is_scored_over_its_base(run, adapters, pico, command, tmp_path, capsys):
    assert main(["export", str(run), "--to", str(tmp_path / "model"), "--pick", "parent:one"]) == 0
    tasks, found = [word for word in command if word.startswith("task.")], []
    for model in (["score", str(adapters[0]), f"parents.base={pico['base']}"], ["score", str(tmp_path / "model")]):
        capsys.readouterr()
        assert main([*model, *tasks, "--json", "device=cpu"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1]
    assert main(["score", str(adapters[0]), *tasks]) == 2
    assert "Set parents.base" in capsys.readouterr().err


def test_the_exported_recipe_finds_its_adapters_again(run, tmp_path):
    assert main(["export", str(run), "--to", str(tmp_path / "one")]) == 0
    assert main(["merge", str(tmp_path / "one" / "recipe.yaml"), "--to", str(tmp_path / "two")]) == 0
    one, two = (load_file(tmp_path / n / "model.safetensors") for n in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def stop(run: Path) -> str:
    lines = (run / "journal.jsonl").read_text().splitlines()
    return next(line for line in lines if '"row":"stop"' in line.replace(" ", "") and '"finalists"' in line)


@pytest.mark.parametrize("rank", [1, 3, 5])
@pytest.mark.parametrize("method", ["task_arithmetic", "ties"])
def test_a_truncated_adapter_misses_what_it_says(family, pico, tmp_path, method, rank):
    space = WeightsSpace(family.pool(), method=method)
    recipe = space.decode([0.8] * space.size)
    summary = export_adapter(recipe, family, tmp_path / "out", CPU, "", rank)
    merged, wanted = by_peft(pico["base"], tmp_path / "out"), built(recipe, family)
    base = load_file(pico["base"] / "model.safetensors")
    missed = sum(float((merged[n] - wanted[n]).double().square().sum()) for n in wanted) ** 0.5
    norm = sum(float((wanted[n] - base[n]).double().square().sum()) for n in wanted) ** 0.5
    assert missed / norm == pytest.approx(summary.error, rel=1e-3, abs=1e-5)
    exact = method == "task_arithmetic" and rank == 5
    assert (summary.error < 1e-6) == exact and summary.rank == rank


def test_a_full_checkpoint_among_the_parents_is_no_adapter(pico, adapters, tmp_path):
    mixed = open_family([str(adapters[0]), str(pico["a"])], str(pico["base"]))
    recipe = WeightsSpace(mixed.pool()).decode([0.5, 0.5])
    with pytest.raises(MergeError, match="is a full checkpoint"):
        export_adapter(recipe, mixed, tmp_path / "out", CPU, "")


def test_adapters_and_checkpoints_merge_together(pico, adapters):
    mixed = open_family([str(adapters[0]), str(pico["a"])], str(pico["base"]))
    space = WeightsSpace(mixed.pool(), ranges={"weight": [0, 1]})
    found = built(space.decode([1.0, 0.5]), mixed)
    base, a = (load_file(pico[n] / "model.safetensors") for n in ("base", "a"))
    alone = by_peft(pico["base"], adapters[0])
    for name in found:
        torch.testing.assert_close(found[name], alone[name] + 0.5 * (a[name] - base[name]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("blend", "wanted"),
    [
        (Blend("task_arithmetic", {"weight": (0.5, -1.0), "scale": 2.0}), (1.0, -2.0)),
        (Blend("task_arithmetic", {"weight": (1.0, 3.0), "normalize": True}), (0.25, 0.75)),
        (Blend("linear", {"weight": (1.0, 3.0)}), (0.25, 0.75)),
        (Blend("linear", {"weight": (1.0, 3.0), "normalize": False}), None),
        (Blend("dare_linear", {"weight": (1.0, 2.0), "density": 1.0}), (1.0, 2.0)),
        (Blend("dare_linear", {"weight": (1.0, 2.0), "density": (1.0, 0.9)}), None),
        (Blend("dare_linear", {"weight": (1.0, 0.0), "density": (1.0, 0.9)}), (1.0, 0.0)),
        (Blend("della_linear", {"weight": (1.0, 2.0)}), (1.0, 2.0)),
        (Blend("breadcrumbs", {"weight": (1.0, 2.0)}), (1.0, 2.0)),
        (Blend("breadcrumbs", {"weight": (1.0, 2.0), "density": 0.5}), None),
        (Blend("ties", {"weight": (1.0, 2.0)}), None),
        (Blend("ties", {"weight": (0.5, 0.0), "scale": 3.0, "normalize": False}), (1.5, 0.0)),
        (Blend("ties", {"weight": (0.5, 0.0), "scale": 3.0, "normalize": True}), (3.0, 0.0)),
        (Blend("dare_ties", {"weight": (0.0, -0.5)}), (0.0, -0.5)),
        (Blend("ties", {"weight": 0.0, "density": 0.2}), (0.0, 0.0)),
        (Blend("slerp", {"t": 0.0}), None),
        (Blend("multislerp", {"weight": (1.0, 0.0)}), None),
    ],
)
def test_which_blends_are_sums_of_differences(blend, wanted):
    assert of_differences(blend, 2) == wanted


@pytest.mark.parametrize("method", METHODS)
def test_what_is_said_to_be_a_sum_of_differences_is_one(family, method):
    for knobs in ({"weight": (0.7, 0.4)}, {"weight": (-0.5, 0.0)}, {"weight": (0.0, 0.0), "density": 0.3}):
        known = {name: value for name, value in knobs.items() if METHODS[method].knob(name)}
        wanted = of_differences(Blend(method, known), 2) if METHODS[method].arity[0] <= 2 else None
        if wanted is None or method == "passthrough":
            continue
        pool = family.pool()
        found = built(uniform(pool, pool.digests, Blend(method, known), 0, "float32"), family)
        added = Blend("task_arithmetic", {"weight": wanted})
        summed = built(uniform(pool, pool.digests, added, 0, "float32"), family)
        for name in found:
            torch.testing.assert_close(found[name], summed[name], rtol=1e-5, atol=1e-6)


def one_parent_a_block(family, method: str, **knobs) -> Recipe:
    """Each block draws on one parent, which is not the same everywhere."""
    blend = Blend(method, knobs)
    slots = tuple(Slot(((block % 2, "model.layers", block),), {"*": blend}) for block in range(2))
    digests = tuple(p.digest for p in family.parents)
    outer = Blend("task_arithmetic", {"weight": 0.5})
    return Recipe(digests, family.base.digest, slots, {"*": outer})


def test_blocks_that_draw_on_parents_of_their_own_are_exported_as_they_are_built(family, pico, tmp_path):
    recipe = one_parent_a_block(family, "task_arithmetic", weight=0.7)
    assert set(family.stacks) == {"model.layers"}
    assert export_adapter(recipe, family, tmp_path / "out", CPU, "").error == 0
    wanted, merged = built(recipe, family), by_peft(pico["base"], tmp_path / "out")
    for name in wanted:
        torch.testing.assert_close(wanted[name], merged[name], rtol=1e-5, atol=1e-6)


def test_a_slerp_of_adapters_is_an_adapter_with_its_error(family, pico, tmp_path):
    recipe = WeightsSpace(family.pool(), method="slerp").decode([0.3])
    summary = export_adapter(recipe, family, tmp_path / "out", CPU, "")
    assert 0 < summary.error < 1 and by_peft(pico["base"], tmp_path / "out")


@pytest.mark.parametrize("method", METHODS)
def test_of_equal_tensors_a_method_at_its_defaults_scales_none(method):
    low, high = METHODS[method].arity
    n = high or max(2, low)
    assert not scales(Blend(method, {}), n)
    same = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(merged_of_equals(Blend(method, {}), same, n), same)


@pytest.mark.parametrize(
    ("blend", "n", "factor"),
    [
        (Blend("linear", {"weight": 0.7, "normalize": False}), 2, 1.4),
        (Blend("passthrough", {"scale": 0.5}), 1, 0.5),
        (Blend("multislerp", {"weight": 0.7, "normalize_weights": False, "differences": False}), 3, 2.1),
        (Blend("multislerp", {"weight": 0.7, "normalize_weights": False}), 3, 1.0),
        (Blend("multislerp", {"weight": 0.7, "differences": False}), 3, 1.0),
        (Blend("multislerp", {"weight": 0.7, "normalize_weights": False, "differences": False}), 1, 1.0),
        (Blend("nuslerp", {"weight": (0.7, 0.9), "differences": False}), 2, 1.0),
        (Blend("karcher", {"weight": 0.3}), 2, 1.0),
        (Blend("slerp", {"t": 0.3}), 2, 1.0),
    ],
)
def test_which_blends_scale_equal_tensors(blend, n, factor):
    same = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(merged_of_equals(blend, same, n), factor * same)
    assert scales(blend, n) == (factor != 1.0)


def merged_of_equals(blend: Blend, same: torch.Tensor, n: int) -> torch.Tensor:
    """What n parents equal to their base become."""
    method = METHODS[blend.method]
    base = same if method.on_deltas(blend.knobs) else None
    values = torch.stack([same if base is None else torch.zeros_like(same)] * n)
    flat = same.view(-1)
    entries = replace(Entries.of(values), ground=None if base is None else lambda a, b: flat[a:b])
    sources = [Stored(value, CPU, is_delta=base is not None) for value in values]
    merged = torch.empty(same.numel())
    ground = None if base is None else Stored(base, CPU)
    Pass(method.settle(entries, **blend.knobs), Inputs(sources, ground, entries)).flat(0, same.numel(), merged)
    return merged.view(same.shape)


def test_a_merge_that_scales_what_no_adapter_touches_is_no_adapter(family, tmp_path):
    recipe = one_parent_a_block(family, "linear", weight=0.7, normalize=False)
    with pytest.raises(MergeError, match=r"scales .model\.layers\.0\..*weights that add up to one"):
        export_adapter(recipe, family, tmp_path / "out", CPU, "")


def test_moved_blocks_are_no_adapter(family, run, tmp_path):
    recipe, _ = pick(run)
    data = yaml.safe_load(yaml.safe_dump(recipe.data()))
    from evomerge.recipe_io import from_data

    data["slots"].reverse()
    with pytest.raises(MergeError, match="moves blocks"):
        export_adapter(from_data(data), family, tmp_path / "out", CPU, "")
