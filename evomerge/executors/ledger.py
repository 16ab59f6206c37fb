"""Attempts and strikes of each work, and the events that tell of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

from evomerge.executors.crew import Fault
from evomerge.executors.jobs import Job
from evomerge.types import Evaluation, Work

Key: TypeAlias = tuple[str, int | str, int]  # phase, id, first rung


class Ledger:
    """record: where events go. host: of a worker, for the record.

    What befalls a job is one event, under its first work, with all ids; attempts and rungs are told work by work.
    """

    def __init__(self, record: Callable[..., None], host: Callable[[int], str]):
        self.record, self._host = record, host
        self._attempts, self._strikes = Counter[Key](), Counter[tuple[Key, bool]]()

    def note(self, text: str) -> None:
        self.record("note", text=text)

    def attempt(self, job: Job, worker: int) -> None:
        for work in job.works:
            self._attempts[_key(work)] += 1
            self.record("attempt", **self._place(work, worker))

    def done(self, work: Work, worker: int, row: Evaluation, seconds: float) -> None:
        self.record("done", **self._place(work, worker), rung=row.rung, seconds=seconds)

    def retry(self, job: Job, worker: int, error: str) -> None:
        self.record("retry", **self._places(job, worker), error=error)

    def failed(self, job: Job, worker: int, fault: Fault) -> None:
        self.record("failed", **self._places(job, worker), error=fault.text, traceback=fault.traceback)

    def died(self, job: Job, worker: int, reason: str, *, sick: bool) -> int:
        """Returns the strikes against its works, which share all their attempts; the machine's failures count apart."""
        for work in job.works:
            self._strikes[_key(work), sick] += 1
        strikes = self._strikes[_key(job.works[0]), sick]
        self.record("died", **self._places(job, worker), reason=reason, strikes=strikes)
        return strikes

    def lost(self, worker: int, reason: str) -> None:
        """It died without a job: idle, or before it was ready."""
        self.record("lost", worker=worker, host=self._host(worker), reason=reason)

    def _place(self, work: Work, worker: int) -> dict[str, Any]:
        attempt, host = self._attempts[_key(work)] - 1, self._host(worker)
        return {"phase": work.phase, "id": work.id, "attempt": attempt, "host": host, "worker": worker}

    def _places(self, job: Job, worker: int) -> dict[str, Any]:
        return {**self._place(job.works[0], worker), "ids": [work.id for work in job.works]}


def _key(work: Work) -> Key:
    return work.phase, work.id, work.rung
