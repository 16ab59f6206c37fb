"""What populations are bred with: first genomes, operators for genes on a grid, and no genome twice.

Where genes are discrete, pymoo's operators leave the grid within a few generations, and its rounding repair, with steps
of a few hundredths, leaves genes where they are. Here every child is settled on the grid before anything compares it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mating import Mating
from pymoo.core.population import Population
from pymoo.core.problem import Problem as Cube
from pymoo.core.repair import Repair
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM

from evomerge.errors import ConfigError
from evomerge.problem import Problem, key_of
from evomerge.types import Genome

WIDE = 20.0  # eta of a mutation whose width does not matter


def first_population(problem: Problem, population: int, seed: int) -> np.ndarray:
    """float64 (n, D): the starts, best first, then uniform genomes; n < population only if the space is that small.

    Half of them, rounded up, are starts at most: known points alone, mostly alike, would leave no diversity to breed.
    """
    rng = np.random.default_rng(seed).spawn(1)[0]  # pymoo draws from the seed's own stream
    starts = np.array(problem.starts or (problem.default,))[: math.ceil(population / 2)]
    drawn = rng.random((population, problem.size))
    drawn[: len(starts)] = np.clip(starts, 0.0, 1.0)  # crossover of a gene outside its bounds is nan
    found = _distinct(problem.settled(row) for row in drawn)
    for _ in range(100):
        if len(found) == population:
            break
        drawn = rng.random((population, problem.size))
        found = _distinct([*found, *(problem.settled(row) for row in drawn)])[:population]
    return np.array(found)


class Settling(Repair):  # type: ignore[misc]
    """Every child becomes the genome of its meaning: discrete genes on their grid, genes that mean nothing at rest."""

    def __init__(self, problem: Problem):
        super().__init__()
        self._settled = problem.settled

    def _do(self, problem: Cube, X: np.ndarray, **kwargs: Any) -> np.ndarray:
        return np.array([self._settled(row) for row in X])


class Unseen(DuplicateElimination):  # type: ignore[misc]
    """Keeps children that equal neither each other nor any genome that was ever asked, the dead included."""

    def __init__(self) -> None:
        super().__init__()
        self._asked: set[bytes] = set()

    def remember(self, asked: Population) -> None:
        self._asked.update(key_of(one.X) for one in asked)

    def places(self, children: Population, *others: Population) -> np.ndarray:
        """int (n,), ascending: where children are that equal none before them, of the others or of those asked."""
        taken = {key_of(one.X) for other in others for one in other} | self._asked
        first = {key_of(one.X): place for place, one in reversed(list(enumerate(children)))}
        return np.array(sorted(place for key, place in first.items() if key not in taken), dtype=int)

    def do(self, pop: Population, *others: Population, **kwargs: Any) -> Population:
        return pop[self.places(pop, *others)]


def operators(
    problem: Problem, *, crossover_prob: float, crossover_eta: float, mutation_eta: float, ordered: bool = False
) -> dict[str, Any]:
    """Crossover and mutation as pymoo names them; `ordered`: levels of a choice count as steps. Raises ConfigError."""
    _check(crossover_prob, crossover_eta, mutation_eta)
    unordered = np.array([v.scale == "choice" and v.levels > 0 and not ordered for v in problem.variables])
    return {
        "crossover": GridCrossover(unordered, prob=crossover_prob, eta=crossover_eta),
        "mutation": GridMutation(problem, unordered, eta=mutation_eta),
    }


def wild(mating: Mating, problem: Problem) -> Mating:
    """The same, but that half of all genes mutate and discrete ones jump: for children that would not be new."""
    mutation = GridMutation(problem, np.array([v.levels > 0 for v in problem.variables]), eta=WIDE, rate=0.5)
    return Mating(
        mating.selection,
        mating.crossover,
        mutation,
        repair=mating.repair,
        eliminate_duplicates=mating.eliminate_duplicates,
    )


class GridCrossover(SBX):  # type: ignore[misc]  # pymoo has no types
    """Simulated binary crossover (Deb and Agrawal 1995); `unordered` genes (bool (D,)) are exchanged whole, or not."""

    def __init__(self, unordered: np.ndarray, *, prob: float, eta: float):
        super().__init__(prob=prob, eta=eta)
        self._unordered = unordered

    def _do(self, problem: Cube, X: np.ndarray, *args: Any, random_state: Any = None, **kwargs: Any) -> np.ndarray:
        children: np.ndarray = super()._do(problem, X, *args, random_state=random_state, **kwargs)  # (2, matings, D)
        if not self._unordered.any():
            return children
        swapped = np.where(random_state.random(X.shape[1:]) < 0.5, X, X[::-1])
        return np.where(self._unordered, swapped, children)


class GridMutation(PM):  # type: ignore[misc]
    """Polynomial mutation (Deb and Goyal 1996) that always changes the level of a discrete gene it falls on.

    Steps of a few hundredths, rounded, would hardly ever reach another of a few levels: an ordered gene takes at least
    one step (inwards at an end), an `unordered` one (bool (D,)) jumps to any of its other levels.
    """

    def __init__(self, problem: Problem, unordered: np.ndarray, *, eta: float, rate: float | None = None):
        super().__init__(eta=eta, prob_var=rate)  # None: min(1/2, 1/D)
        self._levels = np.array([v.levels for v in problem.variables])
        self._unordered = unordered

    def _do(self, problem: Cube, X: np.ndarray, *args: Any, random_state: Any = None, **kwargs: Any) -> np.ndarray:
        moved = super()._do(problem, X, *args, random_state=random_state, **kwargs)  # (n, D)
        old, last = self._level(X), np.maximum(self._levels - 1, 0)
        level = np.where(self._level(moved) == old, _neighbour(old, moved > X, last), self._level(moved))
        if self._unordered.any():
            level = np.where(
                self._unordered, old + random_state.integers(1, np.maximum(last, 1), X.shape, endpoint=True), level
            )
        gene = (level % np.maximum(self._levels, 1) + 0.5) / np.maximum(self._levels, 1)
        children: np.ndarray = np.where((moved != X) & (self._levels > 0), gene, moved)
        return children

    def _level(self, X: np.ndarray) -> np.ndarray:
        level: np.ndarray = np.clip((X * self._levels).astype(int), 0, np.maximum(self._levels - 1, 0))
        return level


def _check(crossover_prob: float, crossover_eta: float, mutation_eta: float) -> None:
    if not 0 <= crossover_prob <= 1:
        raise ConfigError(f"optimizer.crossover_prob is {crossover_prob}; wanted a share of matings, from 0 to 1.")
    for name, eta in (("crossover_eta", crossover_eta), ("mutation_eta", mutation_eta)):
        if not 1 <= eta <= 100:  # far above, steps fall under the resolution of a float: only duplicates are left
            raise ConfigError(f"optimizer.{name} is {eta}; wanted 1 (wide steps) to 100 (narrow ones).")


def _neighbour(level: np.ndarray, up: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The next level up or down, or the other way at an end; the level itself if it is the only one."""
    way = np.where(up & (level < last) | (level == 0), 1, -1)
    found: np.ndarray = np.clip(level + way, 0, last)
    return found


def _distinct(rows: Iterable[Genome]) -> list[Genome]:
    found: dict[bytes, Genome] = {}
    for row in rows:
        found.setdefault(key_of(row), row)
    return list(found.values())
