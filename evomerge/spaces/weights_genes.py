"""The genes of the weights space: which knob of which part, layer group and parent each one rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evomerge.errors import ConfigError
from evomerge.methods import get
from evomerge.methods.coefficients import normalised
from evomerge.spaces import depth, genes
from evomerge.spaces.references import unique
from evomerge.spaces.shares import SHARE, equal
from evomerge.types import VECTORS, Genome, Knob, KnobValue, Method, Pool, Variable

#: Parts outside the blocks, with one set of genes whatever the groups, and the block that each lies beside.
OUTER = {"embeddings": 0, "head": -1}
#: Knobs of which more means more of the method's effect, whatever the method.
EFFECTS = ("weight", "t", "scale", "t_scale", "t_quantile", "r")


@dataclass(frozen=True, eq=False)
class Definition:
    """What of a merge its genes do not say.

    knobs: those with genes, of which `each` names the ones with a gene per parent; `fixed` holds all others. depth:
    float64 (blocks, groups), how much each group counts in each block. parts: those with genes of their own, then "*"
    for the rest. levels: how many values a number may take, 0 for any.
    """

    pool: Pool
    method: Method
    knobs: tuple[Knob, ...]
    each: frozenset[str]
    fixed: Mapping[str, KnobValue]
    depth: np.ndarray
    parts: tuple[str, ...]
    mask_all: bool
    levels: int
    seed: int
    dtype: str

    # ------------------------------------------------------------ what there is

    def knobs_of(self, part: str) -> list[Knob]:
        """The searched knobs that a part's method has: where the linear stand-in rules, density would do nothing."""
        if not self.has_stand_in(part):
            return list(self.knobs)
        return [k for k in self.knobs if get(str(self.method.plain)).knob("weight" if k is SHARE else k.name)]

    def has_stand_in(self, part: str) -> bool:
        return part in (*OUTER, "norms", VECTORS) and not self.mask_all and self.method.plain is not None

    @property
    def shared(self) -> bool:
        """Whether weights are searched as shares."""
        return SHARE in self.knobs

    def is_per_parent(self, knob: Knob) -> bool:
        return knob is SHARE or (knob.per_parent and knob.name in self.each)

    def owners(self, knob: Knob) -> list[str]:
        names = unique(self.pool.names)
        return names[:-1] if knob is SHARE else names if self.is_per_parent(knob) else ["all"]

    def shares(self, part: str, knob: Knob) -> np.ndarray:
        """How much each group's gene counts in each block: float64 (blocks, groups), or (1, 1) outside the blocks."""
        if part in OUTER:
            return np.ones((1, 1))
        return depth.nearest(self.depth) if knob.scale == "choice" else self.depth

    def levels_of(self, knob: Knob) -> int:
        """Levels of a knob that is a number: choices lie where their gene does."""
        return 0 if knob.scale == "choice" else self.levels

    # ------------------------------------------------------------ variables

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        return tuple(self._variables())

    @cached_property
    def _index(self) -> dict[str, int]:
        return {v.name: i for i, v in enumerate(self.variables)}

    def at(self, knob: Knob, part: str, group: int, parent: str) -> int:
        """The place of a gene in the genome."""
        return self._index[_name(knob.name, part, group, parent)]

    def place(self, genome: Genome, knob: Knob, part: str, parent: str, share: np.ndarray) -> float:
        """Where on its knob's range a block's value lies; share (groups,) weighs the groups' genes."""
        levels = self.levels_of(knob)
        mixed = np.flatnonzero(share).tolist()
        places = [genes.place(float(genome[self.at(knob, part, group, parent)]), levels) for group in mixed]
        return sum(float(share[group]) * place for group, place in zip(mixed, places, strict=True))

    def _variables(self) -> Iterable[Variable]:
        for part in self.parts:
            for group in range(1 if part in OUTER else self.depth.shape[1]):
                for knob in self.knobs_of(part):
                    for parent in self.owners(knob):
                        yield self._variable(knob, part, group, parent)

    def _variable(self, knob: Knob, part: str, group: int, parent: str) -> Variable:
        choice = knob.scale == "choice"
        return Variable(
            name=_name(knob.name, part, group, parent),
            knob=knob.name,
            low=0.0 if choice else knob.low,
            high=float(len(knob.values)) if choice else knob.high,
            scale=knob.scale,
            default=genes.nearest(self._default(knob, parent), self.levels_of(knob)),
            step=knob.step,
            leading=knob.name == self._leading,
            levels=len(knob.values) if choice else self.levels,
            part="rest" if part == "*" else part,
            parent=parent,
            depth=stretch(self.depth, part, group),
        )

    def _default(self, knob: Knob, parent: str) -> float:
        """Where a knob starts on its range: weights as the plain average, a number without a default in the middle."""
        n = len(self.pool.digests)
        if knob is SHARE:
            return equal(self.owners(knob).index(parent), n)
        if knob.default is None:
            return 0.5
        return genes.gene(knob, 1.0 / n if knob.name == "weight" and self.is_per_parent(knob) else knob.default)

    @property
    def _leading(self) -> str:
        """The knob that scales the method's effect, "" if none does."""
        known = ("scale",) if self.shared else EFFECTS
        return next((k.name for k in self.method.knobs if k.name in known), "")

    @property
    def common_scale(self) -> bool:
        """Whether one factor on all leading variables changes the default model: not if their sum divides it out."""
        values = {**self.fixed, **{k.name: k.default for k in self.knobs}}
        divided = self._leading == "weight" and normalised(self.method, values)
        return any(v.leading for v in self.variables) and not divided


def stretch(shares: np.ndarray, part: str, group: int) -> tuple[float, float]:
    """The stretch of depth in which a part's gene lies; outside the blocks, that of the group which it lies beside.

    shares: float64 (blocks, groups).
    """
    return depth.stretch(shares, int(shares[OUTER[part]].argmax()) if part in OUTER else group)


def _name(knob: str, part: str, group: int, parent: str) -> str:
    return f"{knob}/{'rest' if part == '*' else part}/{group}/{parent}"


def distinct(parts: Sequence[str]) -> tuple[str, ...]:
    """The parts, then "*" for the rest. Raises ConfigError for a part named twice."""
    twice = [p for i, p in enumerate(parts) if p in ("*", "rest", *parts[:i])]
    if twice:
        raise ConfigError(
            f"space.parts names '{twice[0]}', which has genes already. Name each part once; the rest has one set."
        )
    return (*parts, "*")
