"""Recipe -> weights: every tensor computed slice by slice in float32, cast once, and written in place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from evomerge.errors import MergeError
from evomerge.methods import get
from evomerge.methods.masks import Region, entire, mask_key
from evomerge.models import layout
from evomerge.models.family import Family
from evomerge.types import VECTORS, Blend, Method, Recipe, Slot, Source

#: Elements of a slice: large enough to amortise a call, small enough that float32 copies of all parents fit.
SLICE = 1 << 22


def write(recipe: Recipe, family: Family, targets: Mapping[str, torch.Tensor]) -> None:
    """Write the merged model into live tensors (checkpoint name -> tensor). Raises MergeError on NaN or infinity."""
    planned = layers(recipe)
    for name, target in targets.items():
        write_tensor(recipe, planned, family, name, target)


@torch.no_grad()
def write_tensor(
    recipe: Recipe, planned: Mapping[tuple[str, int], Slot], family: Family, name: str, target: torch.Tensor
) -> None:
    """Write one merged tensor in place, on the target's device and in its dtype."""
    for box, merged in merge_tensor(recipe, planned, family, name, target.device):
        target[box].copy_(merged)
        if not bool(torch.isfinite(target[box]).all()):
            raise MergeError(f"the recipe gives NaN or infinite entries in '{name}'")


def layers(recipe: Recipe) -> dict[tuple[str, int], Slot]:
    """The slot of every block of the merged model. Raises MergeError for what this version cannot build."""
    for name, value, only in (("dtype", recipe.dtype, "float32"), ("vocabulary", recipe.vocabulary, "equal")):
        if value != only:
            raise MergeError(f"the recipe has {name} '{value}'; this version builds '{only}' alone.")
    planned: dict[tuple[str, int], Slot] = {}
    depth: dict[str, int] = {}
    for slot in recipe.slots:
        if slot.scale != 1.0:
            raise MergeError(f"a slot has scale {slot.scale}; scaled blocks cannot be built yet. Wanted 1.0.")
        stack = slot.sources[0][1]
        planned[stack, depth.get(stack, 0)] = slot
        depth[stack] = depth.get(stack, 0) + 1
    return planned


def merge_tensor(
    recipe: Recipe, planned: Mapping[tuple[str, int], Slot], family: Family, name: str, device: torch.device
) -> Iterator[tuple[tuple[slice, ...], torch.Tensor]]:
    """The merged tensor as (box, float32 slice on the device), in row-major order."""
    where = layout.place(name)
    slot = planned.get((where.stack, where.block)) if where.stack is not None and where.block is not None else None
    if where.stack is not None and slot is None:
        raise MergeError(f"the recipe has no slot for '{name}'. Wanted one slot for every block of {where.stack}.")
    sources: tuple[Source, ...] = slot.sources if slot else tuple((p, "", 0) for p in range(len(recipe.parents)))
    names = [layout.at_block(name, stack, block) if slot else name for _, stack, block in sources]
    digests = [recipe.parents[p] for p, _, _ in sources]
    parents = [family.read(d, n, device) for d, n in zip(digests, names, strict=True)]
    labels = {where.part, *([VECTORS] if parents[0].dim() <= 1 else [])}
    blend = pick(slot.blends if slot else recipe.outer, name, labels)
    method = get(blend.method)
    base = _base(recipe, method, family, names[0], device)
    keys = tuple(mask_key(recipe.seed, d, n) for d, n in zip(digests, names, strict=True))
    yield from _slices(method, blend.knobs, parents, base, keys)


def pick(blends: Mapping[str, Blend], name: str, labels: set[str]) -> Blend:
    """The first blend whose key is one of the tensor's labels, a substring of its name, or "*"."""
    for key, blend in blends.items():
        if key == "*" or key in labels or (key in name and key not in (*layout.PARTS, VECTORS)):
            return blend
    raise MergeError(f"no blend of the recipe matches '{name}' ({', '.join(sorted(labels))}). Add one for '*'.")


def _base(recipe: Recipe, method: Method, family: Family, name: str, device: torch.device) -> torch.Tensor | None:
    if not method.needs_base:
        return None
    if recipe.base is None:
        raise MergeError(
            f"method '{method.name}' merges differences from a base, and the recipe has none. Set parents.base."
        )
    return family.read(recipe.base, name, device)


def _slices(
    method: Method,
    knobs: Mapping[str, Any],
    parents: list[torch.Tensor],
    base: torch.Tensor | None,
    keys: tuple[int, ...],
) -> Iterator[tuple[tuple[slice, ...], torch.Tensor]]:
    whole = tuple(parents[0].shape)

    def region(box: tuple[slice, ...]) -> Region:
        return Region(whole, box, keys, parents[0].device)

    everything = entire(whole)
    stats = None
    if method.prepare is not None:
        stats = method.prepare(_values(parents, base, everything), window=region(everything), **knobs)
    for box in boxes(whole) if method.scope == "slice" else [everything]:
        merged = method.fn(_values(parents, base, box), window=region(box), stats=stats, **knobs)
        yield box, merged if base is None else merged.add_(base[box].float())


def _values(parents: list[torch.Tensor], base: torch.Tensor | None, box: tuple[slice, ...]) -> torch.Tensor:
    """float32 (P, *slice): the parents' entries, less the base's if there is one."""
    values = torch.stack([p[box].float() for p in parents])
    return values if base is None else values.sub_(base[box].float())


def boxes(whole: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Cut a tensor along its first dimension into slices of about SLICE elements."""
    if not whole:
        yield ()
        return
    rows = max(1, SLICE // max(1, math.prod(whole[1:])))
    for first in range(0, whole[0], rows):
        yield (slice(first, min(first + rows, whole[0])), *entire(whole[1:]))
