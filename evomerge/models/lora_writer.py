"""A merged low-rank delta on disk as PEFT reads it: adapter_model.safetensors and adapter_config.json of scale 1."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import save_file

from evomerge.errors import MergeError
from evomerge.models.lora_config import CONFIG
from evomerge.models.lora_file import WEIGHTS
from evomerge.models.lora_keys import PREFIX
from evomerge.models.lora_names import Skeleton, skeleton
from evomerge.models.parent import Parent
from evomerge.models.writer import make_readable, prepare_folder

Factors: TypeAlias = Mapping[str, tuple[torch.Tensor, torch.Tensor]]


def write_adapter(
    folder: Path,
    factors: Factors,
    *,
    base: Parent,
    base_name: str,
    whole: Mapping[str, torch.Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write factors, by the names of the base's files, as an adapter that PEFT adds to the base with scale 1.

    factors: B (m, r), A (r, n) with delta == B @ A as the base keeps the tensor. whole: tensors to take the base's
    place. `base_name` is written for the reader of the adapter: a folder or hub id. Raises MergeError for a tensor
    that the base lacks, has in another shape, or ties and shall change by factors; EvomergeError for the folder.
    """
    bones = skeleton(base)
    pairs = {_live(name, bones, base): pair for name, pair in factors.items()}
    wholes = {_live(name, bones, base): tensor for name, tensor in (whole or {}).items()}
    _check(pairs, wholes, bones, base)
    tensors = {**_factor_tensors(pairs, bones), **_whole_tensors(wholes, pairs, bones, base)}
    stored = {PREFIX + key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in tensors.items()}
    prepare_folder(folder, sum(tensor.nbytes for tensor in stored.values()))
    save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})
    config = {**_config(pairs, wholes, bones), "base_model_name_or_path": base_name}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    make_readable(folder)


def _live(name: str, bones: Skeleton, base: Parent) -> str:
    live = next((live for live, stored in bones.at_rest.items() if name in stored), None)
    if live is None:
        raise MergeError(f"{base.name} has no tensor '{name}'. Name tensors as the base's files do.")
    return live


def _check(pairs: Factors, wholes: Mapping[str, torch.Tensor], bones: Skeleton, base: Parent) -> None:
    if not pairs:
        raise MergeError("no factors to write, and PEFT wants one module at least. Write the whole model instead.")
    made = {live: (b.shape[0], a.shape[1]) for live, (b, a) in pairs.items()}
    for live, shape in [*made.items(), *((live, tuple(t.shape)) for live, t in wholes.items())]:
        wanted = base.shapes[bones.at_rest[live][0]]
        if shape != wanted:
            raise MergeError(f"'{live}' of {base.name} has the shape {wanted}, and the change {shape}.")
    for live in pairs:
        if live in wholes:
            raise MergeError(f"'{live}' is given as factors and whole. Give one of the two.")
        if len(bones.names[live]) > 1:
            raise MergeError(
                f"{base.name} ties {' and '.join(bones.names[live])}, and PEFT would change the first alone. Give the "
                "tensor whole, or write the whole model."
            )


def _factor_tensors(pairs: Factors, bones: Skeleton) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for live, (b, a) in pairs.items():
        module = live.removesuffix(".weight")
        if module in bones.lookups:
            tensors |= {f"{module}.lora_embedding_A": b.T, f"{module}.lora_embedding_B": a.T}
        else:
            first, second = (b.T, a.T) if module in bones.in_out else (a, b)
            tensors |= {f"{module}.lora_A.weight": first, f"{module}.lora_B.weight": second}
    return tensors


def _whole_tensors(
    wholes: Mapping[str, torch.Tensor], pairs: Factors, bones: Skeleton, base: Parent
) -> dict[str, torch.Tensor]:
    """Biases beside factors under `base_layer`; else the whole module, under each of its names, as PEFT reads it."""
    tensors: dict[str, torch.Tensor] = {}
    for live, tensor in wholes.items():
        module, _, leaf = live.rpartition(".")
        if f"{module}.weight" in pairs:
            tensors[f"{module}.base_layer.{leaf}"] = tensor
            continue
        for sibling in (s for s in bones.names if s.rpartition(".")[0] == module):
            given = wholes.get(sibling)
            value = base.read(bones.at_rest[sibling][0]) if given is None else given
            tensors |= {name: value.clone() for name in bones.names[sibling]}
    return tensors


def _config(pairs: Factors, wholes: Mapping[str, torch.Tensor], bones: Skeleton) -> dict[str, Any]:
    ranks = {live.removesuffix(".weight"): b.shape[1] for live, (b, _) in pairs.items()}
    beside = [live for live in wholes if live.rpartition(".")[0] in ranks]
    saved = {name.rpartition(".")[0] for live in wholes if live not in beside for name in bones.names[live]}
    usual = Counter(ranks.values()).most_common(1)[0][0] if ranks else 1
    unusual = {f"^{module}": rank for module, rank in sorted(ranks.items()) if rank != usual}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "r": usual,
        "lora_alpha": usual,  # alpha / r == 1: the scale is in the factors
        "rank_pattern": unusual,
        "alpha_pattern": unusual,
        "target_modules": _targets(set(ranks), bones),
        "modules_to_save": sorted(saved) or None,
        "bias": "lora_only" if beside else "none",
        "fan_in_fan_out": bool(ranks.keys() & bones.in_out),
        "init_lora_weights": True,
        "lora_dropout": 0.0,
    }


def _targets(modules: set[str], bones: Skeleton) -> list[str]:
    """Last words where they name no other module, else whole names: PEFT matches both."""
    last = {module: module.rpartition(".")[2] for module in modules}
    alike = {word: {m for m in bones.modules if m.rpartition(".")[2] == word} for word in set(last.values())}
    return sorted({word if alike[word] <= modules else module for module, word in last.items()})
