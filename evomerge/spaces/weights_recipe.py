"""The genes of the weights space as a recipe, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evomerge.methods import get
from evomerge.spaces import depth, genes
from evomerge.spaces.weights_genes import OUTER, Definition
from evomerge.types import VECTORS, Blend, Genome, Knob, KnobValue, Recipe, Slot

# ---------------------------------------------------------------- decode


def decode(of: Definition, genome: Genome) -> Recipe:
    """genome: float64 (D,) in [0, 1]."""
    parents = range(len(of.pool.digests))
    slots = tuple(
        Slot(tuple((p, stack, block) for p in parents), _blends(of, genome, row))
        for row, (stack, block) in enumerate(depth.blocks_of(of.pool))
    )
    pool, outer = of.pool, _outer(of, genome)
    return Recipe(pool.digests, pool.base, slots, outer, seed=of.seed, out_dtype=of.dtype, vocabulary=pool.vocabulary)


def _blends(of: Definition, genome: Genome, row: int) -> dict[str, Blend]:
    """The blends of the block that a row of `depth` stands for."""
    inner = [part for part in of.parts if part not in OUTER]
    full = {part: Blend(of.method.name, _values(of, genome, row, part)) for part in inner}
    if of.mask_all or of.method.plain is None:
        return full
    vectors = _plain(of, full.get(VECTORS, full.get("norms", full["*"])))
    return {VECTORS: vectors, **{part: blend for part, blend in full.items() if part != VECTORS}}


def _outer(of: Definition, genome: Genome) -> dict[str, Blend]:
    """Embeddings with the first group's values, final norm and head with the last's, all linear by default."""
    found = {}
    for key, row in {"embeddings": 0, "head": -1, "*": -1}.items():
        part = "norms" if key == "*" and "norms" in of.parts else key if key in of.parts else "*"
        blend = Blend(of.method.name, _values(of, genome, row, part))
        found[key] = blend if of.mask_all or of.method.plain is None else _plain(of, blend)
    return found


def _plain(of: Definition, blend: Blend) -> Blend:
    stand_in = get(str(of.method.plain))
    return Blend(stand_in.name, {k.name: blend.knobs[k.name] for k in stand_in.knobs if k.name in blend.knobs})


def _values(of: Definition, genome: Genome, row: int, part: str) -> dict[str, KnobValue]:
    """Knob values of one part in one block."""
    values: dict[str, KnobValue] = dict(of.fixed)
    for knob in of.knobs_of(part):
        share = of.shares(part, knob)[0 if part in OUTER else row]
        found: tuple[Any, ...] = tuple(
            genes.value(knob, of.place(genome, knob, part, p, share)) for p in of.owners(knob)
        )
        values[knob.name] = found if of.is_per_parent(knob) else found[0]
    return _guarded(values)


def _guarded(values: dict[str, KnobValue]) -> dict[str, KnobValue]:
    """All-zero weights under normalisation would divide by zero: they mean the plain average."""
    weight = values.get("weight")
    if not values.get("normalize") or weight is None:
        return values
    if abs(sum(weight) if isinstance(weight, tuple) else float(weight)) < 1e-6:
        values["weight"] = (1.0,) * len(weight) if isinstance(weight, tuple) else 1.0
    return values


# ---------------------------------------------------------------- encode


def encode(of: Definition, recipe: Recipe) -> Genome | None:
    """The genome that decodes to this recipe's coefficients, or None if there is none."""
    if not depth.in_place(of.pool, recipe):
        return None
    genome = np.array([v.default for v in of.variables])
    if not all(_set_part(of, genome, recipe, part) for part in of.parts):
        return None
    return genome if _says(of, genome, recipe) else None


def _set_part(of: Definition, genome: Genome, recipe: Recipe, part: str) -> bool:
    """Put a part's genes into the genome, from what the recipe says in every block; False if it cannot be said."""
    blends = [recipe.outer] if part in OUTER else [slot.blends for slot in recipe.slots]
    values = [_as_ours(of, b.get(part, b.get("*")), recipe, part) for b in blends]
    if any(v is None for v in values):
        return False
    for knob in of.knobs_of(part):
        rows = [_places(of, knob, v[knob.name]) for v in values if v is not None and knob.name in v]
        if any(row is None for row in rows) or len(rows) not in (0, len(values)):
            return False
        # without rows it has no effect on this recipe, and stays at its default
        if rows and not _set_knob(of, genome, part, knob, np.array(rows)):
            return False
    return True


def _places(of: Definition, knob: Knob, given: Any) -> list[float] | None:
    """One place per owner of the knob, or None if the value lies outside its range or differs where it may not."""
    owners = of.owners(knob)
    each = given if isinstance(given, tuple) else (given,) * len(owners)
    if len(set(each)) > 1 and len(each) != len(owners):
        return None
    good = all(genes.within(knob, value) for value in each)
    return [genes.gene(knob, value) for value in each[: len(owners)]] if good else None


def _set_knob(of: Definition, genome: Genome, part: str, knob: Knob, rows: np.ndarray) -> bool:
    """rows: (blocks, owners) places. False if they lie between the levels."""
    solved = np.clip(depth.solved(of.shares(part, knob), rows), 0.0, 1.0)  # (groups, owners)
    for group, row in enumerate(solved):
        for parent, place in zip(of.owners(knob), row, strict=True):
            gene = genes.gene_at(float(place), of.levels_of(knob))
            if gene is None:
                return False
            genome[of.at(knob, part, group, parent)] = gene
    return True


def _as_ours(of: Definition, blend: Blend | None, recipe: Recipe, part: str) -> Mapping[str, Any] | None:
    """The blend's knobs in terms of our method, those it leaves out at the method's defaults, or None."""
    if blend is None:
        return None
    ours = recipe.parents == of.pool.digests
    average = ours and blend.method == "linear" and blend.knobs == {"weight": 1.0, "normalize": True}
    if average and of.method.name in ("linear", "task_arithmetic", "dare_linear"):
        return {"weight": (_equal(of),) * len(of.pool.digests), **_whole(of)}
    same = {of.method.name, of.method.plain} if of.has_stand_in(part) else {of.method.name}
    if blend.method in same and ours and (recipe.base == of.pool.base or not of.method.needs_base):
        return {**{k.name: k.default for k in get(blend.method).knobs if k.default is not None}, **blend.knobs}
    alone = blend.method == "passthrough" and len(recipe.parents) == 1 and blend.knobs.get("scale", 1.0) == 1.0
    return _alone(of, recipe.parents[0]) if alone else None


def _equal(of: Definition) -> float:
    """The weight of each parent in the plain average: 1/n, or what is nearest to it if weights are normalised."""
    equal = 1.0 / len(of.pool.digests)
    weight = next((k for k in of.knobs if k.name == "weight"), None)
    if weight is None or not of.fixed.get("normalize"):
        return equal
    gene = genes.nearest(genes.gene(weight, equal), of.levels)
    return float(genes.value(weight, genes.place(gene, of.levels)))


def _alone(of: Definition, digest: str) -> Mapping[str, Any] | None:
    """Knobs at which a parent or the base is all that is left, if the method has such."""
    digests, leading = of.pool.digests, of.method.knobs[0].name
    if leading == "t" and digest in digests:
        return {"t": float(digests.index(digest))}
    if leading != "weight":
        return None
    if digest in digests:
        here = digests.index(digest)
        return {"weight": tuple(float(p == here) for p in range(len(digests))), **_whole(of)}
    return {"weight": (0.0,) * len(digests)} if digest == of.pool.base and of.method.needs_base else None


def _whole(of: Definition) -> dict[str, float]:
    """What keeps a delta as it is: nothing dropped, nothing scaled."""
    return {k.name: 1.0 for k in of.method.knobs if k.name in ("density", "scale")}


def _says(of: Definition, genome: Genome, recipe: Recipe) -> bool:
    """Whether the decoded genome has the recipe's coefficients in every block, not only where they were read."""
    inner: Sequence[str] = [part for part in of.parts if part not in OUTER]
    for ours, theirs in zip(decode(of, genome).slots, recipe.slots, strict=True):
        for part in inner:
            wanted = _as_ours(of, theirs.blends.get(part, theirs.blends.get("*")), recipe, part)
            mine = ours.blends[part].knobs
            if wanted is None or not all(_close(mine[k], wanted[k]) for k in wanted if k in mine):
                return False
    return True


def _close(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, bool | str) or isinstance(theirs, bool | str):
        return bool(ours == theirs)
    return bool(np.allclose(ours, theirs, rtol=0, atol=1e-9))
