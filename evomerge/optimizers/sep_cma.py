"""sep-CMA-ES: variances alone are learned (Ros and Hansen 2008, doi:10.1007/978-3-540-87700-4_30)."""

from __future__ import annotations

from evomerge.optimizers.cma_strategy import OneRun, Strategy, first_steps
from evomerge.problem import Problem


class SepCma(OneRun):
    """As `cma_es`, but with a diagonal covariance, which it learns about D / 3 times as fast.

    The choice for hundreds of variables, whose correlations no budget of a few hundred evaluations can teach; below,
    it loses where variables depend on each other. Population 4 + 3 ln D by default, as in the paper.
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
        super().__init__(Strategy(problem.start, steps, seed, population=population, diagonal=True, ranks=ranks))
