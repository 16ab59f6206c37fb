"""Works go to whoever is free; a worker that dies, hangs or runs out of memory costs an attempt, never the search."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.errors import ConfigError, EvomergeError
from evomerge.executors import failures
from evomerge.executors.crew import Crew, Fault, Message
from evomerge.executors.jobs import Job, Queue
from evomerge.types import Evaluation, Work

Key = tuple[str, int | str, int]  # phase, id, first rung

WAKING = 1.0  # seconds at most without looking up: a signal, or a worker that hangs, is noticed as fast
OPENINGS = 3  # tries to open a worker while no other serves


@dataclass(frozen=True)
class Turn:
    """A job at a worker. since: when it was sent, or answered its newest rung."""

    job: Job
    since: float


class Pool:
    """An executor over a crew of workers, wherever they run.

    retries: attempts after running out of memory, each with half the batch. strikes: workers that may die over a work
    before it ends as a failed candidate, "worker_died" or, if it was killed for being late, "timeout". Works that were
    served together go alone afterwards, and only one that was alone at the last ends. timeout: seconds that a rung may
    take, None for any. clock: for tests.
    """

    def __init__(
        self,
        crew: Crew,
        *,
        retries: int = 2,
        strikes: int = 3,
        timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        _check(retries, strikes, timeout)
        self._crew, self._clock = crew, clock
        self._retries, self._strikes, self._timeout = retries, strikes, timeout
        self._evaluator: Any = None
        self._forget()

    @property
    def workers(self) -> int:
        return self._crew.size

    def check(self, evaluator: Any) -> None:
        self._crew.check(evaluator)

    def start(self, evaluator: Any, record: Callable[..., None]) -> None:
        self._record = record
        if evaluator is self._evaluator:
            return
        self.close()
        self._evaluator, self._queue = evaluator, Queue(getattr(evaluator, "together", 1))
        self._crew.start(evaluator)
        self._note(getattr(self._crew, "notes", ()))

    def submit(self, works: Sequence[Work]) -> None:
        self._queue.add(works)
        self._catch_up(0.0)  # who died while idle is not to be given any

    def next(self) -> Evaluation:
        while True:
            self._listen()
            if self._rows:
                return self._rows.popleft()
            if self._trouble:
                raise self._trouble

    def close(self) -> None:
        self._crew.close()
        self._evaluator = None
        self._forget()

    def _forget(self) -> None:
        self._queue, self._again = Queue(), deque[Job]()  # never tried; to be tried again
        self._idle, self._turns = deque[int](), dict[int, Turn]()  # workers in neither are being opened
        self._late: set[int] = set()  # killed, and not yet dead
        self._unopened, self._tries, self._deaths = Counter[int](), Counter[Key](), Counter[Key]()
        self._rows = deque[Evaluation]()
        self._trouble: EvomergeError | None = None
        self._heard_notes = False

    # ------------------------------------------------------------ who does what

    def _listen(self) -> None:
        """Catch up, waiting only if there is nothing to hand out."""
        if not (self._rows or self._trouble or self._turns or self._again or len(self._queue)):
            raise IndexError("nothing is out")
        self._catch_up(0.0 if self._rows or self._trouble else self._patience())

    def _catch_up(self, seconds: float) -> None:
        """Hear what has arrived, waiting for the first so long at most; give work to whoever is free."""
        for message in self._crew.wait(seconds):
            self._hear(message)
        self._kill_late()
        self._deal()

    def _deal(self) -> None:
        while self._idle and not self._trouble and (self._again or len(self._queue)):
            job = self._again.popleft() if self._again else self._queue.take()
            self._send(self._idle.popleft(), job)

    def _send(self, worker: int, job: Job) -> None:
        for work in job.works:  # before the work: an attempt that kills its worker is on file
            self._tries[_key(work)] += 1
            self._record("attempt", **self._place(work, worker))
        self._turns[worker] = Turn(job, self._clock())
        self._crew.send(worker, job)

    def _place(self, work: Work, worker: int) -> dict[str, Any]:
        attempt = self._tries[_key(work)] - 1
        host = self._crew.host(worker)
        return {"phase": work.phase, "id": work.id, "attempt": attempt, "host": host, "worker": worker}

    def _patience(self) -> float:
        """Seconds to wait for news: no longer than until the next worker is late."""
        limit, waited = self._timeout, [self._clock() - t.since for w, t in self._turns.items() if w not in self._late]
        return WAKING if limit is None else min([WAKING, *(max(0.0, limit - seconds) for seconds in waited)])

    def _kill_late(self) -> None:
        if self._timeout is None:
            return
        for worker, turn in self._turns.items():
            if worker not in self._late and self._clock() - turn.since >= self._timeout:
                self._late.add(worker)
                self._crew.kill(worker)

    # ------------------------------------------------------------ what workers say

    def _hear(self, message: Message) -> None:
        worker, payload = message.worker, message.payload
        match message.kind:
            case "ready":
                self._ready(worker, payload)
            case "row":
                self._row(worker, payload)
            case "event":
                kind, facts = payload
                self._record(kind, **facts)
            case "done":
                left = self._turns.pop(worker).job.works
                assert not left, f"a bench left {[w.id for w in left]} without a last row"
                self._free(worker)
            case "full":
                self._full(worker, payload)
            case "error":
                self._error(worker, payload)
            case "died":
                self._died(worker, payload)

    def _ready(self, worker: int, notes: Sequence[str]) -> None:
        del self._unopened[worker]
        if not self._heard_notes:
            self._note(notes)
            self._heard_notes = True
        self._idle.append(worker)

    def _note(self, notes: Sequence[str]) -> None:
        for note in notes:
            self._record("note", text=note)

    def _row(self, worker: int, row: Evaluation) -> None:
        turn, now = self._turns[worker], self._clock()
        work = next(w for w in turn.job.works if (w.phase, w.id) == (row.phase, row.id))
        self._record("done", **self._place(work, worker), rung=row.rung, seconds=now - turn.since)
        self._turns[worker] = Turn(turn.job.after(row), now)
        self._rows.append(row)

    def _free(self, worker: int) -> None:
        if worker not in self._late:
            self._idle.append(worker)

    def _full(self, worker: int, why: str) -> None:
        job = self._turns.pop(worker).job
        self._free(worker)
        for work in job.works:
            self._record("retry", **self._place(work, worker), error=why)
        if job.shrink >= 2**self._retries:
            self._trouble = self._trouble or failures.out_of_memory(job, self._retries)
        else:
            self._again.append(replace(job, shrink=2 * job.shrink))

    def _error(self, worker: int, fault: Fault) -> None:
        """An error of the user's settings is raised as itself: no candidate could do better."""
        turn = self._turns.pop(worker, None)
        for work in turn.job.works if turn and not fault.error else ():
            self._record("failed", **self._place(work, worker), error=fault.text, traceback=fault.traceback)
        self._trouble = self._trouble or fault.error or failures.broken(fault)

    def _died(self, worker: int, why: str | None) -> None:
        late, turn = worker in self._late, self._turns.pop(worker, None)
        self._late.discard(worker)
        if turn:
            for work in turn.job.works:
                self._strike(work, worker, turn.job, why or "for no known reason", late)
        elif worker in self._idle:
            self._idle.remove(worker)
        elif not late:
            self._could_not_open(worker, why or "for no known reason")

    def _strike(self, work: Work, worker: int, job: Job, why: str, late: bool) -> None:
        self._deaths[_key(work)] += 1
        strikes = self._deaths[_key(work)]
        reason = f"no answer within {self._timeout:g} s" if late else why
        self._record("died", **self._place(work, worker), reason=reason, strikes=strikes)
        if strikes >= self._strikes and len(job.works) == 1:
            size = getattr(getattr(self._evaluator, "backend", None), "batch_size", None)
            code = "timeout" if late else "worker_died"
            self._rows.append(failures.given_up(work, code, size and max(1, size // job.shrink)))
        else:
            self._again.append(Job((work,), job.shrink))

    def _could_not_open(self, worker: int, why: str) -> None:
        """While others serve, it is tried for ever, with pauses: its device may come back."""
        self._unopened[worker] += 1
        if self._unopened[worker] >= OPENINGS and not self._idle and not self._turns:
            self._trouble = self._trouble or failures.unopened(self._unopened[worker], why)
        elif self._unopened[worker] == OPENINGS:
            self._note([f"worker {worker} on {self._crew.host(worker)} cannot be opened: {why}. The others go on."])


def _key(work: Work) -> Key:
    return work.phase, work.id, work.rung


def _check(retries: int, strikes: int, timeout: float | None) -> None:
    for name, value, least in (("retries", retries, 0), ("strikes", strikes, 1)):
        if value < least:
            raise ConfigError(f"executor.{name} is {value}; wanted {least} or more.")
    if timeout is not None and not timeout > 0:
        raise ConfigError(f"executor.timeout is {timeout}; wanted seconds above 0, or null for any.")
