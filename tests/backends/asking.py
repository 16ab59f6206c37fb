"""Requests and tiny models of several architectures, for the tests of the backends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
import transformers as tf

from evomerge.backends.hf import HFBackend
from tests.models_pico import SPECIAL, make_tokenizer

IDS = {f"{name}_id": 256 + i for i, name in enumerate(SPECIAL) if name != "unk_token"}
SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024}
LLAMA = {"vocab_size": 260, "hidden_size": 32, "intermediate_size": 48, **SHAPE, **IDS}
GPT2 = {"vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024, **IDS}
GEMMA = {**LLAMA, "head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 2.0}
GDN = {"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
KINDS: dict[str, Callable[[], Any]] = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA, tie_word_embeddings=True)),
    "untied": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA, tie_word_embeddings=False)),
    "learned_positions": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**GPT2)),
    "softcap": lambda: tf.Gemma2ForCausalLM(tf.Gemma2Config(**GEMMA, sliding_window=2000)),
    "scaled_logits": lambda: tf.GraniteForCausalLM(tf.GraniteConfig(**LLAMA, logits_scaling=3.0)),
    "alibi": lambda: tf.BloomForCausalLM(tf.BloomConfig(vocab_size=260, hidden_size=32, n_layer=2, n_head=4, **IDS)),
    "experts": lambda: tf.MixtralForCausalLM(tf.MixtralConfig(**LLAMA, num_local_experts=4)),
    "wide_window": lambda: tf.MistralForCausalLM(tf.MistralConfig(**LLAMA, sliding_window=150)),
    "narrow_window": lambda: tf.MistralForCausalLM(tf.MistralConfig(**LLAMA, sliding_window=8)),
    "alibi_by_column": lambda: tf.MptForCausalLM(
        tf.MptConfig(vocab_size=260, d_model=32, n_heads=4, n_layers=2, max_seq_len=1024, expansion_ratio=2, **IDS)
    ),
    "convolution": lambda: tf.Lfm2ForCausalLM(tf.Lfm2Config(**LLAMA, layer_types=["conv", "full_attention"])),
    "encoder_decoder": lambda: tf.T5ForConditionalGeneration(
        tf.T5Config(
            vocab_size=260, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=259, **IDS
        )
    ),
}


def make(kind: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """A random model whose answers differ from item to item."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = KINDS[kind]().eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
    model.generation_config.pad_token_id = IDS["pad_token_id"]
    return model.to(dtype)


def wrapped(model: Any, **settings: Any) -> HFBackend:
    return HFBackend(**settings).wrap(model, make_tokenizer())


def ask(kind: str, *arguments: object) -> SimpleNamespace:
    return SimpleNamespace(request_type=kind, args=arguments)


def examples(shots: int, seed: int = 0) -> str:
    return "".join(f"Question: {k} and {k + seed}?\nAnswer: {2 * k + seed}\n\n" for k in range(shots))


def choices(shots: int, items: int = 6, *, own_shots: bool = False) -> list[SimpleNamespace]:
    """Multiple choice: contexts and choices of unequal lengths, some choices of one token, some that begin alike."""
    found = []
    for k in range(items):
        context = f"{examples(shots, k if own_shots else 0)}Question: {'1 and ' * (k % 3)}{k}?\nAnswer: "
        found += [ask("loglikelihood", context[:-1], f" {c}") for c in (k, f"{k}{k + 1}", f"{k} or more", "none")]
        found += [ask("loglikelihood", context[:-1] + "=", c) for c in "abc"]
    return found


ODD = [
    ask("loglikelihood", "", " without a context"),
    ask("loglikelihood", "", "w"),
    ask("loglikelihood", "spaces move   ", "on"),
    ask("loglikelihood", "<s>begins itself", " so"),
    ask("loglikelihood", "asked twice", " here"),
    ask("loglikelihood", "asked twice", " here"),
]


def distance(a: Sequence[tuple[float, bool]], b: Sequence[tuple[float, bool]]) -> float:
    return max(abs(x[0] - y[0]) for x, y in zip(a, b, strict=True))


def read(backend: HFBackend, requests: Sequence[Any]) -> int:
    """Tokens that the model reads to answer these."""
    before = backend.tokens_forwarded
    backend.answer(requests)
    return backend.tokens_forwarded - before
