"""What a search may spend, and the meter that counts it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from evomerge.errors import ConfigError


@dataclass(frozen=True)
class Budget:
    """What the search phase may spend, and when it has found enough; the other phases are reported beside it.

    evaluations: candidates, failed and repeated ones included. items: scored items paid for. seconds: wall time
    over all processes of the run, checked before each new batch. target: estimated goal of a feasible candidate that
    is good enough. stagnation: evaluations in a row without a better one.
    """

    evaluations: int | None = None
    items: int | None = None
    seconds: float | None = None
    target: float | None = None
    stagnation: int | None = None

    def __post_init__(self) -> None:
        for name in ("evaluations", "items", "seconds", "stagnation"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"budget.{name} is {value}; wanted a positive number, or null for no such limit.")
        if self.target is not None and not math.isfinite(self.target):
            raise ConfigError(f"budget.target is {self.target}; wanted a finite value of the goal, or null.")
        if self.evaluations is None and self.items is None and self.seconds is None:
            raise ConfigError("the budget has no limit. Set budget.evaluations, budget.items or budget.seconds.")


class Meter:
    """What this process has committed, replayed or new, against the budget: never the journal's length."""

    def __init__(self, budget: Budget, items_each: int, seconds_before: float):
        self._budget, self._each = budget, items_each
        self._before, self._since = seconds_before, time.monotonic()
        self.evaluations = self.items = 0
        self.unraced = 0  # items that the same candidates would have been asked without race and aliases

    def room(self, wanted: int, out: int = 0, *, again: int = 0, on_file: bool = False) -> tuple[int, str]:
        """How many candidates may be asked now, at most as `wanted`, and which limit says so ("" if none).

        out: candidates that are asked and not yet counted. again: earlier ones that are to be scored beside them.
        on_file: what would be asked was begun: when it was asked, time had not run out.
        """
        tightest, left = min(self._left(wanted, out, again, on_file).items(), key=lambda pair: pair[1])
        return (wanted, "") if left >= wanted else (max(0, left), tightest)

    def _left(self, wanted: int, out: int, again: int, on_file: bool) -> dict[str, int]:
        limits = self._budget
        in_time = on_file or limits.seconds is None or self.elapsed() < limits.seconds
        return {
            "evaluations": wanted if limits.evaluations is None else limits.evaluations - self.evaluations - out,
            "items": wanted if limits.items is None else (limits.items - self.items) // self._each - out - again,
            "seconds": wanted if in_time else 0,
        }

    def count(self, evaluations: int, items: int, again: int = 0) -> None:
        """New candidates, the items paid in all, and earlier candidates that were scored again."""
        self.evaluations += evaluations
        self.items += items
        self.unraced += (evaluations + again) * self._each

    def elapsed(self) -> float:
        """Seconds of this phase, those of earlier processes included."""
        return self._before + time.monotonic() - self._since
