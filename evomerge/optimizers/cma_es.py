"""CMA-ES with bounds, by the library cma (Hansen 2016, The CMA Evolution Strategy: A Tutorial, arXiv:1604.00772)."""

from __future__ import annotations

from evomerge.optimizers.cma_strategy import OneRun, Strategy, first_steps
from evomerge.problem import Problem


class CmaEs(OneRun):
    """Rank-based search around a moving mean; the batch is the population, 4 + 3 ln D by default.

    `sigma` scales every variable's own first step. The first mean is the problem's start, drawn into [.02, .98]
    where it lies on a bound. `ranks`: "hard" as in the
    tutorial, or "expected" over the errors of the fitness (`rank_weights`). The rest are cma's defaults, but for its
    criteria: those that end the search are `cma_strategy.CRITERIA`.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        population: int | None = None,
        sigma: float = 1.0,
        ranks: str = "hard",
    ):
        steps = first_steps(problem, sigma)
        super().__init__(Strategy(problem.start, steps, seed, population=population, ranks=ranks))
