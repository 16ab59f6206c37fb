"""The parameter space: a method's knobs per layer group, part and parent (Akiba et al. 2024, arXiv:2403.13187, 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.errors import ConfigError
from evomerge.methods import get
from evomerge.spaces import depth, weights_recipe
from evomerge.spaces.knobs import check_arity, checked, chosen, defaults, pinned
from evomerge.spaces.weights_genes import Definition, distinct
from evomerge.types import Genome, Pool, Recipe


class WeightsSpace:
    """Genome <-> Recipe for merging in parameter space, all parents in every block.

    method: name in METHODS. groups: number of equal depth groups, a list of [first, last) ranges, or "per_layer";
    with `smooth`, a number of knots that are interpolated over depth (choices are those of the nearest knot). parts:
    names or substrings that get genes of their own; the rest shares one set. search: knobs with genes (default: the
    leading knob and densities). per_parent: of these, which have one gene per parent (default: the leading knob).
    ranges: knob -> [low, high]. scales: knob -> linear or log. levels: how many values a searched number takes,
    evenly spread on its scale with the ends included (Mergenetic's grid has 11, arXiv:2505.11427); null: any.
    fixed: knob -> value. 1-D tensors, embeddings and head get the method's linear stand-in, unless `mask_all`.
    Embeddings follow the first group, final norm and head the last.

    `common_scale`: whether one common factor on the leading variables changes the model, all else at its default. It
    does not where weights are normalised (`linear` by default, or fixed.normalize), nor where no gene is leading.
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
        levels: int | None = None,
        fixed: Mapping[str, Any] | None = None,
        mask_all: bool = False,
        seed: int = 0,
        dtype: str = "float32",
    ):
        merging = get(method)
        check_arity(merging, pool)
        held = pinned(merging, fixed or {}, pool)
        named = None if per_parent is None else checked(merging, dict.fromkeys(per_parent), "per_parent")
        self._definition = Definition(
            pool=pool,
            method=merging,
            knobs=tuple(chosen(merging, search, fixed or {}, ranges or {}, scales or {})),
            each=frozenset({merging.knobs[0].name} if named is None else named),
            fixed={**defaults(merging), **held},
            depth=depth.matrix(groups, sum(pool.stacks.values()), smooth=smooth),
            parts=distinct(parts or ()),
            mask_all=mask_all,
            levels=_counted(levels),
            seed=seed,
            dtype=dtype,
        )
        self.variables = self._definition.variables
        self.size = len(self.variables)
        self.common_scale = self._definition.common_scale

    def decode(self, genome: Genome) -> Recipe:
        """The recipe of a genome, float64 (D,) in [0, 1]."""
        return weights_recipe.decode(self._definition, genome)

    def encode(self, recipe: Recipe) -> Genome | None:
        """The genome that decodes to this recipe's coefficients, or None if the space has none.

        A parent, the base, and (for the linear methods) the plain average count as the one-hot, all-zero and
        uniform weights that give the same model; a parent of slerp as the end of the arc at which it lies, t = 0 or 1.
        """
        return weights_recipe.encode(self._definition, recipe)


def _counted(levels: int | None) -> int:
    if levels is not None and levels < 2:
        raise ConfigError(f"space.levels is {levels}; wanted at least 2 values for each number, or null for any.")
    return levels or 0
