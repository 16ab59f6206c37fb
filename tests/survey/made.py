"""Parents made from a base tensor by tensor, so that what a survey should find is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from evomerge.models.family import open_family
from evomerge.survey.measure import survey
from evomerge.survey.nouns import Survey

CPU = torch.device("cpu")
Weights = dict[str, torch.Tensor]


def remade(base: Path, folder: Path, change: Callable[[Weights], Weights]) -> Path:
    """A checkpoint like the base's, with changed weights."""
    folder.mkdir(parents=True)
    shutil.copy(base / "config.json", folder)
    weights = {name: tensor.contiguous() for name, tensor in change(load_file(base / "model.safetensors")).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def moved(base: Path, folder: Path, **towards: float) -> Path:
    """base + sum of length * unit direction; directions are orthogonal and named: moved(..., u=3.0, v=4.0)."""

    def change(weights: Weights) -> Weights:
        flat = torch.cat([weights[name].double().flatten() for name in sorted(weights)])
        shift = sum(length * direction(key, len(flat)) for key, length in towards.items())
        parts = (flat + shift).split([weights[name].numel() for name in sorted(weights)])
        return {n: p.view_as(weights[n]).to(weights[n].dtype) for n, p in zip(sorted(weights), parts, strict=True)}

    return remade(base, folder, change)


def direction(key: str, n: int) -> torch.Tensor:
    """float64 (n,), of length 1; different letters a to z are orthogonal: each has every 26th entry."""
    unit = torch.zeros(n, dtype=torch.float64)
    mine = unit[ord(key) - ord("a") :: 26]
    mine.copy_(torch.randn(len(mine), generator=torch.Generator().manual_seed(ord(key)), dtype=torch.float64))
    return unit / unit.norm()


def adapter(base: Path, folder: Path, rank: int = 2, scale: float = 0.1) -> tuple[Path, Weights]:
    """A LoRA on every q_proj of the base (alpha = rank), and the differences it means."""
    generator = torch.Generator().manual_seed(5)
    shapes = {n: t.shape for n, t in load_file(base / "model.safetensors").items() if n.endswith("q_proj.weight")}
    keys, deltas = {}, {}
    for name, (out, inner) in shapes.items():
        b, a = torch.randn(out, rank, generator=generator) * scale, torch.randn(rank, inner, generator=generator)
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        keys |= {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}
        deltas[name] = b @ a
    folder.mkdir(parents=True)
    save_file(keys, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "task_type": "CAUSAL_LM"}))
    return folder, deltas


def surveyed(base: Path | None, *parents: Path, **options: int) -> Survey:
    family = open_family([str(p) for p in parents], str(base) if base else None)
    names = [chr(ord("A") + i) for i in range(len(parents))]
    return survey(family, device=CPU, names=names, **options)
