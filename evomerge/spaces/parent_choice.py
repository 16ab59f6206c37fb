"""Which parents take part is searched: some of many, with the knobs of a method for those that do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evomerge.errors import ConfigError
from evomerge.methods import get
from evomerge.spaces.knobs import check_arity
from evomerge.spaces.references import unique
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Genome, Method, Pool, Recipe, Variable

#: Keys of parents that take part and that do not, where a recipe is encoded: a step or two of the search apart.
IN, OUT = 0.75, 0.25


class ParentChoice:
    """Genome <-> Recipe for merges of some of the parents, by random keys (Bean 1994, doi:10.1287/ijoc.6.2.154).

    Each parent has a key; those with the `take` largest take part, of equal keys the first parents. So the genes stay
    continuous, and any genome means some choice. Then come the genes of a WeightsSpace over all parents: those of
    absent ones mean nothing, and `active` says so. A recipe names none but the parents that take part: methods for two
    parents serve any pool, and a candidate reads and pays no more than it merges.

    Weights stay with their parents, also where they are normalised: a gene for each, their common factor among them.

    At the default all keys are equal: a grid over one common scale (lambda_grid) merges the first parents.
    `common_scale`: whether there is one, as in the WeightsSpace of those.
    fixed: a list has one value per parent of the whole pool. All other settings are those of WeightsSpace.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        take: int = 2,
        method: str = "task_arithmetic",
        groups: int | str | Sequence[Sequence[int]] = 1,
        smooth: bool = False,
        parts: Sequence[str] | None = None,
        search: Sequence[str] | None = None,
        per_parent: Sequence[str] | None = None,
        ranges: Mapping[str, Sequence[float]] | None = None,
        scales: Mapping[str, str] | None = None,
        levels: int | None = None,
        fixed: Mapping[str, Any] | None = None,
        mask_all: bool = False,
        seed: int = 0,
        dtype: str = "float32",
    ):
        self._pool, self._take, self._fixed = replace(pool, names=tuple(unique(pool.names))), take, fixed or {}
        self._check(method)
        self._settings: dict[str, Any] = {
            "method": method,
            "groups": groups,
            "smooth": smooth,
            "parts": parts,
            "search": search,
            "per_parent": _own(get(method)) if per_parent is None else per_parent,
            "ranges": ranges,
            "scales": scales,
            "levels": levels,
            "mask_all": mask_all,
            "seed": seed,
            "dtype": dtype,
        }
        self._spaces: dict[tuple[int, ...], WeightsSpace] = {}  # of the combinations that were met
        self.variables = (*map(_key, self._pool.names), *self._knobs())
        self.size = len(self.variables)
        self.common_scale = self._space(tuple(range(take))).common_scale
        self._index = {v.name: i for i, v in enumerate(self.variables)}

    def _check(self, method: str) -> None:
        n, take = len(self._pool.digests), self._take
        if not 1 <= take <= n:
            raise ConfigError(f"space.take is {take} for {n} parents; wanted 1 to {n}.")
        check_arity(get(method), self._of(range(take)), remedy="Change space.take or space.method.")
        for name, value in self._fixed.items():
            if isinstance(value, list | tuple) and len(value) != n:
                raise ConfigError(
                    f"space.fixed.{name} has {len(value)} values; wanted {n}, one per parent of the pool."
                )

    # ------------------------------------------------------------ combinations of parents

    def _of(self, present: Sequence[int]) -> Pool:
        names, digests = self._pool.names, self._pool.digests
        return replace(self._pool, names=tuple(names[p] for p in present), digests=tuple(digests[p] for p in present))

    def _space(self, present: tuple[int, ...]) -> WeightsSpace:
        """The space of a combination, parents in the pool's order; made when it is first met."""
        if present not in self._spaces:
            fixed = {k: [v[p] for p in present] if isinstance(v, list | tuple) else v for k, v in self._fixed.items()}
            self._spaces[present] = WeightsSpace(self._of(present), **self._settings, fixed=fixed)
        return self._spaces[present]

    def _knobs(self) -> Iterable[Variable]:
        """The variables of all parents, from the fewest combinations that have them; those of one knob together."""
        n, take = len(self._pool.digests), self._take
        spaces = [self._space(tuple(range(first, first + take))) for first in (*range(0, n - take, take), n - take)]
        found = {v.name: v for space in spaces for v in space.variables}
        alike: dict[tuple[Any, ...], list[Variable]] = {}
        for v in found.values():
            alike.setdefault((v.knob, v.part, v.depth), []).append(v)
        return [v for group in alike.values() for v in group]

    def _present(self, genome: Genome) -> tuple[int, ...]:
        """The parents whose keys are the largest."""
        keys = np.clip(genome[: len(self._pool.digests)], 0.0, 1.0)
        return tuple(sorted(np.argsort(-keys, kind="stable")[: self._take].tolist()))

    def _own(self, present: tuple[int, ...]) -> list[int]:
        """Places in the genome of the genes of a combination's space."""
        return [self._index[v.name] for v in self._space(present).variables]

    def active(self, genome: Genome) -> np.ndarray:
        """bool (D,): all keys, and the genes of parents that take part or of all."""
        found = np.arange(self.size) < len(self._pool.digests)
        found[self._own(self._present(np.asarray(genome)))] = True
        return found

    # ------------------------------------------------------------ decode and encode

    def decode(self, genome: Genome) -> Recipe:
        """The recipe of a genome, float64 (D,) in [0, 1]."""
        genome = np.asarray(genome, dtype=np.float64)
        present = self._present(genome)
        return self._space(present).decode(genome[self._own(present)])

    def encode(self, recipe: Recipe) -> Genome | None:
        """The genome of a merge of `take` parents in the pool's order, of one parent, or of the base; else None.

        Where fewer are named, the first of the others take part beside them with nothing to say.
        """
        digests = self._pool.digests
        named = [digests.index(d) for d in recipe.parents if d in digests]
        others = [p for p in range(len(digests)) if p not in named]
        present = tuple(sorted([*named, *others[: max(self._take - len(named), 0)]]))
        if len(present) != self._take:
            return None
        own = self._space(present).encode(recipe)
        if own is None:
            return None
        genome = np.array([v.default for v in self.variables])
        genome[: len(digests)] = [IN if p in present else OUT for p in range(len(digests))]
        genome[self._own(present)] = own
        return genome


def _own(method: Method) -> list[str]:
    """The knob that goes with its parent."""
    return [k.name for k in method.knobs[:1] if k.per_parent]


def _key(parent: str) -> Variable:
    name, step = f"key/all/0/{parent}", (IN - OUT) / 2
    return Variable(name, "key", 0.0, 1.0, "linear", 0.5, step, part="all", parent=parent)
