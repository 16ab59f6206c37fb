"""Bytes that building a candidate moves: counted operation by operation, or what a loop of all of them must move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evomerge import build
from evomerge.methods import get
from evomerge.models import layout
from evomerge.models.family import Family
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Pool, Recipe


def fused_per_entry(method: str, n_parents: int, *, base: bool, itemsize: int = 2) -> int:
    """Bytes of an entry through the device's memory in a compiled loop: parents and base in, the merge out."""
    return itemsize * (n_parents + base + 1) + get(method).keeps * n_parents


class Traffic(TorchDispatchMode):
    """Sums what operations read and write, each tensor once per operation; views move nothing.

    On a CPU blocks stay in its caches meanwhile, so that less goes through its memory.

    A sort or selection inside one operation counts as a single pass, so methods that trim are counted too low.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if not _is_view(func):
            self.bytes += sum(t.nbytes for t in tree_leaves((args, kwargs, made)) if isinstance(t, torch.Tensor))
        return made


def _is_view(func: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


def recipe_of(family: Family, method: str, n_parents: int) -> Recipe:
    """A candidate over so many parents; where the family has fewer, they come again."""
    pool = family.pool()
    places = [k % len(pool.digests) for k in range(n_parents)]
    names = tuple(f"p{k}" for k in range(n_parents))
    many = Pool(names, tuple(pool.digests[k] for k in places), pool.base, pool.stacks, pool.dtype)
    space = WeightsSpace(many, method=method, seed=1)
    return space.decode([0.5] * space.size)  # type: ignore[arg-type]


def blocks(targets: Mapping[str, torch.Tensor], last: int | None = None) -> dict[str, torch.Tensor]:
    """The tensors of the blocks, or of those up to `last`: embeddings weigh little in large models, much in small."""
    numbers = {name: layout.place(name).block for name in targets}
    return {n: t for n, t in targets.items() if (b := numbers[n]) is not None and (last is None or b <= last)}


def per_entry(family: Family, method: str, n_parents: int) -> float:
    """Bytes moved for each entry of a block, in its files' dtype; the parents are read, and stay, before any are."""
    family.compiles = False
    targets = blocks({n: torch.empty(s, dtype=torch.bfloat16) for n, s in family.shapes.items()}, last=0)
    recipe = recipe_of(family, method, n_parents)
    build.write(recipe, family, targets)
    with Traffic() as traffic:
        build.write(recipe, family, targets)
    return traffic.bytes / sum(t.numel() for t in targets.values())
