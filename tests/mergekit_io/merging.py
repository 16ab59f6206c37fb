"""A YAML to tensors, with our importer and builder."""

from __future__ import annotations

from pathlib import Path

import torch

from evomerge.export import outlines, pieces
from evomerge.mergekit_io import read
from evomerge.models.family import Family, open_family
from evomerge.types import Recipe

CPU = torch.device("cpu")


def built(recipe: Recipe, family: Family) -> dict[str, torch.Tensor]:
    planned = outlines(recipe, family)
    return {
        n: torch.cat([p.view(-1) for p in pieces(recipe, family, n, CPU)]).view(o.shape) for n, o in planned.items()
    }


def read_text(folder: Path, text: str) -> tuple[Recipe, Family]:
    path = folder / "config.yml"
    path.write_text(text)
    return read(path, open_family)


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert set(one) == set(other)
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)
