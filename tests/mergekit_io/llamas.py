"""Tiny llamas made of files alone: the golden script, in mergekit's Python, and the tests, in ours, make the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

BLOCKS, WIDTH, MIDDLE, TOKENS = 4, 16, 24, 100
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": TOKENS,
    "hidden_size": WIDTH,
    "intermediate_size": MIDDLE,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
SPREAD, DRIFT = 0.25, 0.05  # std of the base's weights, and of a fine-tune's difference from it


def shapes(blocks: int = BLOCKS) -> dict[str, tuple[int, ...]]:
    block = {
        "input_layernorm.weight": (WIDTH,),
        "self_attn.q_proj.weight": (WIDTH, WIDTH),
        "self_attn.k_proj.weight": (WIDTH // 2, WIDTH),
        "self_attn.v_proj.weight": (WIDTH // 2, WIDTH),
        "self_attn.o_proj.weight": (WIDTH, WIDTH),
        "post_attention_layernorm.weight": (WIDTH,),
        "mlp.gate_proj.weight": (MIDDLE, WIDTH),
        "mlp.up_proj.weight": (MIDDLE, WIDTH),
        "mlp.down_proj.weight": (WIDTH, MIDDLE),
    }
    outer = {"model.embed_tokens.weight": (TOKENS, WIDTH), "model.norm.weight": (WIDTH,)}
    inner = {f"model.layers.{b}.{rest}": shape for b in range(blocks) for rest, shape in block.items()}
    return {**outer, **inner, "lm_head.weight": (TOKENS, WIDTH)}


def weights(seed: int, *, drift_of: int | None = None) -> dict[str, torch.Tensor]:
    """float32 weights, or those of the base `drift_of` plus noise. numpy's legacy stream never changes."""
    draw = np.random.RandomState(seed)
    base = weights(drift_of) if drift_of is not None else {}
    made = {}
    for name, shape in sorted(shapes().items()):
        noise = torch.from_numpy(draw.standard_normal(shape).astype(np.float32))
        made[name] = base[name] + DRIFT * noise if base else SPREAD * noise + (len(shape) == 1)
    return made


def save(folder: Path, tensors: dict[str, torch.Tensor], dtype: torch.dtype = torch.float32) -> Path:
    folder.mkdir(parents=True)
    name = str(dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps({**CONFIG, "torch_dtype": name}, indent=1))
    save_file({n: t.to(dtype).contiguous() for n, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


def make_llamas(folder: Path) -> Path:
    """base, math and code (fine-tunes of it) in float32, and base16, math16 in bfloat16."""
    base, math, code = weights(0), weights(1, drift_of=0), weights(2, drift_of=0)
    for name, tensors in (("base", base), ("math", math), ("code", code)):
        save(folder / name, tensors)
    for name, tensors in (("base16", base), ("math16", math)):
        save(folder / name, tensors, torch.bfloat16)
    return folder
