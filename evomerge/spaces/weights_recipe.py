"""The genes of the weights space as a recipe, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evomerge.methods import get
from evomerge.methods.coefficients import normalised
from evomerge.methods.knobs import per_parent
from evomerge.spaces import depth, genes
from evomerge.spaces.corners import alone, average
from evomerge.spaces.shares import SHARE, normed, shares_of, weights_of
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
        if knob is SHARE:
            values["weight"] = weights_of(found)
        else:
            values[knob.name] = found if of.is_per_parent(knob) else found[0]
    return _guarded(of, values)


def _guarded(of: Definition, values: dict[str, KnobValue]) -> dict[str, KnobValue]:
    """All-zero weights under normalisation would divide by zero: they mean the plain average."""
    weight = values.get("weight")
    if weight is None or not normalised(of.method, values):
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
        given = [_given(knob, v) for v in values if v is not None]
        rows = [_places(of, knob, value) for value in given if value is not None]
        if any(row is None for row in rows) or len(rows) not in (0, len(values)):
            return False
        # without rows it has no effect on this recipe, and stays at its default
        if rows and not _set_knob(of, genome, part, knob, np.array(rows)):
            return False
    return True


def _given(knob: Knob, values: Mapping[str, Any]) -> Any:
    """What a recipe's knobs say of ours, None if nothing."""
    return shares_of(values["weight"]) if knob is SHARE and "weight" in values else values.get(knob.name)


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
    found = None if blend is None else _said(of, blend, recipe, part)
    if found is None or not of.shared or "weight" not in found:
        return found
    weights = normed(per_parent("weight", found["weight"], len(of.pool.digests)))
    return None if weights is None else {**found, "weight": weights}


def _said(of: Definition, blend: Blend, recipe: Recipe, part: str) -> Mapping[str, Any] | None:
    ours = recipe.parents == of.pool.digests
    if ours and blend == Blend("linear", {"weight": 1.0, "normalize": True}):
        return average(of)
    same = {of.method.name, of.method.plain} if of.has_stand_in(part) else {of.method.name}
    if blend.method in same and ours and (recipe.base == of.pool.base or not _on_deltas(blend)):
        return {**{k.name: k.default for k in get(blend.method).knobs}, **blend.knobs}
    one = blend.method == "passthrough" and len(recipe.parents) == 1 and blend.knobs.get("scale", 1.0) == 1.0
    return alone(of, recipe.parents[0]) if one else None


def _on_deltas(blend: Blend) -> bool:
    return get(blend.method).on_deltas(blend.knobs)


def _says(of: Definition, genome: Genome, recipe: Recipe) -> bool:
    """Whether the decoded genome has the recipe's coefficients in every block, not only where they were read."""
    inner: Sequence[str] = [part for part in of.parts if part not in OUTER]
    for ours, theirs in zip(decode(of, genome).slots, recipe.slots, strict=True):
        for part in inner:
            wanted = _as_ours(of, theirs.blends.get(part, theirs.blends.get("*")), recipe, part)
            if wanted is None or not _agree(ours.blends[part], wanted):
                return False
    return True


def _agree(blend: Blend, wanted: Mapping[str, Any]) -> bool:
    """Whether the blend has all that is wanted of knobs that its method has."""
    known = [k.name for k in get(blend.method).knobs if k.name in wanted]
    return all(_close(blend.knobs.get(name), wanted[name]) for name in known)


def _close(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, bool | str | None) or isinstance(theirs, bool | str | None):
        return bool(ours == theirs)
    return bool(np.allclose(ours, theirs, rtol=0, atol=1e-9))
