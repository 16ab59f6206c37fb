"""Made-up landscapes: layer-wise merges of two models, merges with a choice of method, averages of checkpoints.

Each has three tasks of 500 items. What a genome is able to do in a task is a smooth function of it; an item's chance
is logistic in that ability, the item's difficulty and what it alone feels of some features of the genome, so genomes
of equal score answer different items. All numbers are drawn from fixed seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from evomerge.problem import Problem, gene_of, level_of
from evomerge.types import Genome, Variable

N_TASKS, N_EACH = 3, 500


@dataclass(frozen=True, eq=False)
class Made:
    """See benchmarks.landscapes.Landscape."""

    problem: Problem
    task: np.ndarray
    endpoints: np.ndarray
    chances: Callable[[np.ndarray, np.ndarray], np.ndarray]
    hints: tuple[Genome, ...] = ()


@dataclass(frozen=True, eq=False)
class Items:
    """task: int64 (N,). difficulty, slope: (N,). felt: (N, F), what an item makes of the genome's features."""

    task: np.ndarray
    difficulty: np.ndarray
    slope: np.ndarray
    felt: np.ndarray

    @classmethod
    def drawn(cls, rng: np.random.Generator, features: int) -> Items:
        n = N_TASKS * N_EACH
        slope = np.exp(rng.normal(0.5, 0.3, n))
        return cls(
            np.repeat(np.arange(N_TASKS), N_EACH), rng.normal(0, 1.2, n), slope, rng.normal(0, 0.8, (n, features))
        )

    def chances(self, ability: np.ndarray, features: np.ndarray, at: np.ndarray) -> np.ndarray:
        """ability: (M, T), features: (M, F) -> (M, n)."""
        level = ability[:, self.task[at]] + features @ self.felt[at].T - self.difficulty[at]
        return np.asarray(expit(self.slope[at] * level))


def _profiles(rng: np.random.Generator, size: int, depth: np.ndarray) -> np.ndarray:
    """float64 (size, L), rows sum to 1: where in the depth something counts, one broad hump each."""
    centre, width = rng.uniform(0, 1, (size, 1)), rng.uniform(0.15, 0.4, (size, 1))
    humps = 0.25 + np.exp(-0.5 * ((depth - centre) / width) ** 2)
    return np.asarray(humps / humps.sum(1, keepdims=True))


def _weight(parent: str, group: int, groups: int, high: float, default: float) -> Variable:
    return Variable(
        f"weight/rest/{group}/{parent}",
        "weight",
        0.0,
        high,
        "linear",
        default / high,
        0.2 / high,
        leading=True,
        parent=parent,
        depth=(group / groups, (group + 1) / groups),
    )


def _off_total(excess: np.ndarray) -> np.ndarray:
    """What a sum of weights costs: too much of all models breaks a merge, too little only lacks what they bring."""
    return np.asarray(np.where(excess > 0, 2.0, 0.5) * excess**2)


# ---------------------------------------------------------------- two models, layer by layer


def ps64() -> Made:
    """Weights in [0, 1] of two models in each of 32 layers; the shape of the PS problem of SMM-Bench (2509.02555).

    A task gains from each model by its own depth profile, ever less; it loses where neighbouring layers differ and
    where the sum of weights, smoothed over neighbours, departs from a preferred total that drifts over depth: a ridge
    along the common scale. Two ways of sharing out each quarter of the depth, one better, make it multimodal.
    """
    layers, rng = 32, np.random.default_rng(64)
    depth = (np.arange(layers) + 0.5) / layers
    world = _Layers(
        gains=np.array([[2.6, 0.3], [0.3, 2.6], [1.4, 1.4]]),
        profiles=_profiles(rng, N_TASKS * 2, depth).reshape(N_TASKS, 2, layers),
        total=1.0 + 0.35 * np.cos(np.pi * (1.3 * depth + 0.1)),
        waves=rng.uniform(0, 2 * np.pi, (N_TASKS, 4)),
        items=Items.drawn(rng, 8),
    )
    variables = tuple(_weight(m, layer, layers, 1.0, 0.5) for layer in range(layers) for m in ("first", "second"))
    parents = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    return Made(Problem(variables), world.items.task, np.tile(parents, (1, layers)), world.chances)


@dataclass(frozen=True, eq=False)
class _Layers:
    gains: np.ndarray  # (T, 2)
    profiles: np.ndarray  # (T, 2, L)
    total: np.ndarray  # (L,)
    waves: np.ndarray  # (T, 4), phases
    items: Items

    def chances(self, genomes: np.ndarray, at: np.ndarray) -> np.ndarray:
        weights = genomes.reshape(len(genomes), -1, 2).transpose(0, 2, 1)  # (M, 2, L)
        used = np.einsum("mpl,kpl->mkp", 1 - (1 - weights) ** 2, self.profiles)
        quarters = weights.reshape(len(genomes), 2, 4, -1).mean(3)  # (M, 2, 4)
        lean = quarters[:, 0] - quarters[:, 1]
        waves = np.cos(2 * np.pi * lean[:, None] - self.waves).mean(2)  # (M, T)
        ability = -0.9 + (used * self.gains).sum(2) + 0.25 * waves - self._losses(weights)[:, None]
        return self.items.chances(ability, quarters.reshape(len(genomes), 8) - 0.5, at)

    def _losses(self, weights: np.ndarray) -> np.ndarray:
        total = weights.sum(1)
        smooth = (np.roll(total, 1, 1) + 2 * total + np.roll(total, -1, 1)) / 4
        steps = (np.diff(weights, axis=2) ** 2).mean((1, 2))
        return np.asarray(_off_total(smooth - self.total).mean(1) + 1.5 * steps)


# ---------------------------------------------------------------- a method in each group, and its knobs

METHODS = ("linear", "trimmed", "dropped", "banded")
KNOBS = ("density", "epsilon", "gamma", "clip")
#: Which knobs mean something to which method.
USED = np.array([[0, 0, 0, 0], [1, 0, 0, 1], [1, 1, 0, 0], [1, 0, 1, 0]], dtype=bool)
_GROUPS, _EXPERTS = 9, ("a", "b", "c")
_EACH = 1 + len(_EXPERTS) + len(KNOBS)  # genes of a group: the choice, weights, knobs


def mixed63() -> Made:
    """Nine depth groups with a method of four, three weights in [0, 1.5] and four knobs each: 63 numbers, 9 choices.

    A method has an advantage that drifts over depth, a preferred total of weights, and best values of the knobs it
    has; the other knobs mean nothing (`active`).
    """
    rng = np.random.default_rng(63)
    depth = (np.arange(_GROUPS) + 0.5) / _GROUPS
    phase = rng.uniform(0, 2 * np.pi, (len(METHODS), 1))
    world = _Methods(
        profiles=_profiles(rng, N_TASKS * 3, depth).reshape(N_TASKS, 3, _GROUPS),
        advantage=(0.45 * np.sin(2 * np.pi * depth + phase)).T - np.array([0.0, 0.1, 0.1, 0.1]),
        total=np.array([1.1, 1.9, 1.6, 1.7]),
        best=rng.uniform(0.2, 0.9, (_GROUPS, len(METHODS), len(KNOBS))),
        items=Items.drawn(rng, 9),
    )
    variables = tuple(v for g in range(_GROUPS) for v in _mixed_variables(g))
    parents = np.zeros((4, _GROUPS, _EACH))
    parents[:, :, 0] = gene_of(0, len(METHODS))
    parents[:, :, 1:4] = (np.concatenate([np.zeros((1, 3)), np.eye(3)]) / 1.5)[:, None]
    parents[:, :, 4:] = 0.5
    return Made(Problem(variables, active=_active), world.items.task, parents.reshape(4, -1), world.chances)


def _mixed_variables(group: int) -> list[Variable]:
    stretch = (group / _GROUPS, (group + 1) / _GROUPS)
    first = gene_of(0, len(METHODS))
    choice = Variable(
        f"method/rest/{group}/all", "method", 0, 4, "choice", first, 0.3, levels=len(METHODS), depth=stretch
    )
    knobs = [Variable(f"{k}/rest/{group}/all", k, 0.0, 1.0, "linear", 0.5, 1 / 6, depth=stretch) for k in KNOBS]
    return [choice, *(_weight(e, group, _GROUPS, 1.5, 1 / 3) for e in _EXPERTS), *knobs]


def _active(genome: Genome) -> np.ndarray:
    rows = np.ones((_GROUPS, _EACH), dtype=bool)
    rows[:, 4:] = USED[[level_of(gene, len(METHODS)) for gene in genome[::_EACH]]]
    return rows.reshape(-1)


@dataclass(frozen=True, eq=False)
class _Methods:
    profiles: np.ndarray  # (T, E, G)
    advantage: np.ndarray  # (G, methods)
    total: np.ndarray  # (methods,)
    best: np.ndarray  # (G, methods, knobs)
    items: Items

    def chances(self, genomes: np.ndarray, at: np.ndarray) -> np.ndarray:
        rows = genomes.reshape(len(genomes), _GROUPS, _EACH)
        level = np.minimum((rows[:, :, 0] * len(METHODS)).astype(int), len(METHODS) - 1)  # (M, G)
        weights, groups = 1.5 * rows[:, :, 1:4], np.arange(_GROUPS)
        off = np.where(USED[level], rows[:, :, 4:] - self.best[groups, level], 0.0)  # (M, G, knobs)
        excess = weights.sum(2) - self.total[level]
        worth = self.advantage[groups, level] - 1.5 * (off**2).sum(2) - 0.5 * _off_total(excess)
        used = np.einsum("mge,keg->mk", 1 - (1 - np.minimum(weights, 1.3)) ** 2, self.profiles)
        ability = -0.9 + 0.75 * used + worth.mean(1)[:, None]
        features = weights.reshape(len(genomes), 3, 3, 3).mean(2).reshape(len(genomes), 9) - 0.5
        return self.items.chances(ability, features, at)


# ---------------------------------------------------------------- checkpoints of one run


def checkpoints16() -> Made:
    """Weights of 16 checkpoints, normalised: only their ratios count, so a common scale does nothing at all.

    Checkpoints lie along a line with noise of their own, which averaging cancels; three are far off. Each task is best
    served at another place near the line's end.
    """
    n, rng = 16, np.random.default_rng(16)
    line = np.concatenate([[1.0], np.zeros(11)])
    progress = np.linspace(0.0, 1.1, n)[:, None]
    places = progress * line + rng.normal(0, 0.13, (n, 12))
    places[[3, 9, 13]] += rng.normal(0, 0.35, (3, 12))
    ends = line * np.array([[0.75], [0.95], [1.1]]) + rng.normal(0, 0.08, (N_TASKS, 12))
    world = _Average(places, ends, rng.uniform(1.5, 4.5, (N_TASKS, 12)), Items.drawn(rng, 12))
    variables = tuple(_weight(f"step{i}", 0, 1, 1.0, 1 / n) for i in range(n))
    return Made(Problem(variables), world.items.task, np.eye(n)[[0, n // 2, n - 1]], world.chances)


@dataclass(frozen=True, eq=False)
class _Average:
    places: np.ndarray  # (n, F), the checkpoints
    ends: np.ndarray  # (T, F)
    curves: np.ndarray  # (T, F)
    items: Items

    def chances(self, genomes: np.ndarray, at: np.ndarray) -> np.ndarray:
        total = genomes.sum(1, keepdims=True)
        shares = np.where(total > 0, genomes / np.where(total > 0, total, 1), 1 / genomes.shape[1])
        place = shares @ self.places  # (M, F)
        ability = 1.6 - (self.curves * (place[:, None] - self.ends) ** 2).sum(2)
        return self.items.chances(ability, place - self.ends.mean(0), at)


MADE: dict[str, Callable[[], Made]] = {"ps64": ps64, "mixed63": mixed63, "checkpoints16": checkpoints16}
