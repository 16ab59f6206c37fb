"""Families of language models: found by their tensors' names, written in place through them, or refused with a word."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from evomerge.errors import ParentError
from evomerge.models import blank, layout
from evomerge.models.parent import Parent, open_parent
from evomerge.models.shards import SHARD, Outline, write_shards
from tests.models_pico import make_tokenizer

SIZES = {"vocab_size": 260, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
DENSE = {**SIZES, "intermediate_size": 24, "max_position_embeddings": 64}
GROUPED = {**DENSE, "num_key_value_heads": 1}
HEADED = {**GROUPED, "head_dim": 8}
ROUTED = {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
LOCAL = {**GROUPED, "num_local_experts": 4}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
MIXED = {"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 2, "topk_group": 1}
T5 = {"vocab_size": 260, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
T5 |= {"decoder_start_token_id": 259, "pad_token_id": 259}
BART = {"vocab_size": 260, "d_model": 16, "max_position_embeddings": 64, "decoder_start_token_id": 256}
for side in ("encoder", "decoder"):
    BART |= {f"{side}_layers": 2, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 24}
GPT2 = {"vocab_size": 260, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
ERNIE = {**GROUPED, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 8, "moe_layer_start_index": 0}
NEMOTRON = {**HEADED, "layers_block_type": ["moe", "attention"], "n_routed_experts": 4, "num_experts_per_tok": 2}


class Family(NamedTuple):
    """A model type's settings; and what its files hold: stacks with their depths, tensors of each part."""

    settings: dict[str, Any]
    stacks: dict[str, int]
    parts: dict[str, int]


#: A word after "/" tells variants of a model type apart.
FAMILIES = {
    "llama": Family(GROUPED, {"model.layers": 2}, {"self_attn": 8, "mlp": 6, "norms": 5, "embeddings": 1, "head": 1}),
    "llama/tied": Family(
        {**GROUPED, "tie_word_embeddings": True},
        {"model.layers": 2},
        {"self_attn": 8, "mlp": 6, "norms": 5, "embeddings": 1},
    ),
    "mistral": Family(GROUPED, {"model.layers": 2}, {"self_attn": 8, "mlp": 6, "norms": 5, "embeddings": 1, "head": 1}),
    "qwen2": Family(GROUPED, {"model.layers": 2}, {"self_attn": 14, "mlp": 6, "norms": 5, "embeddings": 1, "head": 1}),
    "qwen3": Family(HEADED, {"model.layers": 2}, {"self_attn": 8, "mlp": 6, "norms": 9, "embeddings": 1, "head": 1}),
    "gemma2": Family(HEADED, {"model.layers": 2}, {"self_attn": 8, "mlp": 6, "norms": 9, "embeddings": 1}),
    "gemma3_text": Family(HEADED, {"model.layers": 2}, {"self_attn": 8, "mlp": 6, "norms": 13, "embeddings": 1}),
    "phi": Family(DENSE, {"model.layers": 2}, {"self_attn": 16, "mlp": 8, "norms": 6, "embeddings": 1, "head": 2}),
    "phi3": Family(
        {**GROUPED, "pad_token_id": 0},
        {"model.layers": 2},
        {"self_attn": 4, "mlp": 4, "norms": 5, "embeddings": 1, "head": 1},
    ),
    "olmo2": Family(GROUPED, {"model.layers": 2}, {"self_attn": 8, "mlp": 6, "norms": 9, "embeddings": 1, "head": 1}),
    "granite": Family(GROUPED, {"model.layers": 2}, {"self_attn": 8, "mlp": 6, "norms": 5, "embeddings": 1, "head": 1}),
    "starcoder2": Family(GROUPED, {"model.layers": 2}, {"self_attn": 16, "mlp": 8, "norms": 10, "embeddings": 1}),
    "falcon": Family(SIZES, {"transformer.h": 2}, {"self_attn": 4, "mlp": 4, "norms": 6, "embeddings": 1}),
    "opt": Family(
        {**SIZES, "ffn_dim": 24, "word_embed_proj_dim": 16, "max_position_embeddings": 64},
        {"model.decoder.layers": 2},
        {"self_attn": 16, "mlp": 8, "norms": 10, "embeddings": 2},
    ),
    "gpt2": Family(GPT2, {"transformer.h": 2}, {"self_attn": 8, "mlp": 8, "norms": 10, "embeddings": 2}),
    "gpt_neox": Family(
        DENSE, {"gpt_neox.layers": 2}, {"self_attn": 8, "mlp": 8, "norms": 10, "embeddings": 1, "head": 1}
    ),
    "mixtral": Family(
        LOCAL, {"model.layers": 2}, {"self_attn": 8, "mlp": 24, "router": 2, "norms": 5, "embeddings": 1, "head": 1}
    ),
    "phimoe": Family(
        LOCAL, {"model.layers": 2}, {"self_attn": 8, "mlp": 24, "router": 2, "norms": 10, "embeddings": 1, "head": 1}
    ),
    "granitemoe": Family(
        LOCAL, {"model.layers": 2}, {"self_attn": 8, "mlp": 4, "router": 2, "norms": 5, "embeddings": 1, "head": 1}
    ),
    "gpt_oss": Family(
        {**LOCAL, "head_dim": 8},
        {"model.layers": 2},
        {"self_attn": 18, "mlp": 8, "router": 4, "norms": 5, "embeddings": 1, "head": 1},
    ),
    "qwen2_moe": Family(
        {**ROUTED, "shared_expert_intermediate_size": 12},
        {"model.layers": 2},
        {"self_attn": 14, "mlp": 30, "router": 4, "norms": 5, "embeddings": 1, "head": 1},
    ),
    "qwen3_moe": Family(
        {**ROUTED, "head_dim": 8},
        {"model.layers": 2},
        {"self_attn": 8, "mlp": 24, "router": 2, "norms": 9, "embeddings": 1, "head": 1},
    ),
    "olmoe": Family(
        ROUTED, {"model.layers": 2}, {"self_attn": 8, "mlp": 24, "router": 2, "norms": 9, "embeddings": 1, "head": 1}
    ),
    "deepseek_v3": Family(
        {**ROUTED, **LATENT, **MIXED, "num_key_value_heads": 2},
        {"model.layers": 2},
        {"self_attn": 10, "mlp": 18, "router": 2, "norms": 9, "embeddings": 1, "head": 1},
    ),
    "ernie4_5_moe": Family(
        ERNIE, {"model.layers": 2}, {"self_attn": 8, "mlp": 30, "router": 4, "norms": 5, "embeddings": 1}
    ),
    "nemotron_h": Family(
        NEMOTRON,
        {"backbone.layers": 2},
        {"self_attn": 4, "mlp": 10, "router": 2, "norms": 3, "embeddings": 1, "head": 1},
    ),
    "mamba": Family(
        {"vocab_size": 260, "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
        {"backbone.layers": 2},
        {"norms": 3, "embeddings": 1, "other": 18},
    ),
    "bert/decoder": Family(
        {**DENSE, "is_decoder": True},
        {"bert.encoder.layer": 2},
        {"self_attn": 16, "mlp": 8, "norms": 12, "embeddings": 3, "head": 3},
    ),
    "t5": Family(
        T5,
        {"encoder.block": 2, "decoder.block": 2},
        {"self_attn": 18, "cross_attn": 8, "mlp": 8, "norms": 12, "embeddings": 1},
    ),
    "t5/gated": Family(
        {**T5, "feed_forward_proj": "gated-gelu"},
        {"encoder.block": 2, "decoder.block": 2},
        {"self_attn": 18, "cross_attn": 8, "mlp": 12, "norms": 12, "embeddings": 1},
    ),
    "bart": Family(
        BART,
        {"model.encoder.layers": 2, "model.decoder.layers": 2},
        {"self_attn": 32, "cross_attn": 16, "mlp": 16, "norms": 24, "embeddings": 3, "head": 1},
    ),
}
REFUSED = {
    "bert": (DENSE, "is a bert encoder, which sees the tokens it is to predict"),
    "gemma3": ({"text_config": HEADED, "vision_config": {}}, r"several kinds of input \(text_config, vision_config\)"),
    "whisper": ({"vocab_size": 260, "d_model": 16, "pad_token_id": 0}, "Wanted a language model it knows"),
    "hrm_text": (HEADED, "keeps no tensor '.*gqkv_proj.weight' .* renamed or fused on loading"),
}


def auto(config: Any) -> Any:
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def save(folder: Path, kind: str, settings: dict[str, Any], seed: int) -> Parent:
    """A random model of the family, every entry drawn anew: norms and biases too."""
    config = AutoConfig.for_model(kind.split("/")[0], **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto(config).from_config(config)
    generator = torch.Generator().manual_seed(seed)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return open_parent(str(folder))


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request, tmp_path_factory) -> tuple[Family, Parent, Parent]:
    """The family and two random models of it."""
    family, root = FAMILIES[request.param], tmp_path_factory.mktemp("pair")
    return family, *(save(root / name, request.param, family.settings, seed) for seed, name in enumerate("ab"))


def logits(model: Any) -> torch.Tensor:
    ids = torch.tensor([[1, 2, 3, 4]])
    with torch.inference_mode():
        return model(ids, **({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})).logits


def merged_in_place(one: Parent, other: Parent, dtype: str = "float32") -> None:
    """Opens one, writes the other's tensors from its files, and demands the other as transformers loads it."""
    blank.check_names(one.folder, one.files)
    live, _ = blank.live_model(one.folder, torch.device("cpu"), dtype)
    blank.verify(live, one.files, one.read)
    for name, target in blank.targets(live, one.files).items():
        target.copy_(other.read(name))
    wanted = auto(live.config).from_pretrained(other.folder, dtype=getattr(torch, dtype)).eval()
    entries = wanted.state_dict()
    assert live.state_dict().keys() == entries.keys()
    assert [name for name, tensor in live.state_dict().items() if not torch.equal(tensor, entries[name])] == []
    assert torch.equal(logits(live), logits(wanted))


def test_another_model_of_the_family_written_in_place_is_that_model(pair):
    _, one, other = pair
    merged_in_place(one, other)


def test_stacks_and_parts_are_found(pair):
    family, one, _ = pair
    assert list(layout.stacks(one.files).items()) == list(family.stacks.items())
    assert Counter(layout.place(name).part for name in one.files) == family.parts


def test_one_changed_entry_of_any_tensor_is_told_by_name(pair):
    _, one, _ = pair
    live, _ = blank.live_model(one.folder, torch.device("cpu"), "float32")
    targets = blank.targets(live, one.files)
    for name in [*targets][:: max(1, len(targets) // 6)]:
        entry = targets[name][(0,) * targets[name].dim()]
        before = entry.clone()
        entry.add_(1.0)
        with pytest.raises(ParentError, match=f"does not load '{name}'"):
            blank.verify(live, one.files, one.read)
        entry.copy_(before)
    blank.verify(live, one.files, one.read)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_merged_is_refused_before_and_after_weights_are_read(kind, tmp_path):
    settings, words = REFUSED[kind]
    config = AutoConfig.for_model(kind, **settings)
    files: dict[str, Path] = {}
    if kind in ("bert", "hrm_text"):
        files = dict(save(tmp_path, kind, settings, 0).files)
    config.save_pretrained(tmp_path)
    with pytest.raises(ParentError, match=words):
        blank.check_names(tmp_path, files)
    with pytest.raises(ParentError, match=words):
        blank.targets(blank.live_model(tmp_path, torch.device("cpu"), "float32")[0], files)


# ---------------------------------------------------------------- how files of one model may differ


def rewrite(parent: Parent, change: Any, shard_bytes: int = SHARD) -> Parent:
    """The parent saved again with changed tensors, in shards of about so many bytes."""
    tensors = change(load_file(parent.folder / "model.safetensors"))
    (parent.folder / "model.safetensors").unlink()
    outlines = {name: Outline(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    write_shards(parent.folder, outlines, lambda name: [tensors[name]], shard_bytes=shard_bytes)
    return open_parent(str(parent.folder))


def renamed(old: str, new: str) -> Any:
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def narrow(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """bfloat16 matrices among float32 norms."""
    return {name: t.bfloat16() if t.dim() > 1 else t for name, t in tensors.items()}


def both_of_the_tied(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}


def with_constants(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**tensors, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        pytest.param("gpt2", renamed("transformer.", ""), id="gpt2 without its prefix"),
        pytest.param("llama/tied", renamed("model.", ""), id="llama without its prefix"),
        pytest.param("bert/decoder", renamed("LayerNorm.weight", "LayerNorm.gamma"), id="gamma"),
        pytest.param("bert/decoder", renamed("LayerNorm.bias", "LayerNorm.beta"), id="beta"),
        pytest.param("gpt_neox", renamed("embed_out.", "lm_head."), id="gpt_neox as its live names"),
        pytest.param("llama/tied", both_of_the_tied, id="both names of the tied"),
        pytest.param("llama", with_constants, id="constants of old"),
    ],
)
def test_files_that_spell_the_same_model_otherwise_are_written_in_place(kind, change, tmp_path):
    settings = FAMILIES[kind].settings
    one, other = (rewrite(save(tmp_path / name, kind, settings, i), change) for i, name in enumerate("ab"))
    merged_in_place(one, other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["llama/tied", "mixtral", "t5"])
def test_mixed_dtypes_over_several_shards_are_written_in_place(kind, dtype, tmp_path):
    settings = FAMILIES[kind].settings
    one, other = (
        rewrite(save(tmp_path / name, kind, settings, i), narrow, shard_bytes=8000) for i, name in enumerate("ab")
    )
    merged_in_place(one, other, dtype)
