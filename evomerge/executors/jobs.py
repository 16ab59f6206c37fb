"""What a worker is given at once: one work, or several that its backend serves together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.types import Evaluation, Work


@dataclass(frozen=True)
class Job:
    """Works that one worker does at once. shrink: divides the batch size, after running out of memory."""

    works: tuple[Work, ...]
    shrink: int = 1

    def of(self, row: Evaluation) -> Work:
        """The work that a row answers."""
        return next(work for work in self.works if (work.phase, work.id) == (row.phase, row.id))

    def after(self, row: Evaluation) -> Job:
        """What is left of it: rungs that were answered are not asked again."""
        one = self.of(row)
        left = () if row.last else (replace(one, answered=(*one.answered, row.scores)),)
        return replace(self, works=tuple(w for work in self.works for w in (left if work is one else (work,))))


class Queue:
    """Works in the order they were submitted, handed out as jobs.

    together: candidates that a backend serves at once. Who shares a job shares `id // together`, so that a candidate's
    slot, `id % together`, is its own whoever else is there; named works and races go alone.
    """

    def __init__(self, together: int = 1):
        self._together = together
        self._works: deque[Work] = deque()

    def __len__(self) -> int:
        return len(self._works)

    def add(self, works: Sequence[Work]) -> None:
        self._works.extend(works)

    def clear(self) -> None:
        self._works.clear()

    def take(self) -> Job:
        """The oldest work, with those queued that go together with it. Raises IndexError if there is none."""
        first = self._works.popleft()
        place, mates, others = self._place(first), [first], deque[Work]()
        while place is not None and self._works:
            work = self._works.popleft()
            (mates if self._place(work) == place else others).append(work)
        self._works = others + self._works
        return Job(tuple(mates))

    def _place(self, work: Work) -> tuple[str, int, int] | None:
        if self._together == 1 or not isinstance(work.id, int) or len(work.rungs) > 1:
            return None
        return work.phase, work.rung, work.id // self._together


def serve(bench: Any, job: Job, record: Callable[..., None]) -> Iterator[tuple[Evaluation, float]]:
    """The rungs of a job as they are answered, each with its seconds. Raises what the bench raises."""
    began = time.monotonic()
    for row in _rows(bench, job, record):
        yield row, time.monotonic() - began
        began = time.monotonic()  # who takes the rows may dawdle


def _rows(bench: Any, job: Job, record: Callable[..., None]) -> Iterator[Evaluation]:
    if len(job.works) == 1:
        yield from bench.evaluate(job.works[0], shrink=job.shrink, record=record)
    else:
        yield from bench.evaluate_together(job.works, shrink=job.shrink, record=record)
