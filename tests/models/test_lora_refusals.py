"""An adapter that is broken, or of another base, is refused before any work, with both values and a way out."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.errors import ParentError
from evomerge.models.lora import open_adapter
from evomerge.models.parent import open_parent
from tests.models_pico import make_pico

LAYER = "base_model.model.model.layers.0."
EMBED = "base_model.model.model.embed_tokens"
HEAD = "base_model.model.lm_head"
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "somewhere"}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    return {tie: open_parent(str(make_pico(root / str(tie), seed=0, tie=tie))) for tie in (True, False)}


def pair(module: str, m: int, n: int, r: int = 2) -> dict[str, torch.Tensor]:
    return {f"{module}.lora_A.weight": torch.ones(r, n), f"{module}.lora_B.weight": torch.ones(m, r)}


def looked_up(rows: int) -> dict[str, torch.Tensor]:
    return {f"{EMBED}.lora_embedding_A": torch.ones(2, rows), f"{EMBED}.lora_embedding_B": torch.ones(32, 2)}


def write(folder, tensors, config=CONFIG):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


GOOD = pair(f"{LAYER}self_attn.q_proj", 32, 32)
Q = f"{LAYER}self_attn.q_proj"
NAN = torch.tensor([[float("nan")] * 32] * 2)
#: case: tensors beside or over the good pair, whether the base ties its embeddings, words of the message
REFUSED = {
    "a module the base lacks": (
        pair(f"{LAYER}self_attn.qkv_proj", 32, 32),
        False,
        "changes 'model.layers.0.self_attn.qkv_proj.weight', which .* does not have.*base it was trained on",
    ),
    "a block the base lacks": (
        pair("base_model.model.model.layers.7.mlp.up_proj", 48, 32),
        False,
        "layers.7.* not have",
    ),
    "a classifier": ({"base_model.model.score.weight": torch.ones(2, 32)}, False, "'score.weight'.* does not have"),
    "a wider base": (
        pair(f"{LAYER}mlp.up_proj", 48, 64),
        False,
        r"mlp.up_proj.weight' of shape \(48, 64\), and .* has \(48, 32\)\. Give the base",
    ),
    "a transposed base": (pair(f"{LAYER}mlp.up_proj", 32, 48), False, r"shape \(32, 48\), and .* has \(48, 32\)"),
    "factors of resized embeddings": (
        looked_up(261),
        False,
        r"embed_tokens.weight' of shape \(261, 32\), and .* \(260, 32\)\. The vocabulary was resized.*whole model",
    ),
    "whole resized embeddings": (
        {f"{EMBED}.weight": torch.ones(261, 32)},
        False,
        r"shape \(261, 32\), and .* \(260, 32\)\. The vocabulary was resized",
    ),
    "a resized head": (pair(HEAD, 261, 32), False, r"lm_head.weight' of shape \(261, 32\).* \(260, 32\).*resized"),
    "the head of a tied base": (
        pair(HEAD, 260, 32),
        True,
        "changes 'lm_head.weight' and not 'model.embed_tokens.weight' alike, and .* ties the two.*tie_word_embeddings",
    ),
    "the embeddings of a tied base": (
        looked_up(260),
        True,
        "'model.embed_tokens.weight' and not 'lm_head.weight' alike",
    ),
    "head and embeddings of a tied base apart": (
        {**looked_up(260), **pair(HEAD, 260, 32), f"{HEAD}.lora_A.weight": torch.full((2, 32), 3.0)},
        True,
        "ties the two",
    ),
    "whole head and embeddings of a tied base apart": (
        {f"{EMBED}.weight": torch.ones(260, 32), f"{HEAD}.weight": torch.zeros(260, 32)},
        True,
        "ties the two",
    ),
    "whole head and factors of embeddings of a tied base": (
        {**looked_up(260), f"{HEAD}.weight": torch.zeros(260, 32)},
        True,
        "ties the two",
    ),
    "a copy of another base": (
        {**looked_up(260), f"{EMBED}.base_layer.weight": torch.ones(260, 32)},
        False,
        "trained over 'model.embed_tokens.weight'.* not that of",
    ),
    "no lora_B": ({f"{LAYER}mlp.up_proj.lora_A.weight": torch.ones(2, 32)}, False, "only lora_A for .*up_proj"),
    "no lora_A": ({f"{LAYER}mlp.up_proj.lora_B.weight": torch.ones(48, 2)}, False, "only lora_B for .*up_proj"),
    "factors and a whole tensor": ({f"{Q}.weight": torch.ones(32, 32)}, False, "stored whole beside its factors"),
    "another rank": (
        pair(f"{LAYER}mlp.up_proj", 48, 32, r=3),
        False,
        r"factors \(3, 32\) and \(48, 3\) for .*, and its config gives them rank 2",
    ),
    "a convolution": (
        {f"{Q}.lora_A.weight": torch.ones(2, 32, 1, 1), f"{Q}.lora_B.weight": torch.ones(32, 2, 1, 1)},
        False,
        r"\(2, 32, 1, 1\).*convolution.*merge_and_unload",
    ),
    "shards that were not gathered": ({f"{Q}.lora_A.weight": torch.ones(0)}, False, "not gathered when saving"),
    "NaN": ({f"{Q}.lora_A.weight": NAN}, False, r"q_proj\.lora_A\.weight' of .* NaN or infinite"),
    "infinity": ({f"{Q}.lora_B.weight": torch.full((32, 2), float("inf"))}, False, "NaN or infinite"),
    "NaN in a whole tensor": ({"base_model.model.model.norm.weight": NAN[0]}, False, r"norm\.weight' of .* NaN"),
    "magnitudes of DoRA": (
        {f"{Q}.lora_magnitude_vector": torch.ones(32)},
        False,
        "lora_magnitude_vector', which a plain",
    ),
    "a bias of lora_B": (
        {f"{Q}.lora_B.bias": torch.ones(32)},
        False,
        r"lora_B\.bias', which a plain LoRA adapter has not",
    ),
    "names of another tool": (
        {"model.layers.0.self_attn.q_proj.lora_a": torch.ones(2, 32)},
        False,
        "Wanted names such as",
    ),
    "trained token rows": (
        {f"{EMBED}.token_adapter.trainable_tokens_delta": torch.ones(1, 32)},
        False,
        "trainable_tokens_delta', which .* does not have",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_adapter_that_does_not_fit_is_refused(case, bases, tmp_path):
    tensors, tie, message = REFUSED[case]
    fine = write(tmp_path / "fine", GOOD)
    assert open_adapter(str(fine), fine, bases[tie]).changes  # what is refused below is what the case adds
    folder = write(tmp_path / "adapter", {**GOOD, **tensors})
    with pytest.raises(ParentError, match=message) as refusal:
        open_adapter(str(folder), folder, bases[tie])
    assert str(folder) in str(refusal.value)


def pickled(folder):
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


BROKEN = {
    "pickled": (pickled, "only adapter_model.bin, which can run code.*save_pretrained"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "has no weights"),
    "corrupt": (lambda f: (f / "adapter_model.safetensors").write_bytes(b"nothing"), "corrupt or incomplete"),
    "empty": (lambda f: save_file({}, f / "adapter_model.safetensors"), "has no tensors"),
    "no config": (lambda f: (f / "adapter_config.json").unlink(), r"no adapter_config\.json"),
    "config of another method": (lambda f: (f / "adapter_config.json").write_text("{}"), "peft_type None"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_refused(case, bases, tmp_path):
    spoil, message = BROKEN[case]
    folder = write(tmp_path / "adapter", GOOD)
    spoil(folder)
    with pytest.raises(ParentError, match=message):
        open_adapter(str(folder), folder, bases[False])
