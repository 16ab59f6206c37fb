"""Work done one by one in this process, on one device."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from evomerge.errors import ConfigError, SearchFailed
from evomerge.types import Evaluation, Work


class Local:
    """Opens the evaluator's bench at the first work and keeps it; out of memory is retried with half the batch."""

    def __init__(self, retries: int = 2):
        if retries < 0:
            raise ConfigError(f"executor.retries is {retries}; wanted 0 or more.")
        self._retries = retries
        self._bench: Any = None

    def map(self, evaluator: Any, work: Iterable[Work], record: Callable[..., None]) -> Iterator[Evaluation]:
        for one in work:
            if self._bench is None:
                self._bench = evaluator.open()
                for note in getattr(self._bench, "notes", ()):
                    record("note", text=note)
            yield from self._evaluate(one, record)

    def _evaluate(self, work: Work, record: Callable[..., None]) -> Iterator[Evaluation]:
        """Rung by rung; what a failed attempt has answered is not asked again."""
        for attempt in range(self._retries + 1):
            place = {"phase": work.phase, "id": work.id, "attempt": attempt, "host": socket.gethostname()}
            record("attempt", **place)  # before the work: an attempt that kills its worker is on file
            began = time.monotonic()
            try:
                for evaluation in self._bench.evaluate(work, shrink=2**attempt, record=record):
                    record("done", **place, rung=evaluation.rung, seconds=time.monotonic() - began)
                    yield evaluation
                    work = replace(work, answered=(*work.answered, evaluation.scores))
                    began = time.monotonic()
                return
            except MemoryError as e:
                record("retry", **place, error=str(e))
        raise SearchFailed(
            f"{work.phase} {work.id} ran out of memory {self._retries + 1} times, the last with the batch size divided "
            f"by {2**self._retries}. Lower backend.batch_size or use a device with more memory; the journal keeps what "
            "was paid."
        )
