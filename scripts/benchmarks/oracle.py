"""The best genome that long searches without noise find: what a search is measured against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import cma
import numpy as np

from evomerge.optimizers.batched import Guard
from evomerge.problem import Problem, gene_of
from evomerge.types import Genome

#: Genomes -> float64 (M,), to be maximised.
Truth: TypeAlias = Callable[[Sequence[Genome] | np.ndarray], np.ndarray]

_UNIFORM = 2  # climbs that begin anywhere


def peak(truth: Truth, problem: Problem, hints: Sequence[Genome]) -> Genome:
    """float64 (D,): the best of climbs from the hints, the best start and uniform genomes."""
    rng = np.random.default_rng(problem.size)
    starts = [*hints, problem.start, *rng.random((_UNIFORM, problem.size))]
    tops = [_climbed(truth, problem, start, seed) for seed, start in enumerate(starts)]
    return tops[int(np.argmax(truth(tops)))]


def _climbed(truth: Truth, problem: Problem, start: Genome, seed: int) -> Genome:
    """CMA-ES; then, if there are choices, each of them in turn, and CMA-ES again."""
    top = _ascended(truth, start, seed)
    return _ascended(truth, _swept(truth, problem, top), seed) if problem.discrete else top


def _ascended(truth: Truth, start: Genome, seed: int) -> Genome:
    """The best genome that one run asked."""
    best, most = start, float(truth([start])[0])
    guard = Guard(seed)
    with guard():
        strategy = cma.CMAEvolutionStrategy(np.clip(start, 0.02, 0.98), 0.2, _options(len(start), seed))
        while not strategy.stop():
            asked = strategy.ask()
            values = truth(np.clip(asked, 0.0, 1.0))
            strategy.tell(asked, list(-values))
            if values.max() > most:
                best, most = np.clip(asked[int(values.argmax())], 0.0, 1.0), float(values.max())
    return best


def _options(size: int, seed: int) -> dict[str, object]:
    return {
        "bounds": [0.0, 1.0],
        "maxiter": 80 + 4 * size,
        "popsize": 12 + size // 4,
        "tolfun": 1e-6,
        "randn": np.random.RandomState(seed).randn,
        "seed": np.nan,  # nan: leave numpy's global stream alone
        "verbose": -9,
    }


def _swept(truth: Truth, problem: Problem, genome: Genome) -> Genome:
    """Every choice in turn set to its best level, the rest as it is."""
    for place, variable in enumerate(problem.variables):
        rows = np.tile(genome, (variable.levels + 1, 1))  # the first row keeps the choice as it was
        rows[1:, place] = [gene_of(level, variable.levels) for level in range(variable.levels)]
        genome = rows[int(np.argmax(truth(rows)))]
    return genome
