"""A model is written with the bits of the live one, by pieces; its card names what the hub can find."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from evomerge import api
from evomerge.build import write
from evomerge.errors import MergeError
from evomerge.export import _for_one, export, model_card, pieces
from evomerge.models.family import open_family
from evomerge.spaces.references import references
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Blend

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_card_lists_hub_parents_by_id_and_all_parents_with_their_versions(pico, tmp_path, monkeypatch):
    repository = tmp_path / "models--org--model"
    shutil.copytree(pico["a"], repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    family = open_family(["org/model"], str(pico["base"]))
    recipe = references(family.pool(), seed=0, dtype="float32")["average"]
    card = model_card("a merge", recipe, family, "", {"run": "r"})
    front = card.split("---")[1]
    assert "base_model:\n- org/model\n" in front and str(pico["base"]) not in front
    assert f"| parent | org/model@{COMMIT} | `{family.parents[0].digest}` |" in card
    assert f"| base | {pico['base'].resolve()} |" in card


@pytest.mark.parametrize("method", ["ties", "della", "sce"])
def test_a_written_model_has_the_bits_of_the_live_one_and_nothing_is_kept_of_its_tensors(
    pico, tmp_path, method, monkeypatch
):
    family = open_family([str(pico["a"]), str(pico["b"])], str(pico["base"]))
    space = WeightsSpace(family.pool(), method=method)
    recipe = replace(space.decode([0.4] * space.size), out_dtype="bfloat16")
    live = {name: torch.empty(shape, dtype=torch.bfloat16) for name, shape in family.shapes.items()}
    write(recipe, family, live)
    learned = {shelf: set(known) for shelf, known in family.learned.items()}
    assert len(learned) > 1  # what a search keeps, and an export leaves alone
    alone = []
    monkeypatch.setattr("evomerge.export.pieces", lambda r, f, *rest: alone.append(f) or pieces(r, f, *rest))
    told = []
    export(recipe, family, tmp_path / "merged", torch.device("cpu"), "card", told.append)
    written = load_file(tmp_path / "merged" / "model.safetensors")
    assert set(written) == set(live) and all(torch.equal(written[name], live[name]) for name in live)
    assert sum(told) == sum(tensor.nbytes for tensor in live.values())
    assert {shelf: set(known) for shelf, known in family.learned.items()} == learned
    assert alone and all(set(f.learned) == {"together"} and not any(f.learned["together"].values()) for f in alone)


def test_a_model_of_one_use_is_read_from_disk_tensor_by_tensor(pico, tmp_path):
    family = open_family([str(pico["a"])], str(pico["base"]))
    recipe = references(family.pool(), seed=0, dtype="float32")["average"]
    export(recipe, family, tmp_path / "merged", torch.device("cpu"), "card")
    assert family.placement is None and not family._kept


@pytest.mark.parametrize("device, compiles", [("cpu", False), ("cuda", None)])
def test_on_cuda_a_model_is_compiled_or_not_as_its_candidate_was(pico, device, compiles):
    family = open_family([str(pico["a"])], str(pico["base"]))
    assert _for_one(family, torch.device(device)).compiles is compiles  # None: as a search has it


def test_a_merge_that_overflows_its_dtype_is_refused_and_leaves_no_model(pico, tmp_path):
    family = open_family([str(pico["a"])], str(pico["base"]))
    space = WeightsSpace(family.pool(), method="linear")
    recipe = space.decode([0.5] * space.size)
    loud = {"*": Blend("passthrough", {"scale": 1e9})}
    slots = tuple(replace(slot, blends=loud, sources=slot.sources[:1]) for slot in recipe.slots)
    recipe = replace(recipe, slots=slots, out_dtype="float16")
    with pytest.raises(MergeError, match="NaN or infinite entries in 'model"):
        export(recipe, family, tmp_path / "merged", torch.device("cpu"), "card")
    assert not list((tmp_path / "merged").iterdir())  # the same command may be given again


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_alone(pico, tmp_path, monkeypatch, capsys, terminal):
    if terminal:
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
    family = open_family([str(pico["a"])], str(pico["base"]))
    recipe = references(family.pool(), seed=0, dtype="float32")["average"]
    api.merge(recipe, tmp_path / "merged", family=family, device="cpu", progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and ("writing" in shown.err) == terminal
