"""Tensors in memory that the engine merges as it does a family's: one tensor 'w' of each parent, and the base's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from evomerge.engine.merging import Merging
from evomerge.methods import get
from evomerge.types import Blend

CPU = torch.device("cpu")
BASE, NAME = "base", "w"


@dataclass
class Held:
    """What merging asks of a family. tensors: digest -> tensor, any dtype; they lie on the device."""

    tensors: Mapping[str, torch.Tensor]
    compiles: bool | None = False
    placement: str = "device"
    learned: dict[Any, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {NAME: tuple(next(iter(self.tensors.values())).shape)}

    def home(self, digest: str, name: str, device: torch.device) -> torch.Tensor:
        return self.tensors[digest].to(device)

    def touches(self, digest: str, name: str) -> bool:
        return digest != BASE

    def is_adapter(self, digest: str) -> bool:
        return False


def digests(n: int) -> list[str]:
    return [f"parent {k}" for k in range(n)]


def held(values: Sequence[torch.Tensor], base: torch.Tensor | None = None, **settings: Any) -> Held:
    """A family of these parents; without a base, differences are from zero."""
    ground = torch.zeros_like(values[0]) if base is None else base
    return Held({BASE: ground, **dict(zip(digests(len(values)), values, strict=True))}, **settings)


def merging(family: Held, blend: Blend, seed: int = 0, parents: Sequence[str] = ()) -> Merging:
    """What builds 'w' of these parents, all that there are unless they are named."""
    pairs = tuple((d, NAME) for d in (parents or [d for d in family.tensors if d != BASE]))
    deltas = get(blend.method).on_deltas(blend.knobs)
    return Merging(NAME, family.shapes[NAME], blend, pairs, (BASE, NAME) if deltas else None, seed)


def written(family: Held, blend: Blend, dtype: torch.dtype = torch.float32, **settings: Any) -> torch.Tensor:
    """'w' as `Merging.write` leaves it in a target of this dtype."""
    target = torch.full(family.shapes[NAME], float("nan"), dtype=dtype)
    merging(family, blend, **settings).write(family, target)
    return target


def merged(name: str, values: Sequence[torch.Tensor], base: torch.Tensor | None = None, **knobs: Any) -> torch.Tensor:
    """float32 (*shape): the parents merged by a method at these knobs."""
    return written(held(values, base), Blend(name, knobs))
