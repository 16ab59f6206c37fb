"""Tying variables: fewer genes for the same knobs, one for a whole stretch of depth or for all parts of a block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.types import Genome, Variable


@dataclass(frozen=True, eq=False)
class Tied:
    """Coarse genes, each of which stands for one or more variables. owner: int64 (D,), the coarse gene of each."""

    owner: np.ndarray

    @property
    def distinct(self) -> int:
        """Number of genes that have a variable."""
        return int(self.owner.max()) + 1

    @property
    def size(self) -> int:
        """Number C of coarse genes, at least 2: CMA-ES cannot do with one, which is joined by a gene of no effect."""
        return max(2, self.distinct)

    def expand(self, coarse: Genome) -> Genome:
        """float64 (D,): the genome in which every variable has its coarse gene."""
        return np.asarray(np.asarray(coarse, dtype=np.float64)[self.owner])

    def project(self, genome: Genome) -> Genome:
        """float64 (C,): the mean of each coarse gene's variables, 0.5 without any; it expands to the nearest genome."""
        one = np.full(self.size, 0.5)
        one[self.owner] = genome  # any of them: the mean of differences to it is exact where all are equal
        count = np.bincount(self.owner, minlength=self.size)
        return one + np.bincount(self.owner, genome - self.expand(one), self.size) / np.maximum(count, 1)

    def holds(self, genome: Genome) -> bool:
        """Whether the tied variables are equal in this genome, so that `project` loses nothing of it."""
        return bool(np.array_equal(self.expand(self.project(genome)), genome))

    def spread(self, covariance: np.ndarray, finer: Tied, steps: np.ndarray) -> np.ndarray:
        """The covariance (F, F) with which a finer stage begins, from the (C, C) of this one and steps (F,).

        E C E' + S P S: all variance that is known goes on to the finer genes, and the differences between those that
        were one gene, which had none, get the finer stage's own steps; P projects onto these differences.
        """
        old = self.owner[np.unique(finer.owner, return_index=True)[1]]  # (F,): the gene that each finer one was
        same = old[:, None] == old  # (F, F)
        differences = np.eye(finer.size) - same / same.sum(axis=1)
        return np.asarray(covariance[np.ix_(old, old)] + steps[:, None] * differences * steps)


def ladder(variables: Sequence[Variable], groups: Sequence[int], *, parts_from: int) -> tuple[Tied, ...]:
    """Stages from coarse to fine, the last with every variable apart; those that would add no gene are left out.

    groups: parts of the depth in each stage, every number a multiple of the one before, so that a finer stage can say
    all that a coarser one said. From stage `parts_from` on (counted from 1) parts of a block have genes of their own.
    """
    stages = [tie(variables, n, parts=i >= parts_from) for i, n in enumerate(groups, 1)]
    stages.append(_numbered(range(len(variables))))
    return tuple(t for i, t in enumerate(stages) if i == 0 or t.distinct > stages[i - 1].distinct)


def tie(variables: Sequence[Variable], groups: int, *, parts: bool) -> Tied:
    """One gene for each knob, parent and `groups`-th of the depth, and for each part of a block if `parts`.

    A variable lies where the middle of its stretch lies. What is no piece of one quantity stays apart: knobs of
    unequal range, default or step, and what differs from another variable by its name alone.
    """
    keys: list[Hashable] = []
    twins: Counter[Hashable] = Counter()
    for v in variables:
        quantity = v.knob, v.parent, v.low, v.high, v.scale, v.default, v.step
        group = min(int((v.depth[0] + v.depth[1]) / 2 * groups + 1e-9), groups - 1)
        place = quantity, v.part, v.depth
        keys.append((quantity, group, v.part if parts else None, twins[place]))
        twins[place] += 1
    return _numbered(keys)


def _numbered(keys: Iterable[Hashable]) -> Tied:
    keys = list(keys)
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return Tied(np.array([number[key] for key in keys]))
