"""The parameter space: a method's knobs per layer group, part and parent (Akiba et al. 2024, arXiv:2403.13187, 3.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from evomerge.errors import ConfigError
from evomerge.methods import get
from evomerge.spaces import depth, genes
from evomerge.spaces.knobs import check_arity, checked, chosen, defaults, pinned
from evomerge.spaces.references import unique
from evomerge.types import VECTORS, Blend, Genome, Knob, KnobValue, Pool, Recipe, Slot, Variable

OUTER = ("embeddings", "head")  # lie outside the blocks: one set of genes, whatever the groups


class WeightsSpace:
    """Genome <-> Recipe for merging in parameter space, all parents in every block.

    method: name in METHODS. groups: number of equal depth groups, a list of [first, last) ranges, or "per_layer";
    with `smooth`, a number of knots that are interpolated over depth. parts: names or substrings that get genes of
    their own; the rest shares one set. search: knobs with genes (default: the leading knob and densities).
    per_parent: of these, which have one gene per parent (default: the leading knob). ranges: knob -> [low, high].
    scales: knob -> linear or log. fixed: knob -> value. 1-D tensors, embeddings and head get the method's linear
    stand-in, unless `mask_all`. Embeddings follow the first group, final norm and head the last.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        method: str = "task_arithmetic",
        groups: int | str | Sequence[Sequence[int]] = 1,
        smooth: bool = False,
        parts: Sequence[str] | None = None,
        search: Sequence[str] | None = None,
        per_parent: Sequence[str] | None = None,
        ranges: Mapping[str, Sequence[float]] | None = None,
        scales: Mapping[str, str] | None = None,
        fixed: Mapping[str, Any] | None = None,
        mask_all: bool = False,
        seed: int = 0,
        dtype: str = "float32",
    ):
        self._pool, self._method, self._seed, self._dtype = pool, get(method), seed, dtype
        check_arity(self._method, pool)
        self._fixed = {**defaults(self._method), **pinned(self._method, fixed or {}, pool)}
        self._knobs = chosen(self._method, search, fixed or {}, ranges or {}, scales or {})
        leading = self._method.knobs[0].name
        named = None if per_parent is None else checked(self._method, dict.fromkeys(per_parent), "per_parent")
        self._each = {leading} if named is None else set(named)
        self._depth = depth.matrix(groups, sum(pool.stacks.values()), smooth=smooth)  # (blocks, groups)
        self._parts = _distinct(parts or ())
        self._mask_all = mask_all
        self.variables = tuple(self._variables())
        self.size = len(self.variables)
        self._index = {v.name: i for i, v in enumerate(self.variables)}

    # ------------------------------------------------------------ variables

    def _variables(self) -> Iterable[Variable]:
        for part in self._parts:
            for group in range(1 if part in OUTER else self._depth.shape[1]):
                for knob in self._knobs_of(part):
                    for parent in self._owners(knob):
                        yield self._variable(knob, part, group, parent)

    def _variable(self, knob: Knob, part: str, group: int, parent: str) -> Variable:
        leading = knob.name == self._method.knobs[0].name
        low, high = (0.0, float(len(knob.values))) if knob.scale == "choice" else (knob.low, knob.high)
        default = 1.0 / len(self._pool.digests) if leading and self._is_per_parent(knob) else knob.default
        return Variable(
            _name(knob.name, part, group, parent),
            knob.name,
            low,
            high,
            knob.scale,
            genes.gene(knob, default),
            knob.step,
            leading,
            levels=len(knob.values),
            part="rest" if part == "*" else part,
            parent=parent,
            depth=(0.0, 1.0) if part in OUTER else depth.stretch(self._depth, group),
        )

    def _knobs_of(self, part: str) -> list[Knob]:
        """The searched knobs that a part's method has: where the linear stand-in rules, density would do nothing."""
        if not self._has_stand_in(part):
            return self._knobs
        return [k for k in self._knobs if get(str(self._method.plain)).knob(k.name)]

    def _has_stand_in(self, part: str) -> bool:
        return part in (*OUTER, "norms", VECTORS) and not self._mask_all and self._method.plain is not None

    def _is_per_parent(self, knob: Knob) -> bool:
        return knob.per_parent and knob.name in self._each

    def _owners(self, knob: Knob) -> list[str]:
        return unique(self._pool.names) if self._is_per_parent(knob) else ["all"]

    # ------------------------------------------------------------ decode

    def decode(self, genome: Genome) -> Recipe:
        """The recipe of a genome, float64 (D,) in [0, 1]."""
        blocks = [(stack, b) for stack, depth in self._pool.stacks.items() for b in range(depth)]
        parents = range(len(self._pool.digests))
        slots = tuple(
            Slot(tuple((p, stack, block) for p in parents), self._blends(genome, share, self._parts))
            for (stack, block), share in zip(blocks, self._depth, strict=True)
        )
        return Recipe(
            self._pool.digests,
            self._pool.base,
            slots,
            self._outer(genome),
            seed=self._seed,
            out_dtype=self._dtype,
            vocabulary=self._pool.vocabulary,
        )

    def _blends(self, genome: Genome, share: np.ndarray, parts: Sequence[str]) -> dict[str, Blend]:
        inner = [part for part in parts if part not in OUTER]
        full = {part: Blend(self._method.name, self._values(genome, share, part)) for part in inner}
        if self._mask_all or self._method.plain is None:
            return full
        vectors = self._plain(full.get(VECTORS, full.get("norms", full["*"])))
        return {VECTORS: vectors, **{part: blend for part, blend in full.items() if part != VECTORS}}

    def _outer(self, genome: Genome) -> dict[str, Blend]:
        """Embeddings with the first group's values, final norm and head with the last's, all linear by default."""
        first, last = self._depth[0], self._depth[-1]
        ends = {"embeddings": first, "head": last, "*": last}
        found = {}
        for key, share in ends.items():
            part = "norms" if key == "*" and "norms" in self._parts else key if key in self._parts else "*"
            blend = Blend(self._method.name, self._values(genome, share, part))
            found[key] = blend if self._mask_all or self._method.plain is None else self._plain(blend)
        return found

    def _plain(self, blend: Blend) -> Blend:
        stand_in = get(str(self._method.plain))
        return Blend(stand_in.name, {k.name: blend.knobs[k.name] for k in stand_in.knobs if k.name in blend.knobs})

    def _values(self, genome: Genome, share: np.ndarray, part: str) -> dict[str, KnobValue]:
        """Knob values of one part at one depth; share (groups,) weighs the groups' genes."""
        share = np.ones(1) if part in OUTER else share
        values: dict[str, KnobValue] = dict(self._fixed)
        for knob in self._knobs_of(part):
            found = tuple(genes.value(knob, self._gene(genome, share, part, knob, p)) for p in self._owners(knob))
            values[knob.name] = found if self._is_per_parent(knob) else found[0]
        return _guarded(values)

    def _gene(self, genome: Genome, share: np.ndarray, part: str, knob: Knob, parent: str) -> float:
        at = [self._index[_name(knob.name, part, g, parent)] for g in range(len(share))]
        return float(share @ np.asarray(genome)[at])

    # ------------------------------------------------------------ encode

    def encode(self, recipe: Recipe) -> Genome | None:
        """The genome that decodes to this recipe's coefficients, or None if the space has none.

        A parent, the base, and (for the linear methods) the plain average count as the one-hot, all-zero and
        uniform weights that give the same model.
        """
        if not recipe.slots or len(recipe.slots) != len(self._depth):
            return None
        genome = np.array([v.default for v in self.variables])
        if not all(self._set_part(genome, recipe, part) for part in self._parts):
            return None
        return genome if self._says(genome, recipe) else None

    def _set_part(self, genome: Genome, recipe: Recipe, part: str) -> bool:
        """Put a part's genes into the genome, from what the recipe says in every block; False if it cannot be said."""
        outer = part in OUTER
        blends = [recipe.outer] if outer else [slot.blends for slot in recipe.slots]
        values = [self._as_ours(b.get(part, b.get("*")), recipe, part) for b in blends]
        if any(v is None for v in values):
            return False
        share = np.ones((1, 1)) if outer else self._depth
        for knob in self._knobs_of(part):
            rows = [self._as_genes(knob, v[knob.name]) for v in values if knob.name in v]
            if any(row is None for row in rows) or len(rows) not in (0, len(share)):
                return False
            if rows:  # else it has no effect on this recipe, and stays at its default
                self._set_genes(genome, part, knob, share, np.array(rows))
        return True

    def _as_genes(self, knob: Knob, given: Any) -> list[float] | None:
        """One gene per owner of the knob, or None if the value lies outside its range or differs where it may not."""
        owners = self._owners(knob)
        each = given if isinstance(given, tuple) else (given,) * len(owners)
        if len(set(each)) > 1 and len(each) != len(owners):
            return None
        good = all(genes.within(knob, value) for value in each)
        return [genes.gene(knob, value) for value in each[: len(owners)]] if good else None

    def _set_genes(self, genome: Genome, part: str, knob: Knob, share: np.ndarray, rows: np.ndarray) -> None:
        """rows: (blocks, owners) genes; share (blocks, groups) says how groups make blocks: solved by least squares."""
        solved = np.linalg.lstsq(share, rows, rcond=None)[0]  # (groups, owners)
        solved = np.clip(np.round(solved, 12), 0.0, 1.0)  # LAPACK's last bits differ between machines
        for group, row in enumerate(solved):
            for parent, gene in zip(self._owners(knob), row, strict=True):
                genome[self._index[_name(knob.name, part, group, parent)]] = gene

    def _as_ours(self, blend: Blend | None, recipe: Recipe, part: str) -> Mapping[str, Any] | None:
        """The blend's knobs in terms of our method, those it leaves out at the method's defaults, or None."""
        if blend is None:
            return None
        same = {self._method.name, self._method.plain} if self._has_stand_in(part) else {self._method.name}
        if blend.method in same and recipe.parents == self._pool.digests:
            return {**{k.name: k.default for k in get(blend.method).knobs if k.default is not None}, **blend.knobs}
        if self._method.knobs[0].name != "weight" or self._method.name == "passthrough":
            return None
        n = len(self._pool.digests)
        if blend.method == "passthrough" and len(recipe.parents) == 1:
            return self._alone(recipe.parents[0])
        average = blend.method == "linear" and recipe.parents == self._pool.digests and blend.knobs.get("weight") == 1.0
        if average and self._method.name in ("linear", "task_arithmetic", "dare_linear"):
            return {"weight": (1.0 / n,) * n, **self._whole()}
        return None

    def _alone(self, digest: str) -> Mapping[str, Any] | None:
        if digest in self._pool.digests:
            here = self._pool.digests.index(digest)
            return {"weight": tuple(float(p == here) for p in range(len(self._pool.digests))), **self._whole()}
        zeros = (0.0,) * len(self._pool.digests)
        return {"weight": zeros} if digest == self._pool.base and self._method.needs_base else None

    def _whole(self) -> dict[str, float]:
        """What keeps a delta as it is: nothing dropped, nothing scaled."""
        return {k.name: 1.0 for k in self._method.knobs if k.name in ("density", "scale")}

    def _says(self, genome: Genome, recipe: Recipe) -> bool:
        """Whether the decoded genome has the recipe's coefficients in every block, not only where they were read."""
        for ours, theirs in zip(self.decode(genome).slots, recipe.slots, strict=True):
            for part in (p for p in self._parts if p not in OUTER):
                wanted = self._as_ours(theirs.blends.get(part, theirs.blends.get("*")), recipe, part)
                mine = ours.blends[part].knobs
                if wanted is None or not all(_close(mine[k], wanted[k]) for k in wanted if k in mine):
                    return False
        return True


def _name(knob: str, part: str, group: int, parent: str) -> str:
    return f"{knob}/{'rest' if part == '*' else part}/{group}/{parent}"


def _distinct(parts: Sequence[str]) -> tuple[str, ...]:
    """The parts, then "*" for the rest."""
    twice = [p for i, p in enumerate(parts) if p in ("*", "rest", *parts[:i])]
    if twice:
        raise ConfigError(
            f"space.parts names '{twice[0]}', which has genes already. Name each part once; the rest has one set."
        )
    return (*parts, "*")


def _close(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, bool | str) or isinstance(theirs, bool | str):
        return bool(ours == theirs)
    return bool(np.allclose(ours, theirs, rtol=0, atol=1e-9))


def _guarded(values: dict[str, KnobValue]) -> dict[str, KnobValue]:
    """All-zero weights under normalisation would divide by zero: they mean the plain average."""
    weight = values.get("weight")
    numbers = weight if isinstance(weight, tuple) else (weight,)
    if values.get("normalize") and "weight" in values and abs(sum(map(float, numbers))) < 1e-6:
        values["weight"] = (1.0,) * len(numbers) if isinstance(weight, tuple) else 1.0
    return values
