"""The method itself is searched: one per layer group, each with knobs that count only where it is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evomerge.errors import ConfigError, unknown
from evomerge.methods import get
from evomerge.problem import gene_of, level_of
from evomerge.spaces import depth
from evomerge.spaces.knobs import check_arity
from evomerge.spaces.slerp_pairs import SlerpPairs
from evomerge.spaces.weights import WeightsSpace
from evomerge.spaces.weights_genes import distinct
from evomerge.types import Genome, Pool, Recipe, Variable

METHODS = ("linear", "task_arithmetic", "ties", "slerp")


class MethodChoice:
    """Genome <-> Recipe as in layer-wise fusion search (LFS, Su and Geiping 2025, arXiv:2502.04030).

    One gene per group chooses among `methods`; then come the genes of each method's own space: a WeightsSpace with the
    same groups and parts, or SlerpPairs where slerp has more than two parents to choose from. What is asked of a method
    that a group did not choose means nothing there, and `active` says so; in LFS it stays active and takes most of the
    search. Embeddings follow the first group, final norm and head the last, in method and values.

    groups: number of equal depth groups, a list of [first, last) ranges, or "per_layer". parts: names or substrings
    with genes of their own; the rest shares one set. search, ranges, fixed: by method, as in WeightsSpace. Variables
    bear their method's name: "ties/density" and "dare_ties/density" are two knobs.

    `common_scale` is that of the first of `methods`, which every group has at the default: a grid over one scale leaves
    choices there, and with `linear` first, whose weights are normalised, it would be one model again and again.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        methods: Sequence[str] = METHODS,
        groups: int | str | Sequence[Sequence[int]] = 1,
        parts: Sequence[str] | None = None,
        search: Mapping[str, Sequence[str]] | None = None,
        ranges: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
        fixed: Mapping[str, Mapping[str, Any]] | None = None,
        seed: int = 0,
        dtype: str = "float32",
    ):
        own = {"search": search or {}, "ranges": ranges or {}, "fixed": fixed or {}}
        self._methods, self._pool = _several(methods), pool
        _check_names(self._methods, own)
        self._shares = depth.matrix(groups, sum(pool.stacks.values()))  # (blocks, groups)
        self._owner = self._shares.argmax(axis=1)  # (blocks,): the group of each
        common = {"groups": groups, "parts": parts, "seed": seed, "dtype": dtype}
        self._members = [self._member(m, common, {k: v[m] for k, v in own.items() if m in v}) for m in self._methods]
        genes = [*self._choices(), *self._knobs()]
        self._groups = self._shares.shape[1]
        self._method_of = np.array([method for method, _, _ in genes])  # (D,), -1: of none
        self._group_of = np.array([group for _, group, _ in genes])  # (D,): the group whose choice makes it count
        self.variables = tuple(variable for _, _, variable in genes)
        self.size = len(self.variables)
        self._default = np.array([v.default for v in self.variables])
        self.common_scale = self._members[0].common_scale

    def _member(self, method: str, common: Mapping[str, Any], own: Mapping[str, Any]) -> WeightsSpace | SlerpPairs:
        """The space of one method. Raises ConfigError if it cannot merge these parents."""
        parents = len(self._pool.digests)
        if method == "slerp" and parents > 2:
            if own:
                raise ConfigError(
                    f"space.{next(iter(own))} names slerp, which has no t but scores among {parents} parents. Leave it "
                    "out, or search over two parents."
                )
            parts = distinct(common["parts"] or ())
            return SlerpPairs(self._pool, self._shares, parts, seed=common["seed"], dtype=common["dtype"])
        remedy = "Leave it out, or change parents.models (the base may be one)."
        check_arity(get(method), self._pool, setting="methods", remedy=remedy)
        try:
            return WeightsSpace(self._pool, method=method, **common, **own)
        except ConfigError as error:
            raise ConfigError(f"of {method}: {error}") from error

    # ------------------------------------------------------------ variables

    def _choices(self) -> Iterable[tuple[int, int, Variable]]:
        """(-1, group, variable) of the genes that choose."""
        n = len(self._methods)
        for group in range(self._shares.shape[1]):
            variable = Variable(
                name=f"method/all/{group}/all",
                knob="method",
                low=0.0,
                high=float(n),
                scale="choice",
                default=gene_of(0, n),
                step=1 / 6,
                levels=n,
                part="all",
                depth=depth.stretch(self._shares, group),
            )
            yield -1, group, variable

    def _knobs(self) -> Iterable[tuple[int, int, Variable]]:
        """(method, group, variable) of all others."""
        stretches = [depth.stretch(self._shares, group) for group in range(self._shares.shape[1])]
        for number, (method, member) in enumerate(zip(self._methods, self._members, strict=True)):
            for v in member.variables:
                yield number, stretches.index(v.depth), replace(v, name=f"{method}/{v.name}", knob=f"{method}/{v.knob}")

    def _chosen(self, genome: Genome) -> np.ndarray:
        """int (groups,): the number of the method that each group chose."""
        return np.array([level_of(float(gene), len(self._methods)) for gene in genome[: self._groups]])

    def active(self, genome: Genome) -> np.ndarray:
        """bool (D,): the choices, and the genes of what was chosen."""
        found: np.ndarray = (self._method_of == -1) | (self._method_of == self._chosen(genome)[self._group_of])
        return found

    # ------------------------------------------------------------ decode

    def decode(self, genome: Genome) -> Recipe:
        """The recipe of a genome, float64 (D,) in [0, 1]."""
        genome = np.asarray(genome, dtype=np.float64)
        chosen = self._chosen(genome)
        recipes = {m: self._members[m].decode(genome[self._method_of == m]) for m in chosen.tolist()}
        return self._joined([recipes[m] for m in chosen.tolist()])

    def _joined(self, recipes: Sequence[Recipe]) -> Recipe:
        """One recipe of one per group: each group's slots from its own, embeddings from the first's, the rest outside
        the blocks from the last's."""
        slots = tuple(recipes[group].slots[block] for block, group in enumerate(self._owner))
        first, last = recipes[self._owner[0]].outer, recipes[self._owner[-1]].outer
        return replace(recipes[0], slots=slots, outer={**last, "embeddings": first.get("embeddings", first["*"])})

    # ------------------------------------------------------------ encode

    def encode(self, recipe: Recipe) -> Genome | None:
        """The genome of a recipe that `decode` made, or that one method's space can say; None if there is none.

        A parent, the base and the plain average are said by the first method that can.
        """
        if len(recipe.slots) != len(self._owner) or "*" not in recipe.outer:
            return None
        everywhere = [[method] * self._groups for method in range(len(self._methods))]
        found = (self._encoded(recipe, chosen) for chosen in [*self._named(recipe), *everywhere])
        return next((genome for genome in found if genome is not None), None)

    def _named(self, recipe: Recipe) -> list[list[int]]:
        """The choice that the recipe's blocks name, if these are all known."""
        slots = [recipe.slots[block] for block in self._shares.argmax(axis=0)]
        names = [slot.blends["*"].method if "*" in slot.blends else "" for slot in slots]
        return [[self._methods.index(name) for name in names]] if set(names) <= set(self._methods) else []

    def _encoded(self, recipe: Recipe, chosen: Sequence[int]) -> Genome | None:
        genome = self._default.copy()
        genome[: self._groups] = [gene_of(method, len(self._methods)) for method in chosen]
        for method in sorted(set(chosen)):
            own = self._members[method].encode(self._only(recipe, method, chosen))
            if own is None:
                return None
            genome[self._method_of == method] = own
        return np.where(self.active(genome), genome, self._default)

    def _only(self, recipe: Recipe, method: int, chosen: Sequence[int]) -> Recipe:
        """The recipe where it has this method, elsewhere the method's defaults: all that its own space can say."""
        if set(chosen) == {method}:
            return recipe
        default = self._members[method].decode(self._default[self._method_of == method])
        mixed = self._joined([recipe if m == method else default for m in chosen])
        return replace(mixed, parents=recipe.parents, base=recipe.base)


def _several(methods: Sequence[str]) -> tuple[str, ...]:
    twice = [m for i, m in enumerate(methods) if m in methods[:i]]
    if twice or len(methods) < 2:
        raise ConfigError(
            f"space.methods is {list(methods)}; wanted two or more, each once. For one method use space=weights."
        )
    return tuple(get(m).name for m in methods)


def _check_names(methods: Sequence[str], own: Mapping[str, Mapping[str, Any]]) -> None:
    for setting, by_method in own.items():
        for name in by_method:
            if name not in methods:
                raise ConfigError(f"space.{setting}: " + unknown("method of space.methods", name, methods))
