"""A genetic algorithm that keeps the best of parents and children, by the library pymoo (Blank and Deb 2020).

Simulated binary crossover (Deb and Agrawal 1995) and polynomial mutation (Deb and Goyal 1996). A smaller violation
beats a larger one, whatever the fitness (Deb 2000, doi:10.1016/S0045-7825(99)00389-8); failed candidates come last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.population import Population
from pymoo.core.problem import Problem as Cube
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM

from evomerge.errors import ConfigError
from evomerge.problem import Problem
from evomerge.types import Candidate, Genome, Result


class Ga:
    """Elitist search: `population` members and as many children compete for the places of the next population.

    A member lives as long as nothing beats its fitness, so a score that was luck on one draw of items would live on:
    `tell` takes the living members' scores on a new draw together with the batch. The first population is the
    problem's start among uniform genomes.
    """

    elitist = True
    many_goals = False
    takes_choices = False
    wants_answers = False

    @property
    def step(self) -> int:
        return self.lag

    def __init__(
        self,
        problem: Problem,
        seed: int,
        *,
        population: int | None = None,
        crossover_prob: float = 0.9,
        crossover_eta: float = 15.0,
        mutation_eta: float = 20.0,
    ):
        self.lag = default_population(problem.size) if population is None else population
        _check(self.lag, crossover_prob, crossover_eta, mutation_eta)
        self._ga = GA(
            pop_size=self.lag,
            sampling=_first_population(problem.start, self.lag, seed),
            crossover=SBX(prob=crossover_prob, eta=crossover_eta),
            mutation=PM(eta=mutation_eta),
        )
        cube = Cube(n_var=problem.size, n_obj=1, xl=0.0, xu=1.0)
        self._ga.setup(cube, termination=NoTermination(), seed=seed)  # a generator of its own: needs no Guard
        self._members = Population()  # the living, in id order
        self._batch = Population()  # drawn and not yet told, in id order
        self._asked = 0  # candidates of earlier batches
        self._handed = 0

    @property
    def living(self) -> tuple[int, ...]:
        """Ids of the members that the next batch competes with, ascending; none before the first tell."""
        return _ids(self._members)

    def ask(self, n: int) -> list[Candidate]:
        """Up to n candidates of the current batch; none if all of them are out and not yet told."""
        if len(self._batch) == 0:
            self._batch = self._ga.ask()
            self._batch.set("id", self._asked + np.arange(len(self._batch)))
        first, self._handed = self._handed, min(self._handed + n, len(self._batch))
        return [Candidate(int(c.get("id")), c.X.copy()) for c in self._batch[first : self._handed]]

    def tell(self, results: Sequence[Result]) -> None:
        """The whole batch, in id order, fitness finite and maximised; before it all the living scored anew, or none."""
        told, batch = tuple(r.id for r in results), _ids(self._batch)
        assert told in (batch, self.living + batch), "a batch is told once, complete and in id order"
        n_again = len(told) - len(batch)
        _score(self._members[:n_again], results[:n_again])  # before survival, which merges these very members
        _score(self._batch, results[n_again:])
        self._ga.tell(infills=self._batch)
        self._members = self._ga.pop[np.argsort(self._ga.pop.get("id"))]
        self._asked += len(batch)
        self._batch, self._handed = Population(), 0


def default_population(size: int) -> int:
    """4 + 3 ln D, as CMA-ES: of a few hundred evaluations, a larger one would make but a few generations."""
    return 4 + math.floor(3 * math.log(size))


def _first_population(start: Genome, population: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed).spawn(1)[0]  # pymoo draws from the seed's own stream
    rows = rng.random((population, len(start)))
    rows[0] = np.clip(start, 0.0, 1.0)  # crossover of a gene outside its bounds is nan
    return rows


def _ids(members: Population) -> tuple[int, ...]:
    return tuple(int(m.get("id")) for m in members)


def _score(members: Population, results: Sequence[Result]) -> None:
    """pymoo minimises; CV, its violation, is written itself because it is kept once computed from a constraint."""
    violation = [math.inf if r.error_code else r.violation for r in results]
    members.set(F=np.array([[-r.fitness[0]] for r in results]), CV=np.array(violation)[:, None])  # both (n, 1)


def _check(population: int, crossover_prob: float, crossover_eta: float, mutation_eta: float) -> None:
    if population < 4:
        raise ConfigError(
            f"optimizer.population is {population}; a genetic algorithm needs at least 4 (a mating is two tournaments "
            "of two). Leave it null for the default."
        )
    if not 0 <= crossover_prob <= 1:
        raise ConfigError(f"optimizer.crossover_prob is {crossover_prob}; wanted a share of matings, from 0 to 1.")
    for name, eta in (("crossover_eta", crossover_eta), ("mutation_eta", mutation_eta)):
        if not 1 <= eta <= 100:  # far above, steps fall under the resolution of a float: only duplicates are left
            raise ConfigError(f"optimizer.{name} is {eta}; wanted 1 (wide steps) to 100 (narrow ones).")
