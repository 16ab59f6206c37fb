"""Generated families to build candidates of: Llamas of usual shapes, a base and experts or adapters near it."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from evomerge.config import ZOO

WEIGHTS = "model.safetensors"
#: Spread of a base's matrices, and of an expert's difference from them.
SPREAD, DRIFT = 0.02, 0.001
#: What adapters change, as most of them do.
ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Shape:
    """A Llama with tied embeddings; heads are 64 wide."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int

    @property
    def config(self) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            tie_word_embeddings=True,
            dtype="bfloat16",
        )


#: 135M and 360M are SmolLM's shapes; the smaller ones keep their proportions.
SHAPES = {
    "1M": Shape(64, 192, 4, 1, 1, 8192),
    "8M": Shape(192, 512, 10, 3, 1, 16384),
    "34M": Shape(320, 896, 18, 5, 1, 32768),
    "135M": Shape(576, 1536, 30, 9, 3, 49152),
    "360M": Shape(960, 2560, 32, 15, 5, 49152),
    "600M": Shape(1280, 3392, 32, 20, 5, 49152),
}


def make_family(folder: Path, shape: Shape, n_experts: int, dtype: torch.dtype) -> list[Path]:
    """Folders of a base and its experts: the same arguments give the same bytes."""
    made = [folder / "base", *(folder / f"expert{k}" for k in range(n_experts))]
    _save(made[0], shape, {name: _base(name, size) for name, size in _shapes(shape).items()}, dtype)
    for file in (ZOO / "pico" / "base").glob("*token*"):  # mergekit wants one; it is nobody's
        shutil.copy(file, made[0])
    for k, expert in enumerate(made[1:]):
        base = load_file(made[0] / WEIGHTS)
        _save(expert, shape, {name: t.float() + _delta(name, t.shape, k) for name, t in base.items()}, dtype)
    return made


def make_adapters(folder: Path, base: Path, n_adapters: int, rank: int) -> list[Path]:
    """Folders of LoRA adapters over all linear layers of the base, float32, as far from it as experts are."""
    made = [folder / f"adapter{k}" for k in range(n_adapters)]
    for k, adapter in enumerate(made):
        factors = {}
        for name, weight in load_file(base / WEIGHTS).items():
            if any(part in name for part in ADAPTED):
                key = "base_model.model." + name.removesuffix(".weight")
                rows, columns = weight.shape
                factors[f"{key}.lora_A.weight"] = _normal(f"{name} A", (rank, columns), k) * columns**-0.5
                factors[f"{key}.lora_B.weight"] = (
                    _normal(f"{name} B", (rows, rank), k) * DRIFT * (columns / rank) ** 0.5
                )
        adapter.mkdir(parents=True)
        save_file(factors, adapter / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(ADAPTED)}
        (adapter / "adapter_config.json").write_text(json.dumps(config))
    return made


def _shapes(shape: Shape) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = LlamaForCausalLM(shape.config)
    return {name: parameter.shape for name, parameter in model.named_parameters()}  # a tied one once


def _save(folder: Path, shape: Shape, tensors: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
    folder.mkdir(parents=True)
    config = shape.config
    config.architectures = ["LlamaForCausalLM"]
    config.dtype = dtype
    config.save_pretrained(folder)
    save_file({n: t.to(dtype) for n, t in tensors.items()}, folder / WEIGHTS, metadata={"format": "pt"})


def _base(name: str, size: torch.Size) -> torch.Tensor:
    return torch.ones(size) if len(size) == 1 else SPREAD * _normal(name, size, -1)


def _delta(name: str, size: torch.Size, expert: int) -> torch.Tensor:
    """Normal for experts of even number, else Student's t of 3 degrees of freedom: trimming meets heavy tails."""
    noise = _normal(name, size, expert)
    if expert % 2:
        squares = [_normal(f"{name} {i}", size, expert).square_() for i in range(3)]
        noise /= (torch.stack(squares).sum(0) / 3).sqrt_()
    return noise * DRIFT


def _normal(name: str, size: tuple[int, ...], member: int) -> torch.Tensor:
    """float32, by a generator of the tensor's and member's own."""
    seed = zlib.crc32(f"{member} {name}".encode())
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))
