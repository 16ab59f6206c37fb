"""The recipes every search is measured against: base, each parent, plain average."""

from __future__ import annotations

from collections.abc import Mapping

from evomerge.spaces.depth import blocks_of
from evomerge.types import Blend, Pool, Recipe, Slot


def references(pool: Pool, *, seed: int, dtype: str) -> dict[str, Recipe]:
    """Recipes by id: "base" if there is one, "parent:NAME" for each parent, "average" of all parents."""
    alone = {f"parent:{name}": (digest,) for name, digest in zip(unique(pool.names), pool.digests, strict=True)}
    if pool.base is not None:
        alone = {"base": (pool.base,), **alone}
    found = {name: uniform(pool, digests, Blend("passthrough"), seed, dtype) for name, digests in alone.items()}
    found["average"] = uniform(pool, pool.digests, Blend("linear", {"weight": 1.0, "normalize": True}), seed, dtype)
    return found


def uniform(pool: Pool, parents: tuple[str, ...], blend: Blend, seed: int, dtype: str) -> Recipe:
    """One blend for every tensor of the model."""
    everywhere: Mapping[str, Blend] = {"*": blend}
    slots = tuple(
        Slot(tuple((p, stack, block) for p in range(len(parents))), everywhere) for stack, block in blocks_of(pool)
    )
    return Recipe(parents, pool.base, slots, everywhere, seed=seed, out_dtype=dtype, vocabulary=pool.vocabulary)


def unique(names: tuple[str, ...]) -> list[str]:
    """The names, a later equal one with the first free number."""
    found: list[str] = []
    for name in names:
        numbered = (f"{name}#{i}" for i in range(2, len(names) + 2))
        found.append(name if name not in found else next(n for n in numbered if n not in (*found, *names)))
    return found
