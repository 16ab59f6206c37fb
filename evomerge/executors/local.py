"""Work done one by one in this process, on one device."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from evomerge.errors import ConfigError
from evomerge.executors.failures import out_of_memory
from evomerge.executors.jobs import Job, Queue, serve
from evomerge.executors.ledger import Ledger
from evomerge.types import Evaluation, Work


class Local:
    """Opens the evaluator's bench at the first work and keeps it; out of memory is retried with half the batch."""

    workers = 1

    def __init__(self, retries: int = 2):
        if retries < 0:
            raise ConfigError(f"executor.retries is {retries}; wanted 0 or more.")
        self._retries = retries
        self._evaluator: Any = None
        self._bench: Any = None
        self._queue = Queue()
        self._rows: Iterator[Evaluation] = iter(())

    def check(self, evaluator: Any) -> None:
        """Nothing to check: the device was picked by trying it."""

    def start(self, evaluator: Any, record: Callable[..., None]) -> None:
        self._record = record
        if evaluator is not self._evaluator:
            self.close()
            self._evaluator, self._queue = evaluator, Queue(getattr(evaluator, "together", 1))

    def submit(self, works: Sequence[Work]) -> None:
        self._queue.add(works)

    def next(self) -> Evaluation:
        while True:
            if (row := next(self._rows, None)) is not None:
                return row
            self._rows = self._served(self._queue.take())

    def close(self) -> None:
        getattr(self._bench, "close", lambda: None)()
        self._evaluator, self._bench = None, None
        self._queue, self._rows = Queue(), iter(())

    def _open(self) -> Any:
        if self._bench is None:
            self._bench = self._evaluator.open()
            for note in getattr(self._bench, "notes", ()):
                self._record("note", text=note)
        return self._bench

    def _served(self, job: Job) -> Iterator[Evaluation]:
        """Rung by rung; what a failed attempt has answered is not asked again."""
        bench, ledger = self._open(), Ledger(self._record, lambda worker: socket.gethostname())
        for _ in range(self._retries + 1):
            ledger.attempt(job, 0)  # before the work: an attempt that kills its worker is on file
            try:
                for row, seconds in serve(bench, job, self._record):
                    ledger.done(job.of(row), 0, row, seconds)
                    job = job.after(row)
                    yield row
                return
            except MemoryError as e:
                ledger.retry(job, 0, str(e))
                job = replace(job, shrink=2 * job.shrink)
        raise out_of_memory(replace(job, shrink=2**self._retries), self._retries)
