"""CMA-ES begun again and again: when a run has ended, what is kept of it, and where the next one begins."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from evomerge.errors import ConfigError
from evomerge.optimizers.batched import Batched
from evomerge.optimizers.cma_strategy import Strategy, first_steps
from evomerge.problem import Problem
from evomerge.types import Genome, Result

#: What a candidate is worth among those of all runs: broken constraints below kept ones.
Worth = tuple[float, float]
NOTHING: Worth = (-math.inf, -math.inf)
#: Keeps draws of restarts apart from other draws under one seed.
RESTARTS = 2


class Run:
    """A Strategy with the reasons why it has done what it can.

    It ends when cma says so, when no standard deviation is wider than `narrow` times its first one, or after
    `patience` batches that brought nothing better than the run's best. The last two are ours; patience None:
    10 + 30 D / population batches, the length of the window in which Auger and Hansen (2005) look whether the best
    values still differ.
    """

    def __init__(self, strategy: Strategy, *, patience: int | None, narrow: float):
        self.strategy = strategy
        self.best = NOTHING
        self.evaluations = 0
        self._waited = 0
        self._narrow = narrow * _deviations(strategy)
        size = len(self._narrow)
        self._patience = 10 + math.ceil(30 * size / strategy.population) if patience is None else patience

    def tell(self, results: Sequence[Result]) -> None:
        self.strategy.tell(results)
        self.evaluations += len(results)
        best = max(_worth(r) for r in results)
        self._waited = 0 if best > self.best else self._waited + 1
        self.best = max(best, self.best)

    @property
    def ended(self) -> bool:
        narrow = bool((_deviations(self.strategy) <= self._narrow).all())
        return bool(self.strategy.stopped) or narrow or self._waited >= self._patience


class Restarts(Batched):
    """Runs of CMA-ES one after another; members say how large the next one is and how wide it begins.

    The first run is that of `cma_es` with the same seed, bit for bit; later ones begin at uniform genomes. The batch
    is the population of the run under way. Bests of different runs are compared, hence `elitist`.
    """

    elitist = True

    def __init__(
        self, problem: Problem, seed: int, *, population: int | None, sigma: float, patience: int | None, narrow: float
    ):
        super().__init__()
        _check(patience, narrow)
        self._seed, self._steps = seed, first_steps(problem, sigma)
        self._patience, self._narrow = patience, narrow
        self._n_runs = 0
        self._champion: tuple[Worth, Genome] = (NOTHING, problem.start)
        self._begin(Strategy(problem.start, self._steps, seed, population=population))

    def mean(self) -> Genome:
        """The mean of the run with the best candidate, (D,): where that run ended, or stands now."""
        best, genome = self._champion
        return self._run.strategy.mean() if self._run.best >= best else genome.copy()

    @abstractmethod
    def _next(self, ended: Run, rng: np.random.Generator) -> tuple[int, float]:
        """Population of the next run and the factor of its first steps; rng belongs to this restart alone."""

    def _draw(self) -> Sequence[Genome]:
        return list(self._run.strategy.ask())

    def _learn(self, genomes: Sequence[Genome], results: Sequence[Result]) -> None:
        self._run.tell(results)
        if self._run.ended:
            self._champion = max(self._run.best, self._champion[0]), self.mean()
            rng = np.random.default_rng((self._seed, RESTARTS, self._n_runs))
            population, factor = self._next(self._run, rng)
            start, seed = rng.random(len(self._steps)), int(rng.integers(2**32))
            self._begin(Strategy(start, self._steps * factor, seed, population=population))

    def _begin(self, strategy: Strategy) -> None:
        self._run = Run(strategy, patience=self._patience, narrow=self._narrow)
        self._n_runs += 1
        self.lag = strategy.population


def _worth(result: Result) -> Worth:
    return NOTHING if result.error_code else (-result.violation, result.fitness[0])


def _deviations(strategy: Strategy) -> np.ndarray:
    return np.asarray(np.sqrt(np.diag(strategy.covariance())))


def _check(patience: int | None, narrow: float) -> None:
    if patience is not None and patience < 1:
        raise ConfigError(
            f"optimizer.patience is {patience}; wanted at least 1 batch without anything better, or null for the rule."
        )
    if not 0 <= narrow < 1:
        raise ConfigError(
            f"optimizer.narrow is {narrow}; wanted a share of the first steps, from 0 (never) to below 1."
        )
