"""Slerp among many parents: a score per parent says which two are merged in a group, and where between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from evomerge.spaces import depth
from evomerge.spaces.likeness import alike
from evomerge.spaces.mergekit import SLERP_GAP
from evomerge.spaces.references import unique
from evomerge.spaces.weights_genes import OUTER, stretch
from evomerge.types import Blend, Genome, Pool, Recipe, Slot, Variable

Pair = tuple[int, int]  # two parents, the first before the second


class SlerpPairs:
    """Genome <-> Recipe as in layer-wise fusion search (LFS, Su and Geiping 2025, arXiv:2502.04030).

    Each parent has a score per group and part. The two parents with the largest scores, summed over the parts of the
    block, are merged in a group; of equal sums the first parents'. t = softmax of the pair's scores, in each part its
    own; scores from 0 to 4 give t from 0.018 to 0.982, where LFS's from 0 to 1 stop at 0.27 and 0.73. Embeddings, final
    norm and head, which draw on all parents, are interpolated linearly between the pair of the first or the last group.

    parts: those with scores of their own, then "*" for the rest. shares: float64 (blocks, groups), zeros and ones.
    No score is leading, for a common shift of them changes nothing: there is no common scale.
    """

    common_scale = False

    def __init__(self, pool: Pool, shares: np.ndarray, parts: Sequence[str], *, seed: int, dtype: str):
        self._pool, self._shares, self._parts, self._seed, self._dtype = pool, shares, tuple(parts), seed, dtype
        self._owner = shares.argmax(axis=1)  # (blocks,), the group of each
        self.variables = tuple(self._variables())
        self.size = len(self.variables)

    def _variables(self) -> Iterable[Variable]:
        for part in self._parts:
            for group in range(1 if part in OUTER else self._shares.shape[1]):
                for parent in unique(self._pool.names):
                    yield self._variable("rest" if part == "*" else part, group, parent)

    def _variable(self, part: str, group: int, parent: str) -> Variable:
        return Variable(
            name=f"score/{part}/{group}/{parent}",
            knob="score",
            low=0.0,
            high=SLERP_GAP,
            scale="linear",
            default=0.5,
            step=1 / 6,
            part=part,
            parent=parent,
            depth=stretch(self._shares, "*" if part == "rest" else part, group),
        )

    # ------------------------------------------------------------ decode

    def decode(self, genome: Genome) -> Recipe:
        """The recipe of a genome, float64 (D,) in [0, 1]."""
        pool, scores = self._pool, self._scores(genome)
        inner = {part: found for part, found in scores.items() if part not in OUTER}
        pairs = [_pair(row) for row in np.sum(list(inner.values()), axis=0)]
        slots = tuple(
            Slot(
                tuple((p, stack, block) for p in pairs[group]),
                {part: Blend("slerp", {"t": _between(pairs[group], rows[group])}) for part, rows in inner.items()},
            )
            for group, (stack, block) in zip(self._owner, depth.blocks_of(pool), strict=True)
        )
        outer = {key: self._outer(scores, pairs, key) for key in ("embeddings", "head", "*")}
        return Recipe(
            pool.digests, pool.base, slots, outer, seed=self._seed, out_dtype=self._dtype, vocabulary=pool.vocabulary
        )

    def _scores(self, genome: Genome) -> dict[str, np.ndarray]:
        """Part -> scores (groups, P)."""
        n, found, first = len(self._pool.digests), {}, 0
        for part in self._parts:
            rows = 1 if part in OUTER else self._shares.shape[1]
            found[part] = np.reshape(np.clip(genome[first : first + rows * n], 0.0, 1.0), (rows, n)) * SLERP_GAP
            first += rows * n
        return found

    def _outer(self, scores: Mapping[str, np.ndarray], pairs: Sequence[Pair], key: str) -> Blend:
        group = self._owner[0 if key == "embeddings" else -1]
        part = "norms" if key == "*" and "norms" in scores else key if key in scores else "*"
        i, j = pairs[group]
        t = _between((i, j), scores[part][0 if part in OUTER else group])
        weight = tuple({i: 1 - t, j: t}.get(p, 0.0) for p in range(len(self._pool.digests)))
        return Blend("linear", {"weight": weight, "normalize": False})

    # ------------------------------------------------------------ encode

    def encode(self, recipe: Recipe) -> Genome | None:
        """A genome that decodes to a recipe of this space, the parents that are not of a pair at score 0; else None."""
        if recipe.parents != self._pool.digests or len(recipe.slots) != len(self._owner):
            return None
        rows = [self._row(recipe, part, group) for part in self._parts for group in self._groups_of(part)]
        if any(row is None for row in rows):
            return None
        genome = np.round(np.array(rows).ravel() / SLERP_GAP, 12)
        fits = ((genome >= 0) & (genome <= 1)).all()
        return genome if fits and alike(self.decode(genome), recipe) else None

    def _groups_of(self, part: str) -> Sequence[int]:
        if part in OUTER:
            return [int(self._owner[OUTER[part]])]
        return range(self._shares.shape[1])

    def _row(self, recipe: Recipe, part: str, group: int) -> np.ndarray | None:
        """Scores (P,) that mean the t of a part: the higher one at its highest."""
        slot = recipe.slots[int(np.flatnonzero(self._owner == group)[0])]
        blend = (recipe.outer if part in OUTER else slot.blends).get(part)
        if blend is None or len(slot.sources) != 2:
            return None
        i, j = (p for p, _, _ in slot.sources)
        weight = blend.knobs.get("weight")
        t = weight[j] if isinstance(weight, tuple) and len(weight) > j else blend.knobs.get("t")
        if not isinstance(t, float) or not 0 < t < 1:
            return None
        gap = math.log(t / (1 - t))  # score of j minus that of i
        row = np.zeros(len(self._pool.digests))
        row[i], row[j] = SLERP_GAP - max(gap, 0.0), SLERP_GAP + min(gap, 0.0)
        return row


def _pair(scores: np.ndarray) -> Pair:
    """The two parents of highest score, scores (P,)."""
    i, j = sorted(np.argsort(-scores, kind="stable")[:2].tolist())
    return i, j


def _between(pair: Pair, scores: np.ndarray) -> float:
    """t from the first parent of the pair to the second: softmax of their scores."""
    i, j = pair
    return 1 / (1 + math.exp(scores[i] - scores[j]))
