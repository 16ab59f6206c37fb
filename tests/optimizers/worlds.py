"""Problems that optimizers are held against, and what evaluating their candidates finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from evomerge.families import Optimizer
from evomerge.problem import Problem, gene_of, level_of
from evomerge.types import Candidate, Genome, Result, Variable
from tests.optimizers.driving import TARGET, VARIABLES

#: A method, knobs that only some of its levels have, and a count.
CHOICES = (
    Variable("method/rest/0/all", "method", 0.0, 3.0, "choice", gene_of(1, 3), 0.3, levels=3),
    Variable("weight/rest/0/a", "weight", -0.2, 1.5, "linear", 0.7, 0.12, leading=True, parent="a"),
    Variable("weight/rest/0/b", "weight", -0.2, 1.5, "linear", 0.4, 0.12, leading=True, parent="b"),
    Variable("density/rest/0/all", "density", 0.2, 1.0, "linear", 0.9, 1 / 6),
    Variable("copies/rest/0/all", "copies", 1.0, 5.0, "linear", gene_of(3, 5), 0.3, levels=5),
)


def active(genome: Genome) -> np.ndarray:
    """Density belongs to the second and third method, copies to the third."""
    method = level_of(genome[0], 3)
    return np.array([True, True, True, method > 0, method == 2])


PROBLEMS = {
    "one goal": Problem(VARIABLES),
    "two goals": Problem(VARIABLES, goals=2),
    "three goals": Problem(VARIABLES, goals=3),
    "choices": Problem(CHOICES, active=active),
    "choices for two": Problem(CHOICES, goals=2, active=active),
}


#: Nine points: a number of four levels counts for two of the three levels of a choice.
FEW = Problem(
    (
        Variable("method/rest/0/all", "method", 0.0, 3.0, "choice", gene_of(1, 3), 0.3, levels=3),
        Variable("copies/rest/0/all", "copies", 1.0, 4.0, "linear", gene_of(0, 4), 0.3, levels=4),
    ),
    active=lambda genome: np.array([True, level_of(genome[0], 3) > 0]),
)


def goals_of(candidate: Candidate, goals: int) -> tuple[float, ...]:
    """Closeness to as many points."""
    points = (TARGET, TARGET[::-1], 1 - TARGET)[:goals]
    return tuple(-float(((candidate.genome - point) ** 2).sum()) for point in points)


def answers_of(candidate: Candidate) -> np.ndarray:
    """float64 (15,): an item asks for one gene near one value; two items are never asked."""
    wanted = np.add.outer(np.array([-0.3, 0.0, 0.3]), TARGET).ravel()
    found = np.clip(1 - 2 * np.abs(np.tile(candidate.genome, 3) - wanted), 0, 1)
    found[[4, 11]] = np.nan
    return found


class World:
    """Evaluates as a run does: noise, 7% failures, a constraint, item scores; the living again on every other batch."""

    def __init__(self, optimizer: Optimizer, goals: int):
        self._optimizer, self._goals = optimizer, goals
        self._seen: dict[int, Candidate] = {}

    def __call__(self, number: int, batch: Sequence[Candidate]) -> list[Result]:
        self._seen |= {c.id: replace(c, genome=c.genome.copy()) for c in batch}
        again = getattr(self._optimizer, "living", ()) if number % 2 else ()
        return [self._result(self._seen[i], number if again else 0) for i in (*again, *(c.id for c in batch))]

    def _result(self, candidate: Candidate, draw: int) -> Result:
        if np.random.default_rng(candidate.id).random() < 0.07:
            return Result(candidate.id, (-9.0,) * self._goals, 0.5, "merge")
        luck = 0.05 * np.random.default_rng([candidate.id, draw]).normal(size=self._goals)
        values = tuple(v + float(x) for v, x in zip(goals_of(candidate, self._goals), luck, strict=True))
        broken = max(0.0, float(candidate.genome[1]) - 0.75)
        return Result(candidate.id, values, broken, None, (0.05,) * self._goals, answers_of(candidate))
