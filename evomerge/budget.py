"""What a search may spend, and the meter that counts it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from evomerge.errors import ConfigError


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
        self.unraced = 0  # items that the same candidates would have been asked without race and aliases

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

    def count(self, evaluations: int, items: int) -> None:
        """Candidates committed, and the items paid for them."""
        self.evaluations += evaluations
        self.items += items
        self.unraced += evaluations * self._each

    def elapsed(self) -> float:
        """Seconds of this phase, those of earlier processes included."""
        return self._before + time.monotonic() - self._since
