"""A genetic algorithm over weights, steps and choices together, conditional genes at rest.

The search of `ga` (pymoo, Blank and Deb 2020) with operators for choices, whose levels have no order: uniform
crossover (Syswerda 1989) and a jump to any other level.
"""

from __future__ import annotations

from functools import partial

from pymoo.algorithms.soo.nonconvex.ga import GA

from evomerge.optimizers.breeding import operators
from evomerge.optimizers.ga import children_out
from evomerge.optimizers.populations import Evolving, check_population, default_population
from evomerge.problem import Problem


class MixedGa(Evolving):
    """As `ga`, but genes of scale "choice" are exchanged whole and redrawn rather than blended and shifted.

    Deviates from pymoo's MixedVariableGA, which treats each choice as a problem of its own: with one variable there,
    every second child gets it redrawn. After 300 evaluations of 20 choices and 6 weights that left it 2.9 times as far
    from the optimum (means of 12 seeds). Here one rate, min(1/2, 1/D), serves all genes, parents are chosen by
    tournament, and a mutation never redraws the old level. Genes that mean nothing beside a genome's choices rest at
    their default; a child that differs in these alone is no new child.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        population: int | None = None,
        offspring: int | None = None,
        steady: bool = False,
        crossover_prob: float = 0.9,
        crossover_eta: float = 15.0,
        mutation_eta: float = 20.0,
    ):
        population = default_population(problem.size) if population is None else population
        check_population(population)
        breed = operators(
            problem, crossover_prob=crossover_prob, crossover_eta=crossover_eta, mutation_eta=mutation_eta
        )
        super().__init__(
            problem,
            seed,
            partial(GA, **breed),
            population=population,
            offspring=children_out(offspring, population, steady=steady),
            steady=steady,
        )
