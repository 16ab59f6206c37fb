"""What an optimizer is given to solve, and how a genome is settled on the values that it can mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evomerge.types import Genome, Variable


@dataclass(frozen=True, eq=False)
class Problem:
    """Variables to be searched, how many goals they serve, and where to begin.

    starts: genomes known to be good, best first. active: genome -> bool (D,), the genes that mean something beside its
    choices; None: all of them, always.
    """

    variables: tuple[Variable, ...]
    goals: int = 1
    starts: tuple[Genome, ...] = ()
    active: Callable[[Genome], np.ndarray] | None = None

    @property
    def size(self) -> int:
        return len(self.variables)

    @property
    def default(self) -> Genome:
        """float64 (D,): every knob at its default."""
        return np.array([v.default for v in self.variables])

    @property
    def start(self) -> Genome:
        """float64 (D,): the best start, else the default; a copy."""
        return np.clip(np.array(self.starts[0] if self.starts else self.default, dtype=np.float64), 0.0, 1.0)

    @property
    def steps(self) -> np.ndarray:
        """float64 (D,): the first standard deviation of each gene."""
        return np.array([v.step for v in self.variables])

    @property
    def discrete(self) -> bool:
        return any(v.levels for v in self.variables)

    def settled(self, genome: Genome) -> Genome:
        """A genome of equal meaning: discrete genes in the middle of their interval, inactive ones at their default."""
        found = np.array(
            [
                gene_of(level_of(g, v.levels), v.levels) if v.levels else g
                for g, v in zip(genome, self.variables, strict=True)
            ],
            dtype=np.float64,
        )
        return found if self.active is None else np.where(self.active(found), found, self.default)


def level_of(gene: float, levels: int) -> int:
    """The level, 0 to levels - 1, in whose interval a gene lies."""
    return min(max(int(gene * levels), 0), levels - 1)


def gene_of(level: int, levels: int) -> float:
    """The middle of a level's interval."""
    return (level + 0.5) / levels
