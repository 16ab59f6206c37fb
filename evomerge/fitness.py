"""What answers are worth: item scores -> estimates per task -> goals, against the references' scores on the bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from evomerge.calibration.bank import observe
from evomerge.constraints import violation
from evomerge.estimators.level import level_difference
from evomerge.families import Fitted, Sampler
from evomerge.items import Draw, ItemBank, Observed
from evomerge.plan import Goals, Scale
from evomerge.types import Estimate, Evaluation, Items, ItemScores


@dataclass(frozen=True, eq=False)
class Fitness:
    """How the candidates of one run are judged; plain data, so that a worker can judge for itself.

    robust: stands in for `estimator` once its level is found to be off. fresh: each batch has a draw of its own.
    """

    bank: ItemBank
    sampler: Sampler
    estimator: Fitted
    robust: Fitted
    goals: Goals
    scale: Scale
    fresh: bool
    _drawn: dict[int, Draw] = field(default_factory=dict, repr=False)

    @property
    def items_each(self) -> int:
        """Items of a draw: what a candidate is asked at most."""
        return len(self.draw(0)[1].index)

    @property
    def model_assisted(self) -> bool:
        """Whether the estimator takes what items are easy from other models' answers, not from the draw alone."""
        return getattr(self.estimator, "model_assisted", False)

    def draw(self, batch: int) -> tuple[int, Draw]:
        """The number of a batch's draw, and the draw."""
        number = batch if self.fresh else 0
        if number not in self._drawn:
            self._drawn[number] = self.sampler.draw(number)
        return number, self._drawn[number]

    def estimate(
        self, observed: Sequence[Observed], earlier: Sequence[Observed], *, robust: bool
    ) -> list[tuple[Estimate, ...]]:
        """Per candidate one Estimate a task."""
        return (self.robust if robust else self.estimator).estimate(observed, earlier)

    def combine(self, tasks: Sequence[Estimate]) -> tuple[Estimate, ...]:
        """Estimates per task -> estimates per goal."""
        return self.goals.combine(tasks, self.scale)

    def violation(self, tasks: Sequence[Estimate]) -> float:
        """0 if all constraints are likely to hold, else by how much they do not."""
        return violation(tasks, self.scale, self.goals.constraints)

    def level(
        self, observed: Sequence[Observed], estimates: Sequence[tuple[Estimate, ...]]
    ) -> tuple[float, float] | None:
        """How far these estimates stand above weighted means of the same answers, with its standard error.

        None if nothing can be learned from it: the estimator is such a mean, or another batch has the same draw.
        """
        if not (self.fresh and self.model_assisted) or len(observed) < 2:
            return None
        return level_difference(estimates, observed, self.bank)

    def frozen(self, earlier: Sequence[Observed], *, robust: bool) -> Fitness:
        """The same with what was learned held fixed: a candidate's estimate then needs no other's answers."""
        return replace(self, estimator=(self.robust if robust else self.estimator).frozen(earlier))


def in_chunks(bank: ItemBank, draw: Draw, chunks: int) -> tuple[Items, ...]:
    """A draw cut into rungs, each a fair sample of it."""
    return tuple(bank.name(draw.index[k::chunks]) for k in range(min(chunks, max(1, len(draw.index) // 2))))


def weight_of(bank: ItemBank, draws: Sequence[Draw]) -> np.ndarray:
    """float64 (N,): the design weight of each place in any of the draws, 0 elsewhere."""
    weight = np.zeros(bank.size)
    for draw in draws:
        weight[draw.index] = draw.weights
    return weight


@dataclass(frozen=True, eq=False)
class Standing:
    """A candidate's estimated goal from its own answers alone: what a judge asks for."""

    fitness: Fitness
    weight: np.ndarray

    def __call__(self, answered: Sequence[tuple[ItemScores, ...]]) -> Estimate:
        rows = [Evaluation("", "search", "", {s.task: s.items for s in scores}, scores) for scores in answered]
        seen = observe("", rows, self.fitness.bank, self.weight)
        return self.fitness.combine(self.fitness.estimate([seen], (), robust=False)[0])[0]
