"""The nouns of one search: what it is given (Plan), what it measures against (Scale), what it found (Scored)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.budget import Budget
from evomerge.types import Estimate, Estimator, Executor, Genome, Items, Metric, Objective, Optimizer, Recipe, Space


@dataclass(frozen=True)
class Plan:
    """Everything a search needs, made and checked before it starts.

    references: recipes by id, "base" and "average" under these names if they exist, parents as "parent:NAME".
    items: by "search", "selection" and "test". make_optimizer, make_control: from a start genome or None.
    """

    space: Space
    references: Mapping[str, Recipe]
    make_optimizer: Callable[[Genome | None], Optimizer]
    make_control: Callable[[Genome | None], Optimizer] | None
    evaluator: Any
    executor: Executor
    estimator: Estimator
    objective: Objective
    metrics: Mapping[str, Metric]
    items: Mapping[str, Items]
    budget: Budget
    finalists: int = 3
    max_failed: float = 0.5
    warm_start: Recipe | None = None  # preferred to the references as a start, where the space can express it


@dataclass(frozen=True)
class Finalist:
    """A recipe that is scored on fresh items. `found` is its estimate in the phase it comes from."""

    id: str
    recipe: Recipe
    found: tuple[Estimate, ...]


@dataclass(frozen=True)
class Scored:
    """A candidate or reference with its estimates per objective; none if it failed."""

    id: int | str
    recipe: Recipe
    estimates: tuple[Estimate, ...] | None
    error_code: str | None


@dataclass(frozen=True)
class Scale:
    """How the references scored on some items: what the objective measures candidates against."""

    references: Mapping[str, tuple[Estimate, ...]]  # per task

    @property
    def floor(self) -> tuple[Estimate, ...]:
        return self.references.get("base") or self.references["average"]

    @property
    def parents(self) -> list[tuple[Estimate, ...]]:
        return [e for name, e in self.references.items() if name.startswith("parent:")]
