"""What must hold on an accelerator: run with `-m gpu` on a machine that has one."""

from __future__ import annotations

import json

import pytest
import torch

from evomerge import build
from evomerge.cli import main
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


def built(pico, device: str, make_recipe) -> dict[str, torch.Tensor]:
    family = open_family([str(pico["a"]), str(pico["b"])], str(pico["base"]))
    model, _ = blank.live_model(family.base_folder, torch.device(device), "float32")
    live = blank.targets(model, family.model.files)
    build.write(make_recipe(family.pool()), family, live)
    return {name: tensor.cpu() for name, tensor in live.items()}


@pytest.mark.parametrize("method", [m for m in METHODS if m != "passthrough"])
def test_a_merge_built_there_is_the_one_built_here(pico, method):
    def recipe(pool):
        space = WeightsSpace(pool, method=method, seed=5)
        return space.decode([0.4] * space.size)

    here, there = (built(pico, device, recipe) for device in ("cpu", "cuda"))
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


def test_the_selftest_passes(capsys):
    assert main(["doctor", "--selftest", "device=cuda"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"]
