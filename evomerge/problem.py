"""What an optimizer is given to solve, and how a genome is settled on the values that it can mean."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from evomerge.types import Genome, Variable

COUNTED = 4096  # combinations of levels of which the distinct meanings are counted one by one
EXHAUSTED = "every point of the space was asked"


@dataclass(frozen=True, eq=False)
class Problem:
    """Variables to be searched, how many goals they serve, and where to begin.

    starts: genomes known to be good, best first. active: genome -> bool (D,), the genes that mean something beside its
    choices; None: all of them, always. common_scale: whether one factor on all leading variables changes the model; it
    does not where weights are normalised.
    """

    variables: tuple[Variable, ...]
    goals: int = 1
    starts: tuple[Genome, ...] = ()
    active: Callable[[Genome], np.ndarray] | None = None
    common_scale: bool = True

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


class Coverage:
    """Which points of a space were asked; where they cannot be counted nothing is kept, and it is never through."""

    def __init__(self, problem: Problem):
        self._points = points(problem)
        self._asked: set[bytes] = set()

    def add(self, genomes: Iterable[Genome]) -> None:
        """Settled genomes."""
        if self._points is not None:
            self._asked.update(map(key_of, genomes))

    @property
    def stopped(self) -> str:
        """Why nothing more can be tried, as an optimizer says it; "" as long as something can."""
        return EXHAUSTED if len(self._asked) == self._points else ""


def points(problem: Problem) -> int | None:
    """How many genomes of different meaning there are; None if infinitely many, or too many to be told apart."""
    levels = [v.levels for v in problem.variables]
    if not all(levels):
        return None
    if problem.active is None:
        return math.prod(levels)
    if math.prod(levels) > COUNTED:
        return None
    middles = ([gene_of(level, n) for level in range(n)] for n in levels)
    return len({key_of(problem.settled(np.array(genome))) for genome in itertools.product(*middles)})


def key_of(genome: Genome) -> bytes:
    """Equal for equal genomes, to be looked up."""
    return (genome + 0.0).tobytes()  # -0.0 and 0.0 are one


def level_of(gene: float, levels: int) -> int:
    """The level, 0 to levels - 1, in whose interval a gene lies."""
    return min(max(int(gene * levels), 0), levels - 1)


def gene_of(level: int, levels: int) -> float:
    """The middle of a level's interval."""
    return (level + 0.5) / levels
