"""The genome of mergekit-evolve, within bounds (Goddard et al. 2024, Arcee's MergeKit, arXiv:2403.13257)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from evomerge.errors import ConfigError, unknown
from evomerge.methods import get
from evomerge.spaces import depth
from evomerge.spaces.likeness import alike
from evomerge.spaces.mergekit_genes import PARAMETERS, Definition, decode, encode
from evomerge.spaces.references import unique
from evomerge.types import Blend, Genome, Pool, Recipe, Variable

NORMALIZED = ("linear", "ties", "dare_ties")
#: mergekit-evolve's first standard deviation, in the units of its raw genes.
SIGMA = 1 / 6
#: Widest difference of slerp's scores: t down to 0.018. mergekit's first samples differ by 1 at most, t >= 0.27.
SLERP_GAP = 4.0


class MergekitSpace:
    """Genome <-> Recipe as mergekit-evolve decodes.

    merge_method, layer_granularity, normalize, allow_negative_weights, smooth and filters are the keys of its YAML.
    There is one weight (and density) per layer group, parent and filter, in this order; what no filter matches has
    the last set. The method merges every tensor, norms and embeddings included: embeddings with the first group's
    values, final norm and head with the last's, or with `smooth` the first's. The base, where it is among the parents
    of a method on differences, has no genes: mergekit reads none of them.

    low, high: bounds of weights; densities lie in [0, 1]. A weight's absolute value counts unless
    `allow_negative_weights`, and a density's is clipped to 1: the bounds lose no model and spare the search mirror
    optima and flat ground. Normalised weights above 1 mean nothing new. Weights of `linear` that sum to zero mean the
    plain average; they end mergekit's run. `common_scale`: whether one common factor on the leading variables, the
    weights, changes the model: not if they are normalised, and slerp has none, for only differences of scores count.

    slerp has one score per group and parent: the two highest are merged with t = softmax(scores)[1] from the higher
    one, so that t is between 1 / (1 + exp(high - low)) and 1/2, and no parent is ever reached whole. Of equal scores
    the first parents' count (mergekit leaves it to torch). If the groups choose more than two parents in all,
    embeddings, final norm and head are interpolated linearly, which slerp itself does for nearly parallel tensors.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        merge_method: str = "task_arithmetic",
        layer_granularity: int | None = None,
        normalize: bool | None = None,
        allow_negative_weights: bool = False,
        smooth: bool = False,
        filters: Sequence[str] | None = None,
        low: float | None = None,
        high: float | None = None,
        seed: int = 0,
        dtype: str = "float32",
    ):
        _check(merge_method, pool, smooth, filters)
        self._method = get(merge_method)
        named = zip(unique(pool.names), pool.digests, strict=True)
        self._digests = {name: d for name, d in named if d != pool.base or not self._method.needs_base}
        self._check_parents()
        (blocks,) = pool.stacks.values()
        groups = blocks // _divisor(layer_granularity, blocks)
        self._definition = Definition(
            method=merge_method,
            pool=pool,
            digests=tuple(self._digests.values()),
            depth=depth.matrix(groups, blocks, smooth=smooth),
            filters=tuple(filters or ()),
            normalize=merge_method in NORMALIZED if normalize is None else normalize,
            allow_negative_weights=allow_negative_weights,
            smooth=smooth,
            seed=seed,
            dtype=dtype,
        )
        self._low, self._high = self._bounds(low, high)
        self.variables = tuple(self._variables())
        self.size = len(self.variables)
        self.common_scale = self._method.name != "slerp" and not self._definition.normalize
        self._lows, self._highs = np.array([(v.low, v.high) for v in self.variables]).T  # (D,) each

    def _check_parents(self) -> None:
        wanted = 2 if self._method.name == "slerp" else 1
        if len(self._digests) < wanted:
            raise ConfigError(
                f"space.merge_method={self._method.name} takes at least {wanted} parents other than its base, got "
                f"{len(self._digests)}. Add some to parents.models."
            )

    def _bounds(self, low: float | None, high: float | None) -> tuple[float, float]:
        slerp = self._method.name == "slerp"
        least = -1.0 if self._definition.allow_negative_weights and not slerp else 0.0
        most = SLERP_GAP if slerp else 1.0 if self._definition.normalize else 1.5
        low, high = least if low is None else low, most if high is None else high
        if not -math.inf < low < high < math.inf:
            raise ConfigError(f"space.low is {low} and space.high {high}; wanted numbers with low < high.")
        return low, high

    # ------------------------------------------------------------ variables

    def _variables(self) -> Iterable[Variable]:
        """In the order of mergekit's own genome."""
        for group in range(self._definition.shape[0]):
            for parent in self._digests:
                for part in unique((*self._definition.filters, "rest")):
                    for knob in PARAMETERS[self._method.name]:
                        yield self._variable(knob, part, group, parent)

    def _variable(self, knob: str, part: str, group: int, parent: str) -> Variable:
        low, high, default, step = self._range(knob)
        return Variable(
            name=f"{knob}/{part}/{group}/{parent}",
            knob=knob,
            low=low,
            high=high,
            scale="linear",
            default=default,
            step=step,
            leading=knob == "weight",
            part=part,
            parent=parent,
            depth=depth.stretch(self._definition.depth, group),
        )

    def _range(self, knob: str) -> tuple[float, float, float, float]:
        """(low, high, default, step) of a gene, at mergekit's own start: equal weights, nothing dropped."""
        if knob == "density":
            return 0.0, 1.0, 1.0, SIGMA
        width = self._high - self._low
        start = min(max((1 / len(self._digests) - self._low) / width, 0.0), 1.0)
        step = SIGMA if knob == "t" else min(SIGMA / width, 0.5)  # a score has no unit of its own
        return self._low, self._high, start, step

    # ------------------------------------------------------------ decode and encode

    def decode(self, genome: Genome) -> Recipe:
        """The recipe of a genome, float64 (D,) in [0, 1]."""
        return self.merge(self._lows + np.clip(genome, 0.0, 1.0) * (self._highs - self._lows))

    def merge(self, raw: Sequence[float] | np.ndarray) -> Recipe:
        """The recipe of genes in mergekit-evolve's own units: (D,), any finite numbers."""
        return decode(self._definition, np.asarray(raw, dtype=np.float64).reshape(self._definition.shape))

    def encode(self, recipe: Recipe) -> Genome | None:
        """A genome that decodes to this recipe's coefficients, or None if the space has none.

        A parent, the base, and (linear, task_arithmetic) the plain average are the one-hot, all-zero and equal
        weights that give the same model.
        """
        weights = self._plain(recipe)
        if weights is not None:
            raw = np.ones(self._definition.shape)
            raw[..., 0] = weights[:, None]
            return self._genome(raw)
        found = encode(self._definition, recipe, self._low, self._high)
        genome = None if found is None else self._genome(found)
        return genome if genome is not None and alike(self.decode(genome), recipe) else None

    def _genome(self, raw: np.ndarray) -> Genome | None:
        genome: Genome = (raw.ravel() - self._lows) / (self._highs - self._lows)
        genome = np.round(genome, 12)  # LAPACK's last bits differ between machines
        return genome if ((genome >= 0) & (genome <= 1)).all() else None

    def _plain(self, recipe: Recipe) -> np.ndarray | None:
        """The weights (P,) of a recipe that is a parent, the base or the plain average from end to end."""
        blend = recipe.outer.get("*")
        mappings = (recipe.outer, *(slot.blends for slot in recipe.slots))
        if self._method.name == "slerp" or blend is None or any(m != {"*": blend} for m in mappings):
            return None
        if blend == Blend("passthrough") and len(recipe.parents) == 1:
            return self._alone(recipe.parents[0])
        digests = self._definition.digests
        average = blend == Blend("linear", {"weight": 1.0, "normalize": True}) and recipe.parents == digests
        fit = self._method.name in ("linear", "task_arithmetic")
        return np.full(len(digests), 1 / len(digests)) if average and fit else None

    def _alone(self, digest: str) -> np.ndarray | None:
        digests = self._definition.digests
        base = self._method.needs_base and digest == self._definition.pool.base
        return np.array([float(d == digest) for d in digests]) if base or digest in digests else None


# ---------------------------------------------------------------- settings


def _check(method: str, pool: Pool, smooth: bool, filters: Sequence[str] | None) -> None:
    if method not in PARAMETERS:
        raise ConfigError(unknown("space.merge_method", method, PARAMETERS) + " For others use space=weights.")
    if get(method).needs_base and pool.base is None:
        raise ConfigError(
            f"space.merge_method={method} merges differences from a base. Set parents.base, or use linear."
        )
    if method == "slerp" and (smooth or filters):
        raise ConfigError("space.smooth and space.filters are not for slerp. Leave them out, or use linear.")
    if len(pool.stacks) != 1:
        raise ConfigError(
            f"the parents have {len(pool.stacks)} stacks of blocks ({', '.join(pool.stacks)}); space=mergekit wants "
            "one. Use space=weights."
        )


def _divisor(granularity: int | None, blocks: int) -> int:
    """Blocks per group; none, or anything below 1, means all of them, as in mergekit."""
    if granularity is None or granularity < 1:
        return blocks
    if blocks % granularity:
        fit = ", ".join(str(n) for n in range(1, blocks + 1) if blocks % n == 0)
        raise ConfigError(
            f"space.layer_granularity is {granularity} for a model of {blocks} blocks; wanted one of {fit}, or null."
        )
    return granularity
