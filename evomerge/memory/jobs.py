"""A search and a machine as the memory plan sees them, from parents, recipes and devices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from evomerge.errors import ParentError
from evomerge.memory.plan import Job, Load, Machine, Shape, shape_of
from evomerge.methods import get
from evomerge.models.blank import pick_dtype
from evomerge.models.family import bytes_of, checkpoint_dtype
from evomerge.models.lora import Adapter
from evomerge.models.residency import Placement, free_bytes
from evomerge.types import Recipe


def job_of(family: Any, *, recipe: Recipe, dtype: str, load: Load, residency: Placement | None = None) -> Job:
    """The job of a search over a family; `recipe` is any of its candidates: it names the methods in use."""
    checkpoints, adapters = family.checkpoints, [p for p in family.all if isinstance(p, Adapter)]
    methods = [get(name) for name in methods_of(recipe)]
    return Job(
        shape=family_shape(family),
        checkpoints=tuple(map(bytes_of, checkpoints)),
        n_parents=len(family.parents),
        itemsize=pick_dtype(checkpoint_dtype(family.model)).itemsize,
        live_itemsize=pick_dtype(dtype).itemsize,
        load=load,
        learns=any(method.learns for method in methods),
        keeps=max(method.keeps for method in methods),
        whole=_whole(family.shapes, adapters, deltas=all(method.on == "deltas" for method in methods)),
        adapters=tuple(map(folder_bytes, adapters)),
        residency=residency,
    )


def _whole(shapes: Mapping[str, Sequence[int]], adapters: Sequence[Adapter], *, deltas: bool) -> int:
    """Entries of the adapters' tensors that are held whole at once: differences are made of their factors in pieces."""
    pieces = {name: sum(deltas and (a.low_rank(name) or not a.touches(name)) for a in adapters) for name in shapes}
    return max(math.prod(shape) * (len(adapters) - pieces[name]) for name, shape in shapes.items())


def family_shape(family: Any) -> Shape:
    return shape_of(read_config(family), family.shapes)


def read_config(family: Any) -> Any:
    """The transformers config of the live model. Raises ParentError for an architecture that is not known."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(family.base_folder, local_files_only=True)
    except (ValueError, OSError, KeyError) as e:
        raise ParentError(f"transformers does not know the model in {family.base_folder} ({e}).") from e


def methods_of(recipe: Recipe) -> set[str]:
    blends = [b for slot in recipe.slots for b in slot.blends.values()] + list(recipe.outer.values())
    return {blend.method for blend in blends}


def folder_bytes(adapter: Any) -> int:
    return sum(path.stat().st_size for path in Path(adapter.folder).glob("*.safetensors"))


def machine_of(device: torch.device, *, every: bool = False) -> Machine:
    """What is free now on the device, or, of every visible CUDA device, on the fullest."""
    many = every and device.type == "cuda"
    devices = [torch.device("cuda", i) for i in range(torch.cuda.device_count())] if many else [device]
    free = min(map(free_bytes, devices))
    return Machine(free, psutil.virtual_memory().available, unified=device.type != "cuda")
