"""Recipe -> weights: which blend merges which tensor, and the tensors written in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import torch

from evomerge.engine.merging import Merging
from evomerge.engine.sources import Box
from evomerge.errors import MergeError
from evomerge.methods import get
from evomerge.models import layout
from evomerge.models.family import Family
from evomerge.types import VECTORS, Blend, Recipe, Slot, Source

#: Before a part of a recipe: a substring of the tensor's name, never a label.
NAME = "name:"
#: Tensors that are prepared before they are written, at most: each prepared one takes some kilobytes.
AT_ONCE = 512
#: Target -> the key of the merge that it holds.
Standing: TypeAlias = dict[str, Any]


@torch.no_grad()
def write(
    recipe: Recipe, family: Family, targets: Mapping[str, torch.Tensor], standing: Standing | None = None
) -> None:
    """Write the merged model into live tensors (checkpoint name -> tensor). Raises MergeError on NaN or infinity.

    standing: what the targets hold from earlier calls with it; tensors that would come out the same are left alone.
    """
    planned = layers(recipe)
    check_vocabulary(recipe, family)
    _check_depth(planned, family)
    mergings = [resolve(recipe, planned, family, name) for name in targets]  # all, before the first tensor is lost
    changed = [m for m in mergings if standing is None or standing.get(m.name) != m.key]
    for start in range(0, len(changed), step := _at_once(family)):
        some = changed[start : start + step]
        prepared = [m.prepared(family, targets[m.name], again=standing is not None) for m in some]
        for merging, write_it in zip(some, prepared, strict=True):
            _forget(standing, merging.name)
            write_it()
            _remember(standing, merging)


def _at_once(family: Family) -> int:
    """Tensors that are prepared before the first of them is written: Python is faster at one thing at a time.

    Only where that reads nothing: parents on the device, none of them an adapter.
    """
    return AT_ONCE if family.placement == "device" and family.checkpoints == family.all else 1


def _forget(standing: Standing | None, name: str) -> None:
    if standing is not None:
        standing.pop(name, None)  # a write that fails leaves neither model behind


def _remember(standing: Standing | None, merging: Merging) -> None:
    if standing is not None:
        standing[merging.name] = merging.key


@torch.no_grad()
def write_tensor(
    recipe: Recipe, planned: Mapping[tuple[str, int], Slot], family: Family, name: str, target: torch.Tensor
) -> None:
    """Write one merged tensor in place, on the target's device and in its dtype."""
    resolve(recipe, planned, family, name).write(family, target)


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
) -> Iterator[tuple[Box, torch.Tensor]]:
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

    Yields (box, float32 slice on the device) with boxes in the whole tensor's coordinates. Statistics are always the
    whole tensor's.
    """
    return resolve(recipe, planned, family, name).boxes(family, within, device)


def resolve(recipe: Recipe, planned: Mapping[tuple[str, int], Slot], family: Family, name: str) -> Merging:
    """How one tensor is merged: of which tensors of which parents, by what. Raises MergeError."""
    slot = slot_of(planned, name)
    sources: tuple[Source, ...] = slot.sources if slot else tuple((p, "", 0) for p in range(len(recipe.parents)))
    names = [layout.at_block(name, stack, block) if slot else name for _, stack, block in sources]
    shape = family.shapes[names[0]]
    blend = blend_of(recipe, planned, name, len(shape))
    _check_arity(blend.method, len(sources), name)
    deltas = get(blend.method).on_deltas(blend.knobs)
    if deltas and recipe.base is None:
        raise MergeError(
            f"method '{blend.method}' merges differences from a base, and the recipe has none. Set parents.base."
        )
    pairs = tuple((recipe.parents[p], n) for (p, _, _), n in zip(sources, names, strict=True))
    return Merging(name, shape, blend, pairs, (str(recipe.base), names[0]) if deltas else None, recipe.seed)


def _check_arity(method: str, n: int, name: str) -> None:
    low, high = get(method).arity
    if n < low or (high is not None and n > high):
        wanted = f"exactly {low}" if low == high else f"at least {low}"
        raise MergeError(f"'{name}' is merged by {method}, which takes {wanted} parents, and the recipe gives {n}.")


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
