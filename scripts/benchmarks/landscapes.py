"""Landscapes that searches climb without a model: what a genome answers to 1,500 items, and how good it really is.

zoo1, zoo3 and zoo6 are fitted to real merges of three experts (benchmarks.surrogate), ps64, mixed63 and checkpoints16
are made up (benchmarks.synthetic). An item is answered rightly where its chance exceeds a threshold that belongs to
the item, so answers are 0 or 1 and equal genomes answer equally; the truth is the mean chance, as if items were many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from benchmarks import synthetic
from benchmarks.matrices import Merges, read_merges
from benchmarks.oracle import peak
from benchmarks.surrogate import HIGH, LOW, Surrogate, fitted
from evomerge.problem import Problem
from evomerge.spaces.weights import WeightsSpace
from evomerge.types import Genome, Pool

#: Settled genomes (M, D), places of items -> float64 (M, n): chances of a right answer.
Chances: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]

N_BLOCKS = 30  # of the model that the frozen merges are of


@dataclass(frozen=True, eq=False)
class Landscape:
    """A problem with known answers.

    task: int64 (N,), the task of each item, task after task. endpoints: float64 (K, D), genomes of base and parents.
    hints: genomes known to be good that the oracle begins at, beside starts of its own. note: how well it is fitted.
    """

    name: str
    problem: Problem
    task: np.ndarray
    endpoints: np.ndarray
    chances: Chances
    hints: tuple[Genome, ...] = ()
    note: str = ""

    @cached_property
    def items(self) -> np.ndarray:
        """int64 (N,): places of all items."""
        return np.arange(len(self.task))

    @cached_property
    def _thresholds(self) -> np.ndarray:
        return np.random.default_rng(len(self.task)).random(len(self.task))

    def answers(self, genomes: Sequence[Genome] | np.ndarray, items: np.ndarray | None = None) -> np.ndarray:
        """float64 (M, n), 0 or 1: the answers of genomes (M, D) to these items (default: all)."""
        at = self.items if items is None else items
        return np.asarray(self.chances(self._settled(genomes), at) > self._thresholds[at], dtype=np.float64)

    def truth(self, genomes: Sequence[Genome] | np.ndarray) -> np.ndarray:
        """float64 (M,): mean over tasks of the chance of a right answer."""
        return np.asarray(self.chances(self._settled(genomes), self.items) @ self._weights)

    @cached_property
    def _weights(self) -> np.ndarray:
        counts = np.bincount(self.task)
        return np.asarray(1 / counts[self.task] / len(counts))

    def _settled(self, genomes: Sequence[Genome] | np.ndarray) -> np.ndarray:
        """As Problem.settled, many at once."""
        rows = np.array(genomes, dtype=np.float64)
        for place in np.flatnonzero(self._levels):
            level = np.clip((rows[:, place] * self._levels[place]).astype(int), 0, self._levels[place] - 1)
            rows[:, place] = (level + 0.5) / self._levels[place]
        active = self.problem.active
        return rows if active is None else np.where([active(row) for row in rows], rows, self.problem.default)

    @cached_property
    def _levels(self) -> np.ndarray:
        return np.array([v.levels for v in self.problem.variables])

    def oracle(self) -> float:
        """The truth of the best genome that long searches without noise find."""
        return float(self.truth([self.peak])[0])

    @cached_property
    def peak(self) -> Genome:
        """float64 (D,): that genome."""
        return peak(self.truth, self.problem, self.hints)


# ---------------------------------------------------------------- fitted to real merges


def zoo(merges: Merges, surrogate: Surrogate, groups: int) -> Landscape:
    """Weights of three experts in [-0.2, 1.5], in 1, 3 or 6 depth groups.

    With 6, a task feels a third of the depth as a mixture of its halves, of its own shares for every third and expert:
    equal halves are what the real merges had, unlike halves serve tasks unlike each other.
    """
    experts = tuple(str(k).partition(":")[2] for k in merges.kind if str(k).startswith("parent:"))
    pool = Pool(names=experts, digests=experts, base="base", stacks={"layers": N_BLOCKS})
    space = WeightsSpace(pool, method="task_arithmetic", groups=groups, ranges={"weight": [LOW, HIGH]})
    tasks, task = np.unique(merges.task, return_inverse=True)
    order = np.argsort(task, kind="stable")
    chances = partial(_zoo_chances, surrogate, _thirds(groups, len(tasks)), task[order], order)
    parents = (np.concatenate([np.zeros((1, 3)), np.eye(3)]) - LOW) / (HIGH - LOW)
    landscape = Landscape(
        f"zoo{groups}",
        Problem(space.variables),
        task[order],
        np.tile(parents, (1, groups)),
        chances,
        note=str(surrogate.quality),
    )
    return started(landscape)


def _thirds(groups: int, tasks: int) -> np.ndarray:
    """float64 (T, 9, 3 groups): the coefficients of thirds that each task feels, of those of the groups."""
    if groups == 6:
        shares = np.random.default_rng(6).uniform(0.25, 0.75, (tasks, 3, 3))
        halves = np.stack([shares, 1 - shares], axis=2)  # (T, third, half, expert)
        felt = np.einsum("kthe,ts,ef->kteshf", halves, np.eye(3), np.eye(3))
        return np.asarray(felt.reshape(tasks, 9, 18))
    matrix = np.eye(9) if groups == 3 else np.tile(np.eye(3), (3, 1))
    return np.tile(matrix, (tasks, 1, 1))


def _zoo_chances(
    surrogate: Surrogate, thirds: np.ndarray, task: np.ndarray, order: np.ndarray, genomes: np.ndarray, at: np.ndarray
) -> np.ndarray:
    found = np.empty((len(genomes), len(at)))
    for number, felt in enumerate(thirds):
        mine = np.flatnonzero(task[at] == number)
        found[:, mine] = surrogate.chances((LOW + (HIGH - LOW) * genomes) @ felt.T, order[at[mine]])
    return found


# ---------------------------------------------------------------- by name


def started(landscape: Landscape) -> Landscape:
    """The same, its problem begun as a run begins: at the default and the parents, best first."""
    known = np.concatenate([[landscape.problem.default], landscape.endpoints])
    best = known[np.argsort(-landscape.truth(known), kind="stable")]
    return replace(landscape, problem=replace(landscape.problem, starts=tuple(best)))


def _made(name: str) -> Landscape:
    made = synthetic.MADE[name]()
    return started(
        Landscape(name, made.problem, made.task, made.endpoints, made.chances, hints=made.hints, note="made up")
    )


ZOO = ("zoo1", "zoo3", "zoo6")
NAMES = (*ZOO, *synthetic.MADE)


def landscapes(data: Path | None, names: Sequence[str] = NAMES) -> list[Landscape]:
    """The named ones; those of the zoo need DATA/zoo_merges/margins.npz and are left out without a folder."""
    wanted = [int(name.removeprefix("zoo")) for name in names if name in ZOO] if data else []
    found = []
    if data and wanted:
        merges = read_merges(data / "zoo_merges" / "margins.npz")
        surrogate = fitted(merges)
        found = [zoo(merges, surrogate, groups) for groups in wanted]
    return found + [_made(name) for name in names if name in synthetic.MADE]
