"""A base without the base model's prefix and a fine-tune with it, as gpt2 and its children, are one family."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from evomerge import build
from evomerge.errors import ParentError
from evomerge.models import blank
from evomerge.models.family import open_family
from evomerge.spaces.references import references
from tests.models.test_lora import make_gpt2

PREFIX = "transformer."


def gpt2(folder: Path, change: float, *, prefixed: bool) -> Path:
    """The same random model, changed by a factor, its names as saved or without the prefix."""
    make_gpt2(folder, tie=True)
    tensors = {n: t * change for n, t in load_file(folder / "model.safetensors").items()}
    names = {n: n if prefixed else n.removeprefix(PREFIX) for n in tensors}
    save_file({names[n]: t for n, t in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("prefixed", [(False, True), (True, False)])
def test_names_with_and_without_the_prefix_are_one_family(prefixed, tmp_path):
    base = gpt2(tmp_path / "base", 1.0, prefixed=prefixed[0])
    child = gpt2(tmp_path / "child", 0.5, prefixed=prefixed[1])
    family = open_family([str(child)], str(base))
    recipes = references(family.pool(), seed=0, dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(base)
    live = blank.targets(model, family.shapes)
    build.write(recipes["parent:child"], family, live)
    wanted = AutoModelForCausalLM.from_pretrained(child).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items())


def test_names_that_differ_in_more_are_refused(tmp_path):
    base, child = (gpt2(tmp_path / n, 1.0, prefixed=False) for n in ("base", "child"))
    tensors = load_file(child / "model.safetensors")
    tensors["h.0.extra.weight"] = torch.ones(2)
    save_file(tensors, child / "model.safetensors")
    with pytest.raises(ParentError, match=r"'h\.0\.extra\.weight'"):
        open_family([str(child)], str(base))
