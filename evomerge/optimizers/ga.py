"""A genetic algorithm that keeps the best of parents and children, by the library pymoo (Blank and Deb 2020).

Simulated binary crossover (Deb and Agrawal 1995) and polynomial mutation (Deb and Goyal 1996). A smaller violation
beats a larger one, whatever the fitness (Deb 2000, doi:10.1016/S0045-7825(99)00389-8); failed candidates come last.
"""

from __future__ import annotations

from functools import partial

from pymoo.algorithms.soo.nonconvex.ga import GA

from evomerge.errors import ConfigError
from evomerge.optimizers.breeding import operators
from evomerge.optimizers.populations import Evolving, check_population, default_population
from evomerge.problem import Problem


class Ga(Evolving):
    """Elitist search: `population` members and their children compete for the places of the next population.

    A member lives as long as nothing beats its fitness, so a score that was luck on one draw of items would live on:
    `tell` takes the living members' scores on a new draw together with the batch. The first population is the
    problem's starts, as far as they fill half of it, then uniform genomes.

    Operators and their settings are pymoo's defaults; its population of 100 is 4 + 3 ln D here. Discrete genes keep to
    their grid, and levels of a choice count as steps; `mixed_ga` treats them as what they are. `steady`: each child is
    drawn from the population as it is, and competes at once; `offspring` are out at a time, half the population by
    default, so that the first child already has parents to choose from.
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
            problem, crossover_prob=crossover_prob, crossover_eta=crossover_eta, mutation_eta=mutation_eta, ordered=True
        )
        super().__init__(
            problem,
            seed,
            partial(GA, **breed),
            population=population,
            offspring=children_out(offspring, population, steady=steady),
            steady=steady,
        )


def children_out(offspring: int | None, population: int, *, steady: bool) -> int:
    """How many children are drawn before one is told. Raises ConfigError."""
    most = population - 2 if steady else 10 * population
    if offspring is None:
        return population // 2 if steady else population
    if not 1 <= offspring <= most:
        raise ConfigError(
            f"optimizer.offspring is {offspring}; wanted 1 to {most} with optimizer.population={population} and "
            f"optimizer.steady={str(steady).lower()}. Leave it null for the default."
        )
    return offspring
