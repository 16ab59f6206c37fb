"""A recipe over adapters alone as an adapter: ranks joined where the merge is a sum, else the nearest of some rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from evomerge import build
from evomerge.errors import MergeError
from evomerge.methods.coefficients import of_differences, scales
from evomerge.models.family import Family
from evomerge.models.lora import Adapter
from evomerge.models.lora_factors import compress, concatenate, truncate
from evomerge.models.lora_writer import write_adapter
from evomerge.recipe_io import to_yaml
from evomerge.types import Recipe, Slot


@dataclass(frozen=True)
class Factored:
    """A merged difference from the base as factors. `error` is relative to its Frobenius norm, `norm`."""

    left: torch.Tensor
    right: torch.Tensor
    error: float
    norm: float

    @property
    def rank(self) -> int:
        return self.left.shape[1]


@dataclass(frozen=True)
class Summary:
    """What an exported adapter is: its largest rank, and the relative error of the whole difference."""

    rank: int
    error: float

    def __str__(self) -> str:
        return f"rank {self.rank}, relative error {self.error:.2g} of the merged difference"


def export_adapter(
    recipe: Recipe, family: Family, folder: Path, device: torch.device, card: str, rank: int | None = None
) -> Summary:
    """Write the merged adapter, recipe.yaml and README.md (the card).

    rank None: the sum of the parents' ranks, exact for weighted sums of adapters.
    Raises MergeError for recipes with parents that are no adapters, or whose blocks are not the base's.
    """
    check(recipe, family)
    assert family.base is not None, "adapters are opened over a base"
    planned = build.layers(recipe)
    factors: dict[str, Factored] = {}
    whole: dict[str, torch.Tensor] = {}
    for name in _touched(recipe, family):
        if all(a.low_rank(name) for a in _adapters(recipe, family) if a.touches(name)):
            factors[name] = _factored(recipe, family, planned, name, device, rank)
        else:
            whole[name] = _merged(recipe, family, planned, name, device)
    pairs = {name: (f.left, f.right) for name, f in factors.items()}
    write_adapter(folder, pairs, base=family.base, base_name=family.base.name, whole=whole)
    (folder / "recipe.yaml").write_text(to_yaml(recipe, {p.digest: p.name for p in family.all}))
    (folder / "README.md").write_text(card)
    return _summary(list(factors.values()))


def check(recipe: Recipe, family: Family) -> None:
    """Refuse what is no adapter over the base, before anything is computed."""
    whole = [p.name for p in map(family.find, recipe.parents) if not isinstance(p, Adapter) and p is not family.base]
    if whole or family.base is None:
        raise MergeError(
            f"{whole[0] if whole else 'the recipe'} is a full checkpoint, and only merges of adapters are an adapter. "
            "Export the whole model: leave --adapter out."
        )
    own = {key: {(stack, block) for _, stack, block in slot.sources} for key, slot in build.layers(recipe).items()}
    if any(drawn != {key} for key, drawn in own.items()):
        raise MergeError("the recipe moves blocks, which an adapter cannot do. Export the whole model.")
    if family.vocabulary is not None:
        raise MergeError("the merged model has other tokens than its base. Export the whole model.")

    _check_untouched(recipe, family)


def _check_untouched(recipe: Recipe, family: Family) -> None:
    """Refuse a recipe that changes a tensor which no adapter touches, as weights do whose sum is not one."""
    planned, touched = build.layers(recipe), set(_touched(recipe, family))
    for name, shape in family.shapes.items():
        blend = build.blend_of(recipe, planned, name, len(shape))
        if name not in touched and scales(blend, len(recipe.parents)):
            raise MergeError(
                f"the recipe scales '{name}', which no adapter touches, and a scaled base is no adapter. Wanted "
                "weights that add up to one (normalize: true), or a method on differences such as task_arithmetic; "
                "or export the whole model."
            )


def shares(
    recipe: Recipe, planned: Mapping[tuple[str, int], Slot], name: str, dimensions: int
) -> dict[str, float] | None:
    """Digest -> how often a parent's difference from the base is added to a tensor; None if that is not all."""
    slot = build.slot_of(planned, name)
    drawn = [recipe.parents[p] for p, _, _ in slot.sources] if slot else list(recipe.parents)
    weights = of_differences(build.blend_of(recipe, planned, name, dimensions), len(drawn))
    if weights is None:
        return None
    found = dict.fromkeys(drawn, 0.0)
    for digest, weight in zip(drawn, weights, strict=True):
        found[digest] += weight
    return found


def _touched(recipe: Recipe, family: Family) -> Iterator[str]:
    for name in sorted(family.shapes):
        if any(a.touches(name) for a in _adapters(recipe, family)):
            yield name


def _adapters(recipe: Recipe, family: Family) -> list[Adapter]:
    """Each once."""
    return [p for p in map(family.find, dict.fromkeys(recipe.parents)) if isinstance(p, Adapter)]


def _factored(
    recipe: Recipe,
    family: Family,
    planned: dict[tuple[str, int], Slot],
    name: str,
    device: torch.device,
    rank: int | None,
) -> Factored:
    factors = {a.digest: a.factors(name, device) for a in _adapters(recipe, family) if a.touches(name)}
    total = sum(left.shape[1] for left, _ in factors.values())
    coefficients = shares(recipe, planned, name, 2)
    if coefficients is None:
        base = family.read(str(recipe.base), name, device).float()
        delta = _merged(recipe, family, planned, name, device) - base
        left, right, error = truncate(delta, rank or total)
        return Factored(left, right, error, float(torch.linalg.norm(delta.double())))
    left, right = concatenate([(coefficients.get(digest, 0.0), *pair) for digest, pair in factors.items()])
    norm = float(torch.linalg.norm((left @ right).double()))
    if rank is None or rank >= total:
        return Factored(left, right, 0.0, norm)
    return Factored(*compress(left, right, rank), norm)


def _merged(
    recipe: Recipe, family: Family, planned: dict[tuple[str, int], Slot], name: str, device: torch.device
) -> torch.Tensor:
    whole = torch.empty(family.shapes[name], device=device)  # float32: rounded when it is written, if at all
    build.write_tensor(recipe, planned, family, name, whole)
    return whole


def _summary(factors: list[Factored]) -> Summary:
    total = math.sqrt(sum(f.norm**2 for f in factors))
    missed = math.sqrt(sum((f.error * f.norm) ** 2 for f in factors))
    return Summary(max((f.rank for f in factors), default=0), missed / total if total else 0.0)
