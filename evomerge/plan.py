"""The nouns of one search: what it is given (Plan, Goals), what it measures against (Scale), what it found (Scored)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evomerge.budget import Budget
from evomerge.families import Estimator, Executor, Objective, Optimizer, Race, Space, Subset
from evomerge.types import Estimate, Evaluation, Genome, Items, Metric, Recipe, Work


@dataclass(frozen=True)
class Scale:
    """How the references score on some items: what the objective measures candidates against."""

    references: Mapping[str, tuple[Estimate, ...]]  # per task

    @property
    def floor(self) -> tuple[Estimate, ...]:
        return self.references.get("base") or self.references["average"]

    @property
    def parents(self) -> list[tuple[Estimate, ...]]:
        return [e for name, e in self.references.items() if name.startswith("parent:")]


@dataclass(frozen=True)
class Goals:
    """What is searched for: an objective over some of the tasks (`on`: their places; () for all), and constraints."""

    objective: Objective
    on: tuple[int, ...] = ()
    constraints: tuple[Any, ...] = ()

    def names(self, tasks: Sequence[str]) -> tuple[str, ...]:
        """What the goals are called, given the names of all tasks."""
        return self.objective.goals([tasks[i] for i in self.on] if self.on else list(tasks))

    def combine(self, tasks: Sequence[Estimate], scale: Scale) -> tuple[Estimate, ...]:
        """Estimates per task -> estimates per goal."""
        return self.objective.combine(
            self._seen(tasks), self._seen(scale.floor), [self._seen(parent) for parent in scale.parents]
        )

    def _seen(self, tasks: Sequence[Estimate]) -> tuple[Estimate, ...]:
        return tuple(tasks[i] for i in self.on) if self.on else tuple(tasks)


@dataclass(frozen=True)
class Known:
    """What models answered before the search: where to look for references, and where to keep what they answered.

    find, keep: see evomerge.calibration. told: what they had to do without, in sentences. designs: recipes of further
    merges to be scored once. leaderboard: float64 (L, N) oriented answers of other models, in bank order, or None.
    """

    find: Callable[[Work], Evaluation | None] = lambda work: None
    keep: Callable[[Mapping[str, Evaluation]], None] = lambda found: None
    told: Sequence[str] = ()
    designs: Mapping[str, Recipe] = field(default_factory=dict)
    leaderboard: Any = None


@dataclass(frozen=True)
class Plan:
    """Everything a search needs, made and checked before it starts.

    references: recipes by id, "base" and "average" under these names if they exist, parents as "parent:NAME".
    items: by "search" (the bank), "selection" and "test". make_optimizer, make_control: from starts, best first.
    robust: the estimator that steps in where the level of `estimator` is off. subtasks: by task, of each item.
    fresh: whether each batch has a draw of items of its own; None: if the estimator is model-assisted
    and the optimizer no elitist.
    """

    space: Space
    references: Mapping[str, Recipe]
    make_optimizer: Callable[[Sequence[Genome]], Optimizer]
    make_control: Callable[[Sequence[Genome]], Optimizer] | None
    evaluator: Any
    executor: Executor
    subset: Subset
    estimator: Estimator
    robust: Estimator
    race: Race
    goals: Goals
    metrics: Mapping[str, Metric]
    items: Mapping[str, Items]
    budget: Budget
    seed: int = 0
    subtasks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    known: Known = Known()
    fresh: bool | None = None
    finalists: int = 3
    max_failed: float = 0.5
    warm: tuple[Recipe, ...] = ()  # found elsewhere: scored like candidates, to begin at the best


@dataclass(frozen=True)
class Finalist:
    """A recipe that is scored on fresh items. `found` and `tasks` are its estimates in the phase it comes from."""

    id: str
    recipe: Recipe
    found: tuple[Estimate, ...]
    tasks: tuple[Estimate, ...] = ()


@dataclass(frozen=True)
class Scored:
    """A candidate with its estimates per goal and per task; none if it failed."""

    id: int | str
    recipe: Recipe
    estimates: tuple[Estimate, ...] | None
    error_code: str | None
    tasks: tuple[Estimate, ...] = ()
    violation: float = 0.0
