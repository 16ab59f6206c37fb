"""Coarse to fine: a line first, then CMA-ES on few genes and on ever more of them, as long as there are evaluations.

No paper's algorithm, but two known ones in a row: task arithmetic's grid over one scale (Ilharco et al. 2022,
arXiv:2212.04089), then CMA-ES (Hansen 2016, arXiv:1604.00772) with one gene for each parent and knob, with one for each
third of the depth, and so on. It needs to know no budget: a search is as fine as what was spent on it allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from evomerge.errors import ConfigError
from evomerge.optimizers.batched import Batched, ranked
from evomerge.optimizers.cma_strategy import Strategy, first_steps
from evomerge.optimizers.lambda_grid import LambdaGrid, has_scale
from evomerge.optimizers.stages import ladder
from evomerge.problem import Problem
from evomerge.types import Genome, Result

MOST = 8  # times a stage's population; doubled on and on, one batch would be a whole budget


class CoarseToFine(Batched):
    """Searches the finest space that it is given, at first with its variables tied together.

    Stage 0 is one batch: the genomes of `lambda_grid` with `line` points and, if there is one, the problem's start.
    Without `line`, or where weights have no common scale, the start is taken as it is. The first stage of CMA-ES is the
    coarsest that can say the winner. A stage ends with the first batch after which it had `per_variable` evaluations
    for each of its genes and the whole search `first`, or when its CMA-ES stops. The next one begins at its `mean()`,
    which no luck has chosen, and with its covariance (`Tied.spread`). The last one goes on for ever: when its CMA-ES
    stops, it begins anew at the mean, with the first steps and twice the population, `MOST` times its first at most.

    stages: groups of depth, each number a multiple of the one before; the variables as they are follow by themselves.
    parts_from: the stage, counted from 1, from which parts of a block have genes of their own. sigma: times each
    variable's own step. population: None for 6 + 4.5 ln D of a stage's genes, half as many again as CMA-ES has by
    default, for the scores of few items are noisy. ranks: as in `cma_es`. `stage`: the one under way, counted from 1
    among those that add genes; 0 is the line.
    """

    elitist = False

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        stages: Sequence[int] = (1, 3, 6),
        parts_from: int = 2,
        line: int = 10,
        first: int = 80,
        per_variable: float = 15.0,
        sigma: float = 0.7,
        population: int | None = None,
        ranks: str = "hard",
    ):
        super().__init__()
        _check(stages, parts_from, line, first, per_variable)
        self._seed, self._population, self._ranks = seed, population, ranks
        self._first, self._per_variable = first, per_variable
        self._steps = first_steps(problem, sigma)
        self._ladder = ladder(problem.variables, stages, parts_from=parts_from)
        self._line = _line(problem, seed, line)
        self._runs = 0  # of CMA-ES, each with a seed of its own
        self._climb(problem.start, told=0)
        if self._line:  # then the run that was just made is not asked, but bad settings were told at once
            self.stage, self.lag = 0, len(self._line)

    def mean(self) -> Genome:
        """Average of the distribution's means over the later half of this run of CMA-ES, (D,) in [0, 1].

        One batch of noisy scores moves a mean at random; their average is nearer to where they go (Polyak and Juditsky
        1992, doi:10.1137/0330046). At the beginning of a stage it is the stage's start.
        """
        return np.asarray(np.mean(self._means[len(self._means) // 2 :], axis=0))

    def _draw(self) -> Sequence[Genome]:
        return self._line if self.stage == 0 else [self._tied.expand(coarse) for coarse in self._strategy.ask()]

    def _learn(self, genomes: Sequence[Genome], results: Sequence[Result]) -> None:
        told = self._asked + len(genomes)
        if self.stage == 0:
            self._climb(genomes[int(np.argmax(ranked(results)))], told)
            return
        self._strategy.tell(results)
        self._means.append(self._tied.expand(self._strategy.mean()))
        if told >= self._until or self._strategy.stopped:
            self._go_on(told)

    def _climb(self, start: Genome, told: int) -> None:
        """CMA-ES from `start`, in the coarsest stage that can say it."""
        self.stage = next(i for i, tied in enumerate(self._ladder, 1) if tied.holds(start))
        self._begin(start, None, self._population, told)

    def _go_on(self, told: int) -> None:
        """The next stage; after the last one, the last one anew."""
        mean, covariance, before = self.mean(), self._strategy.covariance(), self._tied
        if self.stage == len(self._ladder):
            self._begin(mean, None, min(2 * self.lag, MOST * self._default(before.size)), told)
            return
        self.stage += 1
        finer = self._ladder[self.stage - 1]
        self._begin(mean, before.spread(covariance, finer, finer.project(self._steps)), self._population, told)

    def _begin(self, start: Genome, covariance: np.ndarray | None, population: int | None, told: int) -> None:
        """A run of CMA-ES on the genes of the stage under way. covariance: None for the variables' own steps."""
        self._tied = self._ladder[self.stage - 1]
        size = self._tied.size
        self._strategy = Strategy(
            self._tied.project(start),
            self._tied.project(self._steps) if covariance is None else np.sqrt(np.diag(covariance)),
            int(np.random.SeedSequence((self._seed, self._runs)).generate_state(1)[0]),
            population=self._default(size) if population is None else population,
            ranks=self._ranks,
            covariance=covariance,
        )
        self._means = [start]
        self._runs += 1
        self.lag = self._strategy.population
        last = self.stage == len(self._ladder)
        self._until = math.inf if last else max(self._first, told + self._per_variable * size)

    def _default(self, size: int) -> int:
        """Population of a stage's first run."""
        return math.floor(6 + 4.5 * math.log(size)) if self._population is None else self._population


def _line(problem: Problem, seed: int, points: int) -> list[Genome]:
    """The genomes of the first batch; none if there is nothing to scale."""
    if not points or not has_scale(problem):
        return []
    genomes = [c.genome for c in LambdaGrid(problem, seed, points=points).ask(points)]
    return genomes + ([problem.start] if problem.starts else [])


def _check(stages: Sequence[int], parts_from: int, line: int, first: int, per_variable: float) -> None:
    numbers = list(stages)
    multiples = all(b > a and b % a == 0 for a, b in pairwise(numbers) if a > 0)
    if min(numbers, default=0) < 1 or not multiples:
        raise ConfigError(
            f"optimizer.stages is {numbers}; wanted numbers of groups, at least 1, each a multiple of the one before, "
            "so that a finer stage can begin where a coarser one ended. For instance [1, 3, 6]."
        )
    for name, value, least in (("parts_from", parts_from, 1), ("line", line, 0), ("first", first, 0)):
        if value < least:
            raise ConfigError(f"optimizer.{name} is {value}; wanted {least} or more.")
    if not 0 < per_variable < math.inf:
        raise ConfigError(f"optimizer.per_variable is {per_variable}; wanted a positive number of evaluations.")
