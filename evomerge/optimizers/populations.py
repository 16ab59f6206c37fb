"""Ask and tell over pymoo (Blank and Deb 2020, doi:10.1109/ACCESS.2020.2990567): populations whose members have ids.

pymoo minimises, and draws from a generator of its own, so it needs no Guard.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pymoo.algorithms.base.genetic import GeneticAlgorithm
from pymoo.core.population import Population
from pymoo.core.problem import Problem as Cube
from pymoo.core.termination import NoTermination

from evomerge.errors import ConfigError
from evomerge.optimizers.breeding import Settling, Unseen, first_population, wild
from evomerge.problem import EXHAUSTED, Problem, points
from evomerge.types import Candidate, Result

MOST = 1000  # members; with more, a merge search ends before its second generation
TRIES = 10  # matings, one after the other, until all children are new; then wild ones


class Evolving:
    """Ask and tell over a pymoo algorithm that keeps a population; its members are its final classes.

    Children are drawn as soon as all is told that they depend on, so nothing depends on when they are asked: a whole
    batch of `offspring` after a whole batch; in a steady state child k after candidate k - offspring. No genome is
    asked twice: in a small discrete space children mutate the more, and in the end there are none. `make` is a pymoo
    algorithm but for what all of them are given here.
    """

    elitist = True
    many_goals = False
    takes_choices = True
    wants_answers = False

    def __init__(
        self,
        problem: Problem,
        seed: int,
        make: Callable[..., GeneticAlgorithm],
        *,
        population: int,
        offspring: int | None = None,
        steady: bool = False,
    ):
        self._problem, self._steady = problem, steady
        self._offspring = population if offspring is None else offspring
        self.lag = self._offspring if steady else population
        self._unseen = Unseen()
        self._algorithm = make(
            pop_size=population,
            sampling=first_population(problem, population, seed),
            repair=Settling(problem),
            eliminate_duplicates=self._unseen,
        )
        cube = Cube(n_var=problem.size, n_obj=problem.goals, n_ieq_constr=1, xl=0.0, xu=1.0)
        self._algorithm.setup(cube, termination=NoTermination(), seed=seed)
        self._wild: Any = None
        if problem.discrete:
            self._algorithm.mating.n_max_iterations = TRIES
            self._wild = wild(self._algorithm.mating, problem)
        self._members = Population()  # the living, in id order
        self._open = Population()  # drawn and not yet told, in id order
        self._drawn = self._handed = self._told = 0
        self._ended = False
        self._draw(population)

    @property
    def step(self) -> int:
        return 1 if self._steady else self.lag

    @property
    def living(self) -> tuple[int, ...]:
        """Ids of the members that the next batch competes with, ascending; none before the first tell."""
        return _ids(self._members)

    @property
    def stopped(self) -> str:
        """Why nothing more can be tried; "" as long as something can."""
        if not self._ended or self._handed < self._drawn:
            return ""
        if self._drawn == points(self._problem):
            return EXHAUSTED
        return "no mating gives a genome that was not asked before"

    def ask(self, n: int) -> list[Candidate]:
        """Up to n candidates; none if as many as may be are out and not yet told, or all were asked."""
        last = min(self._handed + n, self._drawn, self._told + self.lag)
        asked = self._open[self._handed - self._told : last - self._told]
        self._handed = last
        return [Candidate(int(c.get("id")), c.X.copy()) for c in asked]

    def tell(self, results: Sequence[Result]) -> None:
        """The whole batch, in id order, fitness finite and maximised; before it all the living scored anew, or none."""
        batch = self._open[: self.step]
        told, ids = tuple(r.id for r in results), _ids(batch)
        assert told in (ids, self.living + ids), "a batch is told once, complete and in id order"
        n_again = len(told) - len(batch)
        _score(self._members[:n_again], results[:n_again])  # before survival, which merges these very members
        _score(batch, results[n_again:])
        with warnings.catch_warnings():  # NSGA-III turns off every warning of the process
            self._algorithm.tell(infills=batch)
        self._members = self._algorithm.pop[np.argsort(self._algorithm.pop.get("id"))]
        self._told, self._open = self._told + len(batch), self._open[len(batch) :]
        self.lag = self._offspring
        self._draw(self._told + self.lag - self._drawn)

    def _draw(self, n: int) -> None:
        """n more children; fewer if no more are new, and none ends the search."""
        if n <= 0 or self._ended:
            return
        children = self._mated(n)
        if self._wild is not None and len(children) < n and self._told:
            children = Population.merge(children, self._mated_wildly(n - len(children)))
        self._ended = len(children) == 0
        children.set("id", self._drawn + np.arange(len(children)))
        self._open = Population.merge(self._open, children)
        self._drawn += len(children)

    def _mated(self, n: int) -> Population:
        """The first population, then up to n children, as the algorithm has them."""
        self._algorithm.n_offsprings = n
        children = self._algorithm.ask()
        self._algorithm.termination.force_termination = False  # those that are out may yet live
        return self._remembered(Population() if children is None else children)

    def _mated_wildly(self, n: int) -> Population:
        """Where matings give what was asked before, in a space of few points: up to n that were not."""
        algorithm = self._algorithm
        given = {"algorithm": algorithm, "random_state": algorithm.random_state}
        return self._remembered(self._wild.do(algorithm.problem, algorithm.pop, n, **given))

    def _remembered(self, children: Population) -> Population:
        self._unseen.remember(children)
        return children


def default_population(size: int) -> int:
    """4 + 3 ln D, as CMA-ES: of a few hundred evaluations, a larger one would make but a few generations."""
    return 4 + math.floor(3 * math.log(size))


def default_front(problem: Problem) -> int:
    """4 (M + 1), 24 at most, for M goals: a front that shows the trade-offs; with one goal `default_population`.

    On ZDT1 and DTLZ2, populations of 12 and 16 were among the best of 8 to 100 in hypervolume after 120 and 240
    evaluations under all three searchers; pymoo's own 100 covered about as much as uniform sampling.
    """
    return default_population(problem.size) if problem.goals == 1 else min(24, 4 * (problem.goals + 1))


def check_population(population: int, least: int = 4, reason: str = "a mating is two tournaments of two") -> None:
    """Raises ConfigError."""
    if population < least:
        raise ConfigError(
            f"optimizer.population is {population}; {reason}: it needs at least {least}. Leave it null for the default."
        )
    if population > MOST:
        raise ConfigError(
            f"optimizer.population is {population}; wanted at most {MOST}, the whole of a large budget in one "
            "generation. Leave it null for the default."
        )


def _ids(members: Population) -> tuple[int, ...]:
    return tuple(int(m.get("id")) for m in members)


def _score(members: Population, results: Sequence[Result]) -> None:
    """pymoo minimises; CV, its violation, is written itself because it is kept once computed from a constraint."""
    violation = [math.inf if r.error_code else r.violation for r in results]
    members.set(F=np.array([[-f for f in r.fitness] for r in results]), CV=np.array(violation)[:, None])  # (n, ·)
