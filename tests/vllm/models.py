"""Tiny random llamas with attention heads of a width that vLLM's CPU kernels know, and questions to ask them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from evomerge.models.family import Family, open_family
from evomerge.types import Blend, Recipe, Slot
from tests.models_pico import DRIFT, make_tokenizer

IDS = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 259}
BLENDS = {
    "linear": Blend("linear", {"weight": (0.4, 0.7)}),
    "ties": Blend("ties", {"weight": (0.7, 0.6), "density": 0.4}),
    "dare_ties": Blend("dare_ties", {"weight": (0.7, 0.6), "density": 0.5}),
}


def make_model(folder: Path, *, seed: int, base: Path | None = None, tie: bool = True, heads: int = 4) -> Path:
    """A llama of 2 blocks over bytes, 4 heads of width 32 by default, or an expert near `base`. Returns `folder`."""
    config = LlamaConfig.from_pretrained(base) if base else _config(tie, heads)
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(config)
    start = load_file(base / "model.safetensors") if base else {}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(start[name] + DRIFT * noise if base else 0.15 * noise + (weight.ndim == 1))
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def _config(tie: bool, heads: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=260,
        hidden_size=128,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tie,
        **IDS,
    )


def make_family(root: Path, tie: bool = True) -> Family:
    base = make_model(root / "base", seed=0, tie=tie)
    experts = [str(make_model(root / name, seed=k, base=base)) for k, name in enumerate("ab", 1)]
    return open_family(experts, str(base))


def merged(family: Family, blend: Blend) -> Recipe:
    slots = tuple(Slot(((0, "model.layers", k), (1, "model.layers", k)), {"*": blend}) for k in range(2))
    return Recipe(family.pool().digests, family.pool().base, slots, {"*": blend}, seed=5)


def ask(kind: str, *arguments: Any) -> SimpleNamespace:
    return SimpleNamespace(request_type=kind, args=arguments)


def questions() -> list[SimpleNamespace]:
    """All three kinds, mixed; with prompts of a few tokens and of more than two blocks of 128."""
    shots = "".join(f"Question: {k} and {k + 2}?\nAnswer: {2 * k + 2}\n\n" for k in range(8))
    found = []
    for k in range(3):
        for context in (f"{k} or", f"{shots}Question: {k} and {k}?\nAnswer:"):
            found += [ask("loglikelihood", context, f" {choice}") for choice in (k, "none", f"{k} or more")]
            found.append(ask("generate_until", context, {"until": ["\n"], "max_gen_toks": 6, "do_sample": False}))
        found.append(ask("loglikelihood_rolling", f"a text {k} that stands alone " * (1 + 20 * k)))
    return [*found, ask("loglikelihood", "", " without a context"), ask("loglikelihood_rolling", "long " * 150)]
