"""Weights that sum to 1 over many checkpoints of one run, with no gene for their common factor."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from evomerge.errors import ConfigError
from evomerge.spaces import depth
from evomerge.spaces.weights_genes import OUTER
from evomerge.types import Blend, Genome, Pool, Recipe, Slot, Variable


class Simplex:
    """Genome <-> Recipe for sums of checkpoints (Recycle, Khalifa et al. 2024, arXiv:2412.04144).

    There, K weights are divided by their sum, which leaves one direction in which nothing changes. Here K - 1 genes per
    layer group are coordinates z in the plane of weights that sum to 1: a = 1/K + H z, where column j of H is the
    Helmert contrast between the first j checkpoints and the next one, of unit length. z lies in [-r, r] with
    r = sqrt((K - 1) / K), the least that has each checkpoint alone within; the plain average is the centre.

    groups, smooth: as in WeightsSpace. negative: whether checkpoints may count negatively; if not, a group's negative
    weights are cut to 0 and its others divided by their sum. With `smooth` this is done at the knots, before they are
    mixed: a mixture of points of the simplex lies on it. The first step leads half as far from the average as a
    checkpoint lies from it (the paper names none). No variable is leading: weights that sum to 1 have no common scale.
    """

    common_scale = False

    def __init__(
        self,
        pool: Pool,
        *,
        groups: int | str | Sequence[Sequence[int]] = 1,
        smooth: bool = False,
        negative: bool = False,
        seed: int = 0,
        dtype: str = "float32",
    ):
        if len(pool.digests) < 2:
            raise ConfigError(
                f"space=simplex wants at least 2 parents, got {len(pool.digests)}. Add some to parents.models."
            )
        self._pool, self._negative, self._seed, self._dtype = pool, negative, seed, dtype
        self._shares = depth.matrix(groups, sum(pool.stacks.values()), smooth=smooth)  # (blocks, groups)
        self._contrasts = helmert(len(pool.digests))  # (K, K - 1)
        self._radius = math.sqrt(1 - 1 / len(pool.digests))
        self.variables = tuple(self._variables())
        self.size = len(self.variables)

    def _variables(self) -> Iterable[Variable]:
        radius, k = self._radius, len(self._pool.digests)
        step = 0.25 / math.sqrt(k - 1)  # K - 1 of these make a distance of radius / 2
        for group in range(self._shares.shape[1]):
            where = depth.stretch(self._shares, group)
            for j in range(1, k):
                name, knob = f"contrast{j}/rest/{group}/all", f"contrast{j}"
                yield Variable(name, knob, -radius, radius, "linear", 0.5, step, depth=where)

    # ------------------------------------------------------------ decode

    def decode(self, genome: Genome) -> Recipe:
        """The recipe of a genome, float64 (D,) in [0, 1]."""
        pool, parents = self._pool, range(len(self._pool.digests))
        blends = [Blend("linear", {"weight": w, "normalize": False}) for w in self._weights(genome)]
        slots = tuple(
            Slot(tuple((p, stack, block) for p in parents), {"*": blend})
            for blend, (stack, block) in zip(blends, depth.blocks_of(pool), strict=True)
        )
        outer = {"embeddings": blends[0], "*": blends[-1]}
        return Recipe(
            pool.digests, pool.base, slots, outer, seed=self._seed, out_dtype=self._dtype, vocabulary=pool.vocabulary
        )

    def _weights(self, genome: Genome) -> list[tuple[float, ...]]:
        """Weights (K,) of every block, mixed of its groups' weights.

        Exactly rounded sums, here and below: the last bits of a matrix product differ between machines.
        """
        z = (2 * np.clip(genome, 0.0, 1.0) - 1) * self._radius
        groups = np.array([self._on_simplex(row) for row in z.reshape(self._shares.shape[1], -1)])  # (groups, K)
        return [tuple(math.fsum(share * column) for column in groups.T) for share in self._shares]

    def _on_simplex(self, z: np.ndarray) -> tuple[float, ...]:
        """Weights (K,) of a group."""
        weights = [math.fsum((1 / len(self._contrasts), *(row * z))) for row in self._contrasts]
        if self._negative:
            return tuple(weights)
        kept = [max(w, 0.0) for w in weights]
        total = math.fsum(kept)  # 1 at least
        return tuple(w / total for w in kept)

    # ------------------------------------------------------------ encode

    def encode(self, recipe: Recipe) -> Genome | None:
        """The genome of linear weights that sum to 1, a checkpoint alone, or the plain average, within the box."""
        slots = [self._weight(recipe, slot.blends) for slot in recipe.slots]
        outer = [self._weight(recipe, {"*": recipe.outer.get(k, recipe.outer.get("*"))}) for k in (*OUTER, "*")]
        weights = [w for w in (*slots, *outer) if w is not None]
        if len(weights) < len(slots) + 3 or not depth.in_place(self._pool, recipe):
            return None
        groups = depth.solved(self._shares, np.array(weights[:-3]))  # (groups, K)
        z = np.array([self._coordinates(row) for row in groups])  # (groups, K - 1)
        genome = 0.5 + np.clip(z.ravel() / self._radius, -1.0, 1.0) / 2
        found = self._weights(genome)
        return genome if np.allclose(weights, [*found, found[0], found[-1], found[-1]], rtol=0, atol=1e-9) else None

    def _coordinates(self, weight: np.ndarray) -> list[float]:
        """z (K - 1,) of weights (K,)."""
        return [
            math.fsum(c * (w - 1 / len(weight)) for c, w in zip(column, weight, strict=True))
            for column in self._contrasts.T
        ]

    def _weight(self, recipe: Recipe, blends: Mapping[str, Blend | None]) -> tuple[float, ...] | None:
        """The weights (K,) that a block's parts have in common, in the order of the pool; None if it cannot be said."""
        blend, *others = blends.values()
        if (
            blend is None
            or any(other != blend for other in others)
            or not set(recipe.parents) <= set(self._pool.digests)
        ):
            return None
        each = _each(blend, len(recipe.parents))
        by_parent = dict(zip(recipe.parents, each or (), strict=False))
        return tuple(by_parent.get(d, 0.0) for d in self._pool.digests) if each else None


def helmert(k: int) -> np.ndarray:
    """float64 (k, k - 1): orthonormal columns that sum to zero, column j - 1 the first j against the next one."""
    columns = [np.array([1.0] * j + [-float(j)] + [0.0] * (k - j - 1)) / math.sqrt(j * (j + 1)) for j in range(1, k)]
    return np.stack(columns, axis=1)


def _each(blend: Blend, n: int) -> tuple[float, ...] | None:
    """What each of n parents counts in a blend that is a plain weighted sum."""
    if blend.method == "passthrough" and n == 1 and blend.knobs.get("scale", 1.0) == 1.0:
        return (1.0,)
    weight = blend.knobs.get("weight", 1.0)
    each = tuple(float(w) for w in weight) if isinstance(weight, tuple) else (float(weight),) * n
    total = sum(each) if blend.knobs.get("normalize", True) else 1.0
    return tuple(w / total for w in each) if blend.method == "linear" and total and len(each) == n else None
