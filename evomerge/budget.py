"""What a search may spend, and the meter that counts it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from evomerge.errors import ConfigError
from evomerge.types import Evaluation, Items


@dataclass(frozen=True)
class Budget:
    """What the search phase may spend; the other phases are reported beside it.

    evaluations: candidates, failed and repeated ones included. items: scored items paid for. seconds: wall time
    over all processes of the run, checked before each batch.
    """

    evaluations: int | None = None
    items: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("evaluations", "items", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"budget.{name} is {value}; wanted a positive number, or null for no such limit.")
        if self.evaluations is None and self.items is None and self.seconds is None:
            raise ConfigError("the budget has no limit. Set budget.evaluations, budget.items or budget.seconds.")


class Meter:
    """What this process has committed, replayed or new, against the budget: never the journal's length."""

    def __init__(self, budget: Budget, items_each: int, seconds_before: float):
        self._budget, self._each = budget, items_each
        self._before, self._since = seconds_before, time.monotonic()
        self.evaluations = self.items = 0

    def room(self, lag: int) -> tuple[int, str]:
        """How many candidates may be asked now, at most `lag`, and which limit says so ("" if none)."""
        tightest, left = min(self._left(lag).items(), key=lambda pair: pair[1])
        return (lag, "") if left >= lag else (max(0, left), tightest)

    def _left(self, lag: int) -> dict[str, int]:
        limits = self._budget
        return {
            "evaluations": lag if limits.evaluations is None else limits.evaluations - self.evaluations,
            "items": lag if limits.items is None else (limits.items - self.items) // self._each,
            "seconds": lag if limits.seconds is None or self.elapsed() < limits.seconds else 0,
        }

    def count(self, evaluations: Sequence[Evaluation]) -> None:
        self.evaluations += len(evaluations)
        self.items += sum(n_items(e.items) for e in evaluations if e.alias_of is None)

    def elapsed(self) -> float:
        """Seconds of this phase, those of earlier processes included."""
        return self._before + time.monotonic() - self._since


def n_items(items: Items) -> int:
    return sum(len(ids) for ids in items.values())
