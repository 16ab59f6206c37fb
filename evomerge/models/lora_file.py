"""The weights of an adapter at rest: read by key in float32, and named by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from evomerge.errors import ParentError
from evomerge.models.lora_keys import Change, Pair, Shape, Whole

WEIGHTS = "adapter_model.safetensors"


def survey(folder: Path, adapter: str) -> dict[str, Shape]:
    """Key -> shape. Raises ParentError for a missing, pickled, corrupt, empty or non-finite file."""
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        got = "only adapter_model.bin, which can run code when read" if pickled else "no weights"
        raise ParentError(f"{adapter} has {got}. Wanted {WEIGHTS}: load it with PEFT and save_pretrained it again.")
    try:
        with safe_open(path, framework="pt") as f:
            tensors = {key: f.get_tensor(key) for key in sorted(f.keys())}
    except (SafetensorError, OSError) as e:
        raise ParentError(f"{path} is corrupt or incomplete ({e}). Download or save it again.") from e
    bad = next((key for key, tensor in tensors.items() if not bool(torch.isfinite(tensor.float()).all())), None)
    if bad:
        raise ParentError(f"'{bad}' of {adapter} has NaN or infinite entries. Leave this parent out, or repair it.")
    if not tensors:
        raise ParentError(f"{adapter} has no tensors: nothing was trained, or nothing was saved. Save it again.")
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def read(folder: Path, key: str) -> torch.Tensor:
    """A tensor on the CPU in its own dtype."""
    with safe_open(folder / WEIGHTS, framework="pt") as f:
        tensor: torch.Tensor = f.get_tensor(key)
    return tensor


def read_factors(folder: Path, pair: Pair, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 B (m, r) and A (r, n) as the base keeps them; the scale is in B alone."""
    a, b = (read(folder, key).to(device).float() for key in (pair.a, pair.b))
    left, right = (a.T, b.T) if pair.transposed else (b, a)
    return left * pair.scale, right


def digest(changes: Mapping[str, Change], folder: Path) -> str:
    """16 hex digits over names, scales, orientations and content: the same in any folder, with any metadata."""
    content = hashlib.sha256()
    for name in sorted(changes):
        change = changes[name]
        if isinstance(change, Whole):
            _add(content, f"{name} whole", read(folder, change.key))
            continue
        for half, key in (("a", change.a), ("b", change.b)):
            _add(content, f"{name} {half} {change.scale!r} {change.transposed}", read(folder, key))
    return content.hexdigest()[:16]


def _add(content: hashlib._Hash, title: str, tensor: torch.Tensor) -> None:
    content.update(f"{title} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
    content.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
