"""What must hold on an accelerator: run with `-m gpu` on a machine that has one."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from evomerge import build
from evomerge.cli import main
from evomerge.engine import passes
from evomerge.methods import METHODS
from evomerge.models import blank
from evomerge.models.family import open_family
from evomerge.spaces.references import references
from evomerge.spaces.weights import WeightsSpace
from tests.test_adapters import make_adapter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def built(pico, device: str, make_recipe, parents="ab") -> dict[str, torch.Tensor]:
    family = open_family([str(pico[name]) for name in parents], str(pico["base"]))
    model, _ = blank.live_model(family.base_folder, torch.device(device), "float32")
    live = blank.targets(model, family.model.files)
    build.write(make_recipe(family.pool()), family, live)
    return {name: tensor.cpu() for name, tensor in live.items()}


@pytest.mark.parametrize("method", METHODS)
def test_a_merge_built_there_is_the_one_built_here(pico, method):
    def recipe(pool):
        space = WeightsSpace(pool, method=method, seed=5)
        return space.decode([0.4] * space.size)

    parents = "ab"[: METHODS[method].arity[1] or 2]
    here, there = (built(pico, device, recipe, parents) for device in ("cpu", "cuda"))
    for name, tensor in here.items():
        torch.testing.assert_close(there[name], tensor, rtol=1e-5, atol=1e-6)


def test_a_parent_written_there_is_that_parent_bit_for_bit(pico):
    here, there = (
        built(pico, device, lambda pool: references(pool, seed=0, dtype="float32")["parent:a"])
        for device in ("cpu", "cuda")
    )
    assert all(torch.equal(there[name], tensor) for name, tensor in here.items())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # PEFT's, of tied embeddings
def test_adapters_merged_there_are_those_merged_here(pico, tmp_path):
    adapter = make_adapter(pico["base"], tmp_path / "one", seed=1, r=2, target_modules=["q_proj", "up_proj"])
    family = open_family([str(adapter), str(pico["a"])], str(pico["base"]))
    space = WeightsSpace(family.pool(), method="ties", seed=5)
    recipe, made = space.decode([0.4] * space.size), {}
    for device in ("cpu", "cuda"):
        live = {name: torch.empty(shape, device=device) for name, shape in family.shapes.items()}
        build.write(recipe, family, live)
        made[device] = live
    for name, tensor in made["cpu"].items():
        torch.testing.assert_close(made["cuda"][name].cpu(), tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "della"])
@pytest.mark.parametrize("compiles", [False, True])
def test_wherever_the_parents_lie_the_merge_has_the_same_bits(tmp_path, monkeypatch, method, compiles):
    monkeypatch.setattr(passes, "STREAMED", 1 << 16)  # many pieces through the two buffers
    made, folders = {}, generated(tmp_path)
    for placement in ("device", "host", "disk"):
        family = open_family([str(p) for p in folders[1:]], str(folders[0]))
        family.placement, family.compiles = placement, compiles
        space = WeightsSpace(family.pool(), method=method, seed=5)
        made[placement] = {n: torch.empty(s, device="cuda", dtype=torch.bfloat16) for n, s in family.shapes.items()}
        for _ in range(2):  # the second finds kept tensors
            build.write(space.decode([0.4] * space.size), family, made[placement])
    for name, tensor in made["device"].items():
        assert torch.equal(made["host"][name], tensor) and torch.equal(made["disk"][name], tensor), name


def test_streamed_parents_never_lie_on_the_device_whole_and_host_ones_are_pinned(tmp_path, monkeypatch):
    monkeypatch.setattr(passes, "STREAMED", 1 << 16)
    folders = generated(tmp_path)
    family = open_family([str(p) for p in folders[1:]], str(folders[0]))
    family.placement, family.compiles = "host", False
    space = WeightsSpace(family.pool(), method="task_arithmetic", seed=5)
    live = {n: torch.empty(s, device="cuda", dtype=torch.bfloat16) for n, s in family.shapes.items()}
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    build.write(space.decode([0.4] * space.size), family, live)
    assert torch.cuda.max_memory_allocated() - before < max(t.nbytes for t in live.values())
    digest = family.pool().digests[0]
    kept = family.home(digest, "model.embed_tokens.weight", torch.device("cuda:0"))
    assert kept.is_pinned() and torch.equal(kept, family.find(digest).read("model.embed_tokens.weight"))


def generated(folder):
    """Folders of a base and two parents in bfloat16 whose largest tensor has 4 Mi entries."""
    config = LlamaConfig(
        vocab_size=16384, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4
    )
    with torch.random.fork_rng():
        for k in range(3):
            torch.manual_seed(k)
            LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / str(k))
    return [folder / str(k) for k in range(3)]


def test_the_selftest_passes(capsys):
    assert main(["doctor", "--selftest", "device=cuda"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"]
