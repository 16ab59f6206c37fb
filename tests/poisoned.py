"""A real evaluator that comes to harm over some candidates of the search, in whatever process it is opened."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evomerge.types import Evaluation, Work


@dataclass(frozen=True)
class Poisoned:
    """harm: id of a candidate -> "kills" (always) or "full" (until the batch is halved)."""

    healthy: Any
    harm: Mapping[int | str, str]

    @property
    def backend(self) -> Any:
        return self.healthy.backend

    @property
    def threads(self) -> int | None:
        return self.healthy.threads

    def open(self) -> PoisonedBench:
        return PoisonedBench(self.healthy.open(), self.harm)


@dataclass(frozen=True)
class PoisonedBench:
    healthy: Any
    harm: Mapping[int | str, str]

    def evaluate(self, work: Work, *, shrink: int, record: Callable[..., None]) -> Iterator[Evaluation]:
        harm = self.harm.get(work.id) if work.phase == "search" else None
        if harm == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        if harm == "full" and shrink == 1:
            raise MemoryError("device full")
        yield from self.healthy.evaluate(work, shrink=shrink, record=record)
