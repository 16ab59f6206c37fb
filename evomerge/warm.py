"""Warm starts: recipes from elsewhere, scored like candidates before the search, so that it can begin at the best."""

from __future__ import annotations

from collections.abc import Sequence

from evomerge.budget import Budget
from evomerge.fitness import Fitness
from evomerge.journal import Journal
from evomerge.loop import ask_and_tell
from evomerge.plan import Plan, Scored
from evomerge.types import Candidate, Genome, Result


class Listed:
    """Asks the given genomes once, all in one batch."""

    elitist = True
    many_goals = takes_choices = True
    wants_answers = False

    def __init__(self, genomes: Sequence[Genome]):
        self._left = [Candidate(i, genome.copy()) for i, genome in enumerate(genomes)]
        self.lag = len(self._left)

    @property
    def step(self) -> int:
        return self.lag

    def ask(self, n: int) -> list[Candidate]:
        asked, self._left = self._left[:n], self._left[n:]
        return asked

    def tell(self, results: Sequence[Result]) -> None:
        """A list learns nothing."""


def score_warm(plan: Plan, fitness: Fitness, journal: Journal) -> list[Scored]:
    """The plan's warm starts that its space can express, with estimates on the first draw of items."""
    genomes = [g for g in map(plan.space.encode, plan.warm) if g is not None]
    if not genomes:
        return []
    budget = Budget(evaluations=len(genomes))
    return ask_and_tell("warm", Listed(genomes), budget, plan, fitness, journal)


def ranked_starts(plan: Plan, fitness: Fitness, warm: Sequence[Scored]) -> tuple[Genome, ...]:
    """Genomes of warm starts and references that the space can express: feasible ones first, then the best."""
    known = [(s.violation, s.estimates, s.recipe) for s in warm if s.estimates]
    known += [
        (fitness.violation(tasks), fitness.combine(tasks), plan.references[name])
        for name, tasks in fitness.scale.references.items()
    ]
    ranked = sorted(known, key=lambda one: (one[0], -sum(e.value for e in one[1]) / len(one[1])))
    return tuple(g for *_, recipe in ranked if (g := plan.space.encode(recipe)) is not None)
