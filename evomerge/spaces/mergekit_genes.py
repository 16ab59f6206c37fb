"""The raw genes of mergekit-evolve as a recipe, resolved as mergekit 0.1.5 resolves them, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.types import Blend, KnobValue, Pool, Recipe, Slot

#: Parameters with genes, by method, in mergekit's order; slerp's is a score of which t is made.
PARAMETERS = {
    "linear": ("weight",),
    "task_arithmetic": ("weight",),
    "ties": ("weight", "density"),
    "dare_ties": ("weight", "density"),
    "slerp": ("t",),
}
#: Names of input embeddings. Filters are tried on them here, for embeddings follow another group than the head.
EMBEDDINGS = (
    "model.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "gpt_neox.embed_in.weight",
    "transformer.wte.weight",
    "transformer.wpe.weight",
)
Pair = tuple[int, int, float]  # two parents, the first before the second, and t from the first on


@dataclass(frozen=True, eq=False)
class Definition:
    """What of a merge its genes do not say.

    `digests` are the P parents with genes. `depth` is (blocks, groups): how much each group counts in each block.
    """

    method: str
    pool: Pool
    digests: tuple[str, ...]
    depth: np.ndarray
    filters: tuple[str, ...]
    normalize: bool
    allow_negative_weights: bool
    smooth: bool
    seed: int
    dtype: str

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(groups, P, filters + 1, parameters): the genes in mergekit's order."""
        return self.depth.shape[1], len(self.digests), len(self.filters) + 1, len(PARAMETERS[self.method])

    @property
    def keys(self) -> tuple[str, ...]:
        """The part of a recipe that each filter means, that of the rest last."""
        return (*("*" if f in ("*", "") else f"name:{f}" for f in self.filters), "*")

    def key_of(self, tensor: str) -> str:
        """The part that a tensor of this name belongs to: the first that matches."""
        return next(k for k in self.keys if k == "*" or k.removeprefix("name:") in tensor)

    def sources(self, block: int, parents: Sequence[int]) -> tuple[tuple[int, str, int], ...]:
        (stack,) = self.pool.stacks
        return tuple((p, stack, block) for p in parents)

    def recipe(self, parents: tuple[str, ...], slots: tuple[Slot, ...], outer: Mapping[str, Blend]) -> Recipe:
        policy = self.pool.vocabulary
        return Recipe(parents, self.pool.base, slots, outer, self.seed, out_dtype=self.dtype, vocabulary=policy)


def decode(of: Definition, genes: np.ndarray) -> Recipe:
    """genes: float64 of the definition's shape, any finite numbers."""
    return _interpolated(of, genes[:, :, 0, 0]) if of.method == "slerp" else _weighted(of, _folded(of, genes))


def encode(of: Definition, recipe: Recipe, low: float, high: float) -> np.ndarray | None:
    """Genes of a recipe that `decode` made (of another one they may be wrong), or None. slerp's lie up to `high`."""
    known = set(recipe.parents) <= set(of.digests)
    if not known or len(recipe.slots) != len(of.depth):
        return None
    return _scores(of, recipe, low, high) if of.method == "slerp" else _weights(of, recipe)


# ---------------------------------------------------------------- weights and densities


def _folded(of: Definition, genes: np.ndarray) -> np.ndarray:
    weight, density = genes[..., :1], np.minimum(np.abs(genes[..., 1:]), 1.0)
    return np.concatenate([weight if of.allow_negative_weights else np.abs(weight), density], axis=-1)


def _weighted(of: Definition, values: np.ndarray) -> Recipe:
    """values: (groups, P, filters + 1, parameters)."""
    by_block = np.tensordot(of.depth, values, 1)  # (blocks, P, filters + 1, parameters)
    parents = range(len(of.digests))
    slots = tuple(Slot(of.sources(block, parents), _blends(of, own)) for block, own in enumerate(by_block))
    return of.recipe(of.digests, slots, _outer(of, values))


def _outer(of: Definition, values: np.ndarray) -> dict[str, Blend]:
    """Embeddings with the first group's values, final norm and head with the last's, but the first's with smooth."""
    first = _blends(of, values[0])
    if of.smooth or len(values) == 1:
        return first
    named = {f"name:{name}": first[key] for name in EMBEDDINGS if (key := of.key_of(name)) != "*"}
    return {**named, "embeddings": first["*"], **_blends(of, values[-1])}


def _blends(of: Definition, values: np.ndarray) -> dict[str, Blend]:
    """The blend of each filter, values (P, filters + 1, parameters); of equal filters the first one counts."""
    found: dict[str, Blend] = {}
    for number, key in enumerate(of.keys):
        found.setdefault(key, Blend(of.method, _knobs(of, values[:, number])))
    return found


def _knobs(of: Definition, values: np.ndarray) -> dict[str, KnobValue]:
    """values: (P, parameters). mergekit's DARE restores the L1 norm."""
    columns = zip(PARAMETERS[of.method], values.T, strict=True)
    knobs: dict[str, KnobValue] = {name: tuple(map(float, column)) for name, column in columns}
    if of.method == "linear" and of.normalize and abs(values.sum()) < 1e-6:
        knobs["weight"] = (1 / len(values),) * len(values)
    rescale = {"rescale": "l1"} if of.method == "dare_ties" else {}
    return {**knobs, "normalize": of.normalize, **rescale}


def _weights(of: Definition, recipe: Recipe) -> np.ndarray | None:
    """Solved for by least squares over the blocks."""
    rows = [_row(of, slot.blends) for slot in recipe.slots]
    if any(row is None for row in rows):
        return None
    flat = np.array(rows).reshape(len(rows), -1)
    found: np.ndarray = np.linalg.lstsq(of.depth, flat, rcond=None)[0]
    return found.reshape(of.shape)


def _row(of: Definition, blends: Mapping[str, Blend]) -> np.ndarray | None:
    """Weights and densities that a slot says, (P, filters + 1, parameters)."""
    row = np.ones(of.shape[1:])
    for number, key in enumerate(of.keys):
        for column, name in enumerate(PARAMETERS[of.method]):
            value = blends[key].knobs.get(name) if key in blends else None
            if not isinstance(value, tuple) or len(value) != len(of.digests):
                return None
            row[:, number, column] = value
    return row


# ---------------------------------------------------------------- slerp


def _interpolated(of: Definition, scores: np.ndarray) -> Recipe:
    """scores: (groups, P)."""
    pairs = [_pair(row) for row in scores]
    used = sorted({parent for pair in pairs for parent in pair[:2]})
    slots = tuple(
        Slot(of.sources(block, (used.index(i), used.index(j))), {"*": Blend("slerp", {"t": t})})
        for block, group in enumerate(of.depth.argmax(axis=1))
        for i, j, t in [pairs[group]]
    )
    outer = {"embeddings": _between(pairs[0], used), "*": _between(pairs[-1], used)}
    return of.recipe(tuple(of.digests[p] for p in used), slots, outer)


def _pair(scores: np.ndarray) -> Pair:
    """The two parents of highest score, scores (P,), and t = softmax(their scores), counted from the first parent."""
    higher, lower = np.argsort(-scores, kind="stable")[:2].tolist()
    odds = math.exp(scores[lower] - scores[higher])
    t = odds / (1 + odds)
    return (higher, lower, t) if higher < lower else (lower, higher, 1 - t)


def _between(pair: Pair, used: Sequence[int]) -> Blend:
    """A pair's blend outside the blocks, where a recipe has no sources but all its parents."""
    i, j, t = pair
    if len(used) == 2:
        return Blend("slerp", {"t": t})
    return Blend("linear", {"weight": tuple({i: 1 - t, j: t}.get(p, 0.0) for p in used), "normalize": False})


def _scores(of: Definition, recipe: Recipe, low: float, high: float) -> np.ndarray | None:
    """Scores that choose each group's pair and t: the higher one at `high`, all others at `low`."""
    scores = np.full(of.shape, low)
    for group, block in enumerate(of.depth.argmax(axis=0)):
        slot = recipe.slots[block]
        t = slot.blends.get("*", Blend("")).knobs.get("t")
        if not isinstance(t, float) or not 0 < t < 1 or len(slot.sources) != 2:
            return None
        i, j = (of.digests.index(recipe.parents[p]) for p, _, _ in slot.sources)
        gap = math.log((1 - t) / t)
        scores[group, i], scores[group, j] = high + min(gap, 0.0), high - max(gap, 0.0)
    return scores
