"""Candidates as adapters: the parents' factors, joined once and shared by all, and how far each candidate turns them.

Where a blend only adds up differences, a merged tensor is base + sum_k c_k B_k A_k = base + B diag(c) A with the
parents' factors side by side: candidates differ in c alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from evomerge import build
from evomerge.adapter import shares
from evomerge.errors import ConfigError, MergeError
from evomerge.methods import get
from evomerge.models import layout
from evomerge.models.family import Family
from evomerge.models.lora import Adapter
from evomerge.types import Recipe, Slot

#: Tensor of the base's files -> a number per adapter.
Coefficients = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Joined:
    """All that the adapters may add to one tensor, as the base keeps it.

    left: float32 (m, R). right: float32 (R, n). owners: int64 (R,), the adapter that each rank is of.
    """

    left: torch.Tensor
    right: torch.Tensor
    owners: torch.Tensor

    def spread(self, coefficients: Sequence[float]) -> torch.Tensor:
        """float32 (R,): the coefficient of each rank's adapter."""
        return torch.tensor(coefficients, dtype=torch.float32, device=self.owners.device)[self.owners]


def adapters(family: Family) -> tuple[Adapter, ...]:
    """The parents, each once."""
    found = {p.digest: p for p in family.parents if isinstance(p, Adapter)}
    return tuple(found.values())


def check_family(family: Family, backend: str) -> None:
    """Raises ConfigError unless all parents are adapters of one base that change it by factors alone."""
    remedy = "Set backend=hf, which builds every candidate."
    full = [p.name for p in family.parents if not isinstance(p, Adapter)]
    if full or family.base is None:
        raise ConfigError(
            f"backend={backend} serves merged adapters over one base, and {full[0] if full else 'a parent'} is a full "
            f"checkpoint. Wanted adapters alone. {remedy}"
        )
    for adapter in adapters(family):
        whole = sorted(name for name in adapter.changes if not adapter.low_rank(name))
        if whole:
            raise ConfigError(
                f"backend={backend} adds factors to the base, and {adapter.name} stores '{whole[0]}' whole "
                f"(modules_to_save, or a trained bias; {len(whole)} such). {remedy}"
            )
    routers = [name for name in family.shapes if layout.place(name).part == "router"]
    if routers:
        raise ConfigError(
            f"backend={backend} answers for several candidates in one forward pass, and the base's routers "
            f"('{routers[0]}') would make the rounding of one candidate's answers depend on the others. {remedy}"
        )


def join(family: Family) -> dict[str, Joined]:
    """Tensor -> the factors of every adapter that touches it, on the CPU."""
    found = {}
    for name in family.shapes:
        pairs = [
            (k, *adapter.factors(name, torch.device("cpu")))
            for k, adapter in enumerate(adapters(family))
            if adapter.touches(name)
        ]
        if pairs:
            owners = [k for k, left, _ in pairs for _ in range(left.shape[1])]
            left, right = torch.cat([b for _, b, _ in pairs], 1), torch.cat([a for _, _, a in pairs], 0)
            found[name] = Joined(left, right, torch.tensor(owners))
    return found


def coefficients(recipe: Recipe, family: Family, backend: str) -> Coefficients:
    """How often each of `adapters(family)` is added to each tensor that one of them touches.

    Raises ConfigError for a recipe that is more than a sum of their differences from the base, and MergeError for one
    whose coefficients are not finite.
    """
    planned = _planned(recipe, family, backend)
    found = {}
    for name, shape in family.shapes.items():
        own = _of_tensor(recipe, planned, family, name, len(shape), backend)
        if not all(map(math.isfinite, own)):
            raise MergeError(f"the recipe adds {own} times the adapters in '{name}': wanted finite numbers")
        if any(adapter.touches(name) for adapter in adapters(family)):
            found[name] = own
    return found


def _planned(recipe: Recipe, family: Family, backend: str) -> Mapping[tuple[str, int], Slot]:
    base = family.base
    assert base is not None, "checked when the backend was opened"
    known = {base.digest, *(a.digest for a in adapters(family))}
    strange = [digest for digest in recipe.parents if digest not in known]
    planned = build.layers(recipe)
    moved = any((stack, block) != key for key, slot in planned.items() for _, stack, block in slot.sources)
    blocks = {(stack, block) for stack, depth in family.stacks.items() for block in range(depth)}
    if strange or moved or set(planned) != blocks or recipe.base not in (None, base.digest):
        why = f"draws on {strange[0]}" if strange else "has another base" if not moved else "moves blocks"
        why = why if set(planned) == blocks else "has another depth"
        raise ConfigError(
            f"backend={backend} adds adapters to the base as it stands, and the recipe {why}. Set backend=hf."
        )
    return planned


def _of_tensor(
    recipe: Recipe,
    planned: Mapping[tuple[str, int], Slot],
    family: Family,
    name: str,
    dimensions: int,
    backend: str,
) -> tuple[float, ...]:
    found, blend = shares(recipe, planned, name, dimensions), build.blend_of(recipe, planned, name, dimensions)
    if (
        found is None
        and get(blend.method).on_deltas(blend.knobs)
        and not any(a.touches(name) for a in adapters(family))
    ):
        found = {}  # a merge of no differences is the base, whatever the method
    if found is None:
        raise ConfigError(
            f"backend={backend} serves candidates as adapters, which only add up differences from the base; the recipe "
            f"merges '{name}' by '{blend.method}' with {dict(blend.knobs)}, which does more. Set backend=hf, or choose "
            "space.method=task_arithmetic, or linear with weights that add up to one."
        )
    return tuple(found.get(adapter.digest, 0.0) for adapter in adapters(family))


def tables(
    recipes: Sequence[Recipe | None], family: Family, joined: Mapping[str, Joined], backend: str
) -> dict[str, torch.Tensor]:
    """Tensor -> float32 (slots, R), the coefficient of every rank for the candidate of each slot; None is the base."""
    found = [coefficients(recipe, family, backend) if recipe else {} for recipe in recipes]
    none = (0.0,) * len(adapters(family))
    return {name: torch.stack([own.spread(of.get(name, none)) for of in found]) for name, own in joined.items()}


def check_together(together: int, batch_size: int) -> None:
    """Raises ConfigError unless it is a whole number from 1 to the batch size."""
    if isinstance(together, bool) or not isinstance(together, int) or not 1 <= together <= batch_size:
        raise ConfigError(
            f"backend.together is {together!r} and backend.batch_size {batch_size}: every candidate needs a row of a "
            "forward pass. Wanted a whole number from 1 to the batch size."
        )


def seated(recipes: Mapping[int, Recipe], slots: int) -> list[Recipe | None]:
    """By slot, None where it is empty."""
    assert set(recipes) <= set(range(slots)), f"slots {sorted(recipes)}; there are {slots}"
    return [recipes.get(slot) for slot in range(slots)]
