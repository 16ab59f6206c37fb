"""Works go to whoever is free; a worker that dies, hangs or runs out of memory costs an attempt, never the search."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.errors import EvomergeError
from evomerge.executors import failures
from evomerge.executors.crew import Crew, Fault, Message
from evomerge.executors.jobs import Job, Queue
from evomerge.executors.ledger import Ledger
from evomerge.executors.limits import Limits
from evomerge.executors.openings import NOTICE, OPENINGS, Openings
from evomerge.types import Evaluation, Work

WAKING = 1.0  # seconds at most without looking up: a signal, or a worker that hangs, is noticed as fast
HEARING_OUT = 60.0  # seconds that jobs under way may take when the search must end, if there is no timeout


@dataclass(frozen=True)
class Turn:
    """A job at a worker. since: when it was sent, or answered its newest rung."""

    job: Job
    since: float


class Pool:
    """An executor over a crew of workers, wherever they run.

    Works that were served together when their worker died go alone afterwards, and only one that was alone at the last
    ends as a failed candidate. clock: for tests.
    """

    def __init__(self, crew: Crew, limits: Limits | None = None, *, clock: Callable[[], float] = time.monotonic):
        self._crew, self._limits, self._clock = crew, limits or Limits(), clock
        self._evaluator: Any = None
        self._forget()

    @property
    def workers(self) -> int:
        return self._crew.size

    def check(self, evaluator: Any) -> None:
        self._crew.check(evaluator)

    def start(self, evaluator: Any, record: Callable[..., None]) -> None:
        known = evaluator is self._evaluator
        if self._evaluator is not None and not known:
            self.close()
        self._ledger.record = record
        if not known:
            self._begin(evaluator)

    def _begin(self, evaluator: Any) -> None:
        self._crew.start(evaluator)
        self._evaluator, self._queue = evaluator, Queue(getattr(evaluator, "together", 1))
        self._openings = Openings(self._crew.size, self._limits.start_timeout, self._clock())
        self._note(getattr(self._crew, "notes", ()))
        self._open_due()

    def submit(self, works: Sequence[Work]) -> None:
        self._queue.add(works)
        self._catch_up(0.0)  # who died while idle is not to be given any

    def next(self) -> Evaluation:
        while True:
            if not (self._rows or self._trouble or self._turns or self._again or len(self._queue)):
                raise IndexError("nothing is out")
            self._catch_up(0.0 if self._rows or self._over() else self._patience())
            if self._rows:
                return self._rows.popleft()
            if self._trouble and self._over():
                raise self._trouble

    def close(self) -> None:
        self._crew.close()
        self._evaluator = None
        self._forget()

    def _forget(self) -> None:
        self._ledger = Ledger(lambda kind, **facts: None, self._crew.host)
        self._openings = Openings(0, None, self._clock())
        self._queue, self._again = Queue(), deque[Job]()  # never tried; to be tried again
        self._idle, self._turns = deque[int](), dict[int, Turn]()  # workers in neither are being opened
        self._doomed = dict[int, tuple[str, str]]()  # killed, and not yet dead: code and reason
        self._rows = deque[Evaluation]()
        self._trouble: EvomergeError | None = None
        self._end = 0.0  # when that is raised, even if jobs are under way
        self._heard_notes = False

    def _fail(self, error: EvomergeError) -> None:
        """The search must end; what is under way is heard out, for it is nearly paid."""
        if self._trouble is None:
            self._trouble, self._end = error, self._clock() + (self._limits.timeout or HEARING_OUT)

    def _over(self) -> bool:
        return self._trouble is not None and (not self._turns or self._clock() >= self._end)

    # ------------------------------------------------------------ who does what

    def _catch_up(self, seconds: float) -> None:
        """Hear what has arrived, waiting for the first so long at most; give work to whoever is free."""
        self._open_due()
        for message in self._crew.wait(seconds):
            self._hear(message)
        self._kill_late()
        self._deal()

    def _open_due(self) -> None:
        for worker in self._openings.take(self._clock()):
            self._crew.open(worker)
        if self._openings.overdue(self._clock()):
            self._ledger.note(f"no worker is ready after {NOTICE:g} s; worker 0: {self._crew.opening(0)}")

    def _deal(self) -> None:
        while self._idle and not self._trouble and (self._again or len(self._queue)):
            worker = self._idle.popleft()
            if self._crew.alive(worker):
                self._send(worker, self._again.popleft() if self._again else self._queue.take())

    def _send(self, worker: int, job: Job) -> None:
        self._ledger.attempt(job, worker)  # before the work: an attempt that kills its worker is on file
        self._turns[worker] = Turn(job, self._clock())
        self._crew.send(worker, job)

    def _patience(self) -> float:
        """Seconds to wait for news: no longer than until the next worker is late, or due."""
        now, limit = self._clock(), self._limits.timeout or float("inf")
        left = [limit - now + turn.since for worker, turn in self._turns.items() if worker not in self._doomed]
        return max(0.0, min([WAKING, self._openings.next(now), *left]))

    def _kill_late(self) -> None:
        now, limits = self._clock(), self._limits
        for worker in self._openings.late(now):
            self._doom(worker, "unready", f"not ready within {limits.start_timeout:g} s (executor.start_timeout)")
        for worker, turn in self._turns.items():
            if limits.timeout is not None and now - turn.since >= limits.timeout:
                self._doom(worker, "timeout", f"no answer within {limits.timeout:g} s")

    def _doom(self, worker: int, code: str, reason: str) -> None:
        if worker not in self._doomed:
            self._doomed[worker] = code, reason
            self._crew.kill(worker)

    # ------------------------------------------------------------ what workers say

    def _hear(self, message: Message) -> None:
        worker, payload = message.worker, message.payload
        match message.kind:
            case "ready":
                self._ready(worker, payload)
            case "row":
                self._row(worker, *payload)
            case "event":
                kind, facts = payload
                self._ledger.record(kind, **facts)
            case "done":
                left = self._turns.pop(worker).job.works
                assert not left, f"a bench left {[w.id for w in left]} without a last row"
                self._free(worker)
            case "full":
                self._full(worker, payload)
            case "sick":
                self._doom(worker, "sick", payload)
            case "error":
                self._error(worker, payload)
            case "died":
                self._died(worker, payload or "for no known reason")

    def _ready(self, worker: int, notes: Sequence[str]) -> None:
        self._openings.ready(worker)
        if not self._heard_notes:
            self._note(notes)
            self._heard_notes = True
        self._free(worker)

    def _note(self, notes: Sequence[str]) -> None:
        for note in notes:
            self._ledger.note(note)

    def _row(self, worker: int, row: Evaluation, seconds: float) -> None:
        job = self._turns[worker].job
        self._ledger.done(job.of(row), worker, row, seconds)
        self._turns[worker] = Turn(job.after(row), self._clock())
        self._rows.append(row)

    def _free(self, worker: int) -> None:
        if worker not in self._doomed:
            self._idle.append(worker)

    def _full(self, worker: int, why: str) -> None:
        job = self._turns.pop(worker).job
        self._free(worker)
        self._ledger.retry(job, worker, why)
        if job.shrink >= 2**self._limits.retries:
            self._fail(failures.out_of_memory(job, self._limits.retries))
        else:
            self._again.append(replace(job, shrink=2 * job.shrink))

    def _error(self, worker: int, fault: Fault) -> None:
        """An error of the user's settings is raised as itself: no candidate could do better."""
        turn = self._turns.pop(worker, None)
        if turn and not fault.error:
            self._ledger.failed(turn.job, worker, fault)
        self._fail(fault.error or failures.broken(fault))

    def _died(self, worker: int, why: str) -> None:
        code, reason = self._doomed.pop(worker, ("worker_died", why))
        turn = self._turns.pop(worker, None)
        if turn and turn.job.works:
            self._strike(turn.job, worker, code, reason)
        else:
            self._lost(worker, why if reason == why else f"{reason}: {why}")

    def _strike(self, job: Job, worker: int, code: str, reason: str) -> None:
        self._openings.ended(worker, self._clock())
        strikes = self._ledger.died(job, worker, reason, sick=code == "sick")
        if strikes < self._limits.strikes or (len(job.works) > 1 and code != "sick"):
            self._again.extend(Job((work,), job.shrink) for work in job.works)
        elif code == "sick":
            self._fail(failures.machine(job, strikes, reason))
        else:
            size = getattr(getattr(self._evaluator, "backend", None), "batch_size", None)
            self._rows.append(failures.given_up(job.works[0], code, size and max(1, size // job.shrink)))

    def _lost(self, worker: int, why: str) -> None:
        """One that cannot be opened is tried for ever while others may serve: its device may come back."""
        self._ledger.lost(worker, why)
        if worker in self._idle:
            self._idle.remove(worker)
        opened, times = worker not in self._openings, self._openings.ended(worker, self._clock())
        if not opened and self._openings.hopeless():
            self._fail(failures.unopened(times, why))
        elif not opened and times == OPENINGS:
            host = self._crew.host(worker)
            self._ledger.note(f"worker {worker} on {host} cannot be opened: {why}. The others go on.")
