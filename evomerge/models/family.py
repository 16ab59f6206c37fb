"""The parents of a search, checked against each other, and their tensors kept close to the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

from evomerge.errors import ParentError
from evomerge.models import layout
from evomerge.models.parent import Parent, open_parent
from evomerge.types import Pool


@dataclass
class Family:
    """Base and parents of one architecture. `read` keeps tensors resident on the device while they fit."""

    base: Parent | None
    parents: tuple[Parent, ...]
    resident: bool | None = None
    _kept: dict[tuple[str, str, str], torch.Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for parent in self.parents:
            check_pair(self.model, parent)
        self._by_digest = {p.digest: p for p in self.all}

    @property
    def all(self) -> list[Parent]:
        return [*([self.base] if self.base else []), *self.parents]

    @property
    def model(self) -> Parent:
        """The checkpoint that lends its config and tokenizer: the base, or the first parent."""
        return self.base or self.parents[0]

    @property
    def base_folder(self) -> Path:
        return self.model.folder

    def pool(self) -> Pool:
        return Pool(
            names=tuple(Path(p.name).name or p.folder.name for p in self.parents),
            digests=tuple(p.digest for p in self.parents),
            base=self.base.digest if self.base else None,
            stacks=layout.stacks(self.model.files),
            dtype=checkpoint_dtype(self.model),
        )

    def find(self, digest: str) -> Parent:
        if digest not in self._by_digest:
            known = ", ".join(f"{p.name} ({p.digest})" for p in self.all)
            raise ParentError(
                f"the recipe wants a parent with digest {digest}; given: {known}. Add it to parents.models."
            )
        return self._by_digest[digest]

    def read(self, digest: str, name: str, device: torch.device) -> torch.Tensor:
        """A tensor on the device in its checkpoint dtype; not to be written to."""
        key = (digest, name, str(device))
        if key not in self._kept:
            tensor = self.find(digest).read(name).to(device)
            if not self._fits(device):
                return tensor
            self._kept[key] = tensor
        return self._kept[key]

    def _fits(self, device: torch.device) -> bool:
        if self.resident is None:  # decided once: half of what is free now may hold parents
            self.resident = sum(map(bytes_of, self.all)) < free_bytes(device) // 2
        return self.resident

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": {}}  # workers read their own copy; weights never travel


def open_family(models: Sequence[str], base: str | None = None) -> Family:
    """Open base and parents. Raises ParentError at the first checkpoint that is unreadable or does not fit."""
    if not models:
        raise ParentError("no parents given. Set 'parents.models=[A,B]' (folders or hub ids), or use parents=pico.")
    return Family(open_parent(base) if base else None, tuple(open_parent(m) for m in models))


def check_pair(one: Parent, other: Parent) -> None:
    """Same architecture, tensor names and shapes; each mismatch is named with both values."""
    a, b = (p.config.get("architectures") or [p.config.get("model_type")] for p in (one, other))
    if a != b:
        raise ParentError(f"{one.name} is a {a} and {other.name} a {b}. Merge checkpoints of one architecture.")
    odd = sorted(set(one.shapes) ^ set(other.shapes))
    if odd:
        owner = one if odd[0] in one.shapes else other
        raise ParentError(
            f"only {owner.name} has the tensor '{odd[0]}' ({len(odd)} differ). Merge fine-tunes of one base."
        )
    for name, shape in one.shapes.items():
        if shape != other.shapes[name]:
            raise ParentError(
                f"parents differ at '{name}': {shape} in {one.name}, {other.shapes[name]} in {other.name}. Unequal "
                "vocabularies or widths cannot be merged; drop one of them."
            )


def checkpoint_dtype(parent: Parent) -> str:
    """The dtype that most entries of a checkpoint have."""
    sizes: dict[str, int] = {}
    for name, dtype in parent.dtypes.items():
        sizes[dtype] = sizes.get(dtype, 0) + torch.Size(parent.shapes[name]).numel()
    return max(sizes, key=lambda dtype: sizes[dtype])


def bytes_of(parent: Parent) -> int:
    return sum(p.stat().st_size for p in set(parent.files.values()))


def free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
