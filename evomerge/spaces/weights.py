"""The parameter space: a method's knobs per layer group, part and parent (Akiba et al. 2024, arXiv:2403.13187, 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.errors import ConfigError
from evomerge.methods import get
from evomerge.spaces import depth, weights_recipe
from evomerge.spaces.knobs import check_arity, checked, chosen, defaults, pinned, shared
from evomerge.spaces.weights_genes import Definition, distinct
from evomerge.types import Genome, Pool, Recipe


class WeightsSpace:
    """Genome <-> Recipe for merging in parameter space, all parents in every block.

    method: name in METHODS. groups: number of equal depth groups, a list of [first, last) ranges, or "per_layer";
    with `smooth`, a number of knots that are interpolated over depth (choices are those of the nearest knot). parts:
    names or substrings that get genes of their own; the rest shares one set. search: knobs with genes (default: see
    below). per_parent: of these, which have one gene per parent (default: the leading knob). ranges: knob -> [low,
    high]. scales: knob -> linear or log. levels: how many values a searched number takes, evenly spread on its scale
    with the ends included (Mergenetic's grid has 11, arXiv:2505.11427); null: any. fixed: knob -> value. 1-D tensors,
    embeddings and head get the method's linear stand-in if it has one, unless `mask_all`. Embeddings follow the first
    group, final norm and head the last.

    The default genome has no direction in which the model stays as it is, and few others. Searched are the method's
    first knob, densities, and RAM+'s alpha, which bounds what its r scales; `scale` where weights are normalised or
    there are none (SCE), for else it is the weights' common factor and stays at 1. What only shapes a method (gamma,
    epsilon_frac, RAM+'s epsilon) and all choices stay at their defaults: name them in `search`. Methods on differences
    are not normalised unless `fixed` says so. Normalised weights become shares: one gene fewer than parents, a parent's
    share being what it takes of what those before it left. A gene per parent it is with `per_parent: [weight]`, with a
    range or scale for `weight`, and with `levels`, whose even shares would miss the plain average.

    `common_scale`: whether one common factor on the leading variables changes the model, all else at its default. It
    does not where these are normalised weights, nor where no gene is leading.
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
        values = {**defaults(merging, pool), **held}
        knobs = chosen(merging, search, held, ranges or {}, scales or {}, pool)
        if per_parent is None and levels is None and "weight" not in {**(ranges or {}), **(scales or {})}:
            knobs = shared(merging, knobs, values, pool)
        self._definition = Definition(
            pool=pool,
            method=merging,
            knobs=tuple(knobs),
            each=frozenset({merging.knobs[0].name} if named is None else named),
            fixed=values,
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

        A parent, the base and the plain average count as the one-hot, all-zero and uniform weights that give the same
        model, where the method's maths has it so; a parent of slerp as the end of the arc at which it lies, t = 0 or 1,
        and nearswap's as the step that reaches it everywhere.
        """
        return weights_recipe.encode(self._definition, recipe)


def _counted(levels: int | None) -> int:
    if levels is not None and levels < 2:
        raise ConfigError(f"space.levels is {levels}; wanted at least 2 values for each number, or null for any.")
    return levels or 0
