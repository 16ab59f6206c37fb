"""Tiny random models for tests: a two-block llama over bytes, saved as a checkpoint folder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

#: In the order of their ids, which is the order PreTrainedTokenizerFast adds them in.
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
CHAT = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPREAD = 0.25  # std of random weights: answers differ from item to item
DRIFT = 0.05  # std of an expert's difference from its base


def make_pico(folder: Path, *, seed: int, base: Path | None = None, tie: bool = True, dtype: str = "float32") -> Path:
    """Saves a random model, or with `base` an expert: the base's weights plus small noise. Returns `folder`.

    The same arguments give the same bytes; the global generator is not touched. `tie` is the base's if there is one.
    """
    config = LlamaConfig.from_pretrained(base) if base else _config(tie)
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(config)
    start = load_file(base / "model.safetensors") if base else {}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(start[name].float() + DRIFT * noise if base else SPREAD * noise + (weight.ndim == 1))
    model.generation_config.pad_token_id = config.pad_token_id
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, four special tokens after them, and a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytewise, clean_up_tokenization_spaces=False, **SPECIAL)
    tokenizer.chat_template = CHAT
    return tokenizer


def _config(tie: bool) -> LlamaConfig:
    ids = {f"{name}_id": 256 + i for i, name in enumerate(SPECIAL)}
    ids.pop("unk_token_id")
    return LlamaConfig(
        vocab_size=260,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=tie,
        **ids,
    )
