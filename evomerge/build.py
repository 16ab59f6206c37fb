"""Recipe -> weights: every tensor computed slice by slice in float32, cast once, and written in place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from evomerge.errors import MergeError
from evomerge.methods import get
from evomerge.methods.masks import Region, entire, mask_key
from evomerge.models import layout
from evomerge.models.family import Family
from evomerge.models.parent import finite
from evomerge.types import VECTORS, Blend, Method, Recipe, Slot, Source

#: Elements of a slice: large enough to amortise a call, small enough that float32 copies of all parents fit.
SLICE = 1 << 22
#: Before a part of a recipe: a substring of the tensor's name, never a label.
NAME = "name:"
#: A part of a tensor, one slice per dimension.
Box: TypeAlias = tuple[slice, ...]
#: Box -> float32 slice on the device.
Slicer: TypeAlias = Callable[[Box], torch.Tensor]


def write(recipe: Recipe, family: Family, targets: Mapping[str, torch.Tensor]) -> None:
    """Write the merged model into live tensors (checkpoint name -> tensor). Raises MergeError on NaN or infinity."""
    planned = layers(recipe)
    check_vocabulary(recipe, family)
    _check_depth(planned, family)
    for name, target in targets.items():
        write_tensor(recipe, planned, family, name, target)


@torch.no_grad()
def write_tensor(
    recipe: Recipe, planned: Mapping[tuple[str, int], Slot], family: Family, name: str, target: torch.Tensor
) -> None:
    """Write one merged tensor in place, on the target's device and in its dtype."""
    for box, merged in merge_tensor(recipe, planned, family, name, target.device):
        target[box].copy_(merged)
        if not finite(target[box]):
            raise MergeError(f"the recipe gives NaN or infinite entries in '{name}'")


def layers(recipe: Recipe) -> dict[tuple[str, int], Slot]:
    """The slot of every block of the merged model. Raises MergeError for what this version cannot build."""
    if recipe.dtype != "float32":
        raise MergeError(f"the recipe has dtype '{recipe.dtype}'; merging is done in 'float32' alone.")
    planned: dict[tuple[str, int], Slot] = {}
    depth: dict[str, int] = {}
    for slot in recipe.slots:
        if slot.scale != 1.0:
            raise MergeError(f"a slot has scale {slot.scale}; scaled blocks cannot be built yet. Wanted 1.0.")
        stack = slot.sources[0][1]
        planned[stack, depth.get(stack, 0)] = slot
        depth[stack] = depth.get(stack, 0) + 1
    return planned


def check_vocabulary(recipe: Recipe, family: Family) -> None:
    if recipe.vocabulary != family.policy:
        raise MergeError(
            f"the recipe has vocabulary '{recipe.vocabulary}' and its parents were opened with '{family.policy}'. "
            f"Set parents.vocabulary={recipe.vocabulary}."
        )


def _check_depth(planned: Mapping[tuple[str, int], Slot], family: Family) -> None:
    live = {(stack, block) for stack, depth in family.stacks.items() for block in range(depth)}
    if set(planned) != live:
        raise MergeError(
            f"the recipe has {len(planned)} blocks and the live model {len(live)}. Build it with "
            "`evomerge merge RECIPE.yaml --to DIR`, then score DIR."
        )


def shapes(recipe: Recipe, family: Family) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of the merged model, whose depth is the recipe's."""
    found = {name: shape for name, shape in family.shapes.items() if layout.place(name).stack is None}
    blocks: dict[tuple[str, int], dict[str, tuple[int, ...]]] = {}
    for name, shape in family.shapes.items():
        where = layout.place(name)
        if where.stack is not None and where.block is not None:
            blocks.setdefault((where.stack, where.block), {})[where.rest] = shape
    for (stack, number), slot in layers(recipe).items():
        _, source, block = slot.sources[0]
        if (source, block) not in blocks:
            raise MergeError(f"the recipe draws on block {block} of '{source}', which its parents do not have.")
        found.update({f"{stack}.{number}.{rest}": shape for rest, shape in blocks[source, block].items()})
    return found


def merge_tensor(
    recipe: Recipe, planned: Mapping[tuple[str, int], Slot], family: Family, name: str, device: torch.device
) -> Iterator[tuple[tuple[slice, ...], torch.Tensor]]:
    """The merged tensor as (box, float32 slice on the device), in row-major order."""
    return merge_box(recipe, planned, family, name, None, device)


def merge_box(
    recipe: Recipe,
    planned: Mapping[tuple[str, int], Slot],
    family: Family,
    name: str,
    within: Box | None,
    device: torch.device,
) -> Iterator[tuple[Box, torch.Tensor]]:
    """One box of the merged tensor (None: all of it), bit-equal to these entries of the whole by the slice contract.

    Yields (box, float32 slice on the device) with boxes in the whole tensor's coordinates. A method of scope "tensor"
    still computes the whole, and statistics are always the whole tensor's.
    """
    slot = slot_of(planned, name)
    sources: tuple[Source, ...] = slot.sources if slot else tuple((p, "", 0) for p in range(len(recipe.parents)))
    names = [layout.at_block(name, stack, block) if slot else name for _, stack, block in sources]
    digests = [recipe.parents[p] for p, _, _ in sources]
    shape = family.shapes[names[0]]
    blend = blend_of(recipe, planned, name, len(shape))
    method = get(blend.method)
    base = _base(recipe, method, family, names[0], device)
    pairs = list(zip(digests, names, strict=True))
    if base is not None and not any(family.touches(d, n) for d, n in pairs):
        box = within or entire(shape)
        yield box, base[box].float()  # adapters leave most of the base alone
        return
    parents = [_slicer(family, d, n, base, device) for d, n in pairs]
    keys = tuple(mask_key(recipe.seed, d, n) for d, n in pairs)
    yield from _slices(method, blend.knobs, shape, within, parents, base, keys, device)


def slot_of(planned: Mapping[tuple[str, int], Slot], name: str) -> Slot | None:
    """The slot of a tensor's block, None outside the blocks. Raises MergeError if the recipe has none for it."""
    where = layout.place(name)
    if where.stack is None or where.block is None:
        return None
    if (where.stack, where.block) not in planned:
        raise MergeError(f"the recipe has no slot for '{name}'. Wanted one slot for every block of {where.stack}.")
    return planned[where.stack, where.block]


def blend_of(recipe: Recipe, planned: Mapping[tuple[str, int], Slot], name: str, dimensions: int) -> Blend:
    """The blend of a tensor of so many dimensions."""
    slot = slot_of(planned, name)
    labels = {layout.place(name).part, *([VECTORS] if dimensions <= 1 else [])}
    return pick(slot.blends if slot else recipe.outer, name, labels)


def pick(blends: Mapping[str, Blend], name: str, labels: set[str]) -> Blend:
    """The first blend whose key is one of the tensor's labels, a substring of its name, or "*".

    "name:mlp" is a substring even where "mlp" alone would be a label.
    """
    for key, blend in blends.items():
        if key == "*" or key in labels or _in_name(key, name):
            return blend
    raise MergeError(f"no blend of the recipe matches '{name}' ({', '.join(sorted(labels))}). Add one for '*'.")


def _in_name(key: str, name: str) -> bool:
    if key.startswith(NAME):
        return key.removeprefix(NAME) in name
    return key in name and key not in (*layout.PARTS, VECTORS)


def _base(recipe: Recipe, method: Method, family: Family, name: str, device: torch.device) -> torch.Tensor | None:
    if not method.needs_base:
        return None
    if recipe.base is None:
        raise MergeError(
            f"method '{method.name}' merges differences from a base, and the recipe has none. Set parents.base."
        )
    return family.read(recipe.base, name, device)


def _slicer(family: Family, digest: str, name: str, base: torch.Tensor | None, device: torch.device) -> Slicer:
    """float32 slices of a parent's tensor, or of its difference from the base if there is one."""
    if base is not None and family.is_adapter(digest):
        delta = family.delta(digest, name, device)
        return lambda box: delta[box]
    whole = family.read(digest, name, device)
    if base is None:
        return lambda box: whole[box].float()
    return lambda box: whole[box].float() - base[box].float()


def _slices(
    method: Method,
    knobs: Mapping[str, Any],
    whole: tuple[int, ...],
    within: Box | None,
    parents: Sequence[Slicer],
    base: torch.Tensor | None,
    keys: tuple[int, ...],
    device: torch.device,
) -> Iterator[tuple[tuple[slice, ...], torch.Tensor]]:
    def values(box: tuple[slice, ...]) -> torch.Tensor:
        return torch.stack([parent(box) for parent in parents])  # float32 (P, *slice)

    def region(box: tuple[slice, ...]) -> Region:
        return Region(whole, box, keys, device)

    everything = entire(whole)
    stats = None
    if method.prepare is not None:
        stats = method.prepare(values(everything), window=region(everything), **knobs)
    wanted = everything if within is None else within
    by_slice = method.scope == "slice"
    for box in boxes(wanted) if by_slice else [everything]:
        merged = method.fn(values(box), window=region(box), stats=stats, **knobs)
        total = merged if base is None else merged.add_(base[box].float())
        yield (box, total) if by_slice else (wanted, total[wanted])


def boxes(within: Box) -> Iterator[Box]:
    """Cut a box along its first dimension into slices of about SLICE elements."""
    if not within:
        yield ()
        return
    first, *others = within
    rows = max(1, SLICE // max(1, math.prod(s.stop - s.start for s in others)))
    for start in range(first.start, first.stop, rows):
        yield (slice(start, min(start + rows, first.stop)), *others)
