"""A PEFT LoRA adapter as a parent over a base: read as factors in float32 (Hu et al. 2021, arXiv:2106.09685).

Never as the difference of two bf16 checkpoints: rounding base + B @ A to bf16 loses much of a small task vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evomerge.errors import ParentError, unknown
from evomerge.models.lora_config import CONFIG, check_plain, read_config
from evomerge.models.lora_file import digest, read, read_factors, survey
from evomerge.models.lora_fit import check_frozen, check_shapes, check_tied, drop_copies
from evomerge.models.lora_keys import Change, Pair, Whole, find_changes, sort_keys
from evomerge.models.lora_names import skeleton
from evomerge.models.parent import Parent


@dataclass(frozen=True)
class Adapter:
    """An adapter at rest. `changes` says what becomes of which tensor of the base's files; the rest is untouched."""

    name: str
    folder: Path
    digest: str
    config: Mapping[str, Any]
    changes: Mapping[str, Change]

    def touches(self, name: str) -> bool:
        return name in self.changes

    def low_rank(self, name: str) -> bool:
        """Whether `factors` has an answer: the tensor is touched, and not stored whole."""
        return isinstance(self.changes.get(name), Pair)

    def delta(self, name: str, base: torch.Tensor) -> torch.Tensor:
        """float32, on the base's device and of its shape: the parent minus the base; zeros where untouched."""
        change = self.changes.get(name)
        if change is None:
            return torch.zeros_like(base, dtype=torch.float32)
        if isinstance(change, Whole):
            return read(self.folder, change.key).to(base.device).float() - base.float()
        left, right = read_factors(self.folder, change, base.device)
        return left @ right

    def factors(self, name: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 B (m, r) and A (r, n) with delta == B @ A as the base keeps the tensor; the scale is in B alone.

        Raises ParentError for a tensor that is untouched or stored whole.
        """
        change = self.changes.get(name)
        if not isinstance(change, Pair):
            raise ParentError(f"{self.name}: " + unknown("low-rank tensor", name, filter(self.low_rank, self.changes)))
        return read_factors(self.folder, change, device)


def is_adapter(folder: Path) -> bool:
    return (folder / CONFIG).is_file()


def open_adapter(name: str, folder: Path, base: Parent) -> Adapter:
    """Open an adapter over its base and check all of it.

    `name` is a folder or a hub id and `folder` where it lies, as `parent.locate` finds it. Raises ParentError for an
    adapter that is missing, corrupt, not plain low-rank addition, or made for another base.
    """
    local = Path(name).expanduser().is_dir()  # written into recipes, which may be read from anywhere
    name = str(folder) if local else name
    config = read_config(folder)
    check_plain(config, name)
    changes = _changes(name, folder, config, base)
    return Adapter(name, folder, digest(changes, folder), config, changes)


def _changes(name: str, folder: Path, config: Mapping[str, Any], base: Parent) -> dict[str, Change]:
    """Tensor of the base's files -> change."""
    bones = skeleton(base)
    shapes = survey(folder, name)
    contents = sort_keys(shapes, bones, name, base.name)
    changes = find_changes(contents, shapes, config, bones.in_out, name)
    check_shapes(changes, shapes, bones, base, name)
    check_frozen(contents.frozen, folder, bones, base, name)
    changes = drop_copies(changes, folder, bones, base)
    check_tied(changes, folder, bones, base.name, name)
    return {stored: change for live, change in changes.items() for stored in bones.at_rest[live]}
