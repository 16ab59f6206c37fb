"""Decoders of many families are found by their tensors' names; what transformers renames on loading is refused."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge import build
from evomerge.errors import ParentError
from evomerge.models import blank, layout
from evomerge.models.family import open_family
from evomerge.spaces.references import references
from tests.models_pico import make_tokenizer

LLAMA = {
    "vocab_size": 260,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
NEOX = {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
MERGED = {
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": {**LLAMA, "head_dim": 8},
    "gemma2": {**LLAMA, "head_dim": 8},
    "gemma3_text": {**LLAMA, "head_dim": 8},
    "phi": LLAMA,
    "phi3": {**LLAMA, "pad_token_id": 0},
    "olmo2": LLAMA,
    "granite": LLAMA,
    "starcoder2": LLAMA,
    "gpt2": {"vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "falcon": {"vocab_size": 260, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "opt": {
        **{k: LLAMA[k] for k in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")},
        "ffn_dim": 48,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 32,
    },
}
REFUSED = {"gpt_neox": NEOX, "mixtral": {**LLAMA, "num_local_experts": 4}}


def two_models(kind, settings, tmp_path):
    config = AutoConfig.for_model(kind, **settings)
    for seed, name in enumerate(("base", "expert")):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
        make_tokenizer().save_pretrained(tmp_path / name)
    return open_family([str(tmp_path / "expert")], str(tmp_path / "base"))


def opened(family):
    model, _ = blank.live_model(family.base_folder, torch.device("cpu"), "float32")
    return model, blank.targets(model, family.model.files)


@pytest.mark.parametrize("kind", MERGED)
def test_an_expert_written_in_place_answers_as_the_expert(kind, tmp_path):
    family = two_models(kind, MERGED[kind], tmp_path)
    blank.check_names(family.base_folder, family.model.files)
    model, live = opened(family)
    build.write(references(family.pool(), seed=0, dtype="float32")["parent:expert"], family, live)
    expert = AutoModelForCausalLM.from_pretrained(tmp_path / "expert").eval()
    ids = torch.tensor([[1, 2, 3, 4]])
    assert torch.equal(model(ids).logits, expert(ids).logits)


@pytest.mark.parametrize("kind", MERGED)
def test_blocks_and_parts_are_found(kind, tmp_path):
    family = two_models(kind, MERGED[kind], tmp_path)
    assert list(family.pool().stacks.values()) == [2]
    parts = {layout.place(name).part for name in family.model.files}
    assert {"self_attn", "mlp", "norms", "embeddings"} <= parts <= {"self_attn", "mlp", "norms", "embeddings", "head"}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_renamed_on_loading_is_refused_and_not_guessed(kind, tmp_path):
    family = two_models(kind, REFUSED[kind], tmp_path)
    with pytest.raises(ParentError, match="renamed or fused on loading"):
        blank.check_names(family.base_folder, family.model.files)  # from the config alone
    with pytest.raises(ParentError, match="renamed or fused on loading"):
        opened(family)
