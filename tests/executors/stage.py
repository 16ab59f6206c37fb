"""A crew without processes: what its workers say is written beforehand, and time passes only while nobody speaks."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from evomerge.executors.crew import Message
from evomerge.executors.jobs import Job
from evomerge.executors.limits import Limits
from evomerge.executors.pool import Pool
from evomerge.types import Evaluation, Work
from tests.sphere import items, recipe

Lines = Iterable[tuple[str, Any]]
HANGS = ("hangs", None)  # says nothing more until it is killed
SECONDS = 0.25  # that a rung takes, by its worker's own clock


def work(i: int | str, chunks: int = 1, phase: str = "search") -> Work:
    rungs = tuple(items(f"chunk{c}") for c in range(chunks)) if chunks > 1 else ()
    genome = (0.1,) if isinstance(i, int) else None
    return Work(i, phase, recipe((0.1, 0.2)), items("all"), genome, rung=chunks, chunks=rungs)


def rows(job: Job) -> Iterator[tuple[str, tuple[Evaluation, float]]]:
    """What a bench that works answers: the rungs that are left, work by work."""
    for one in job.works:
        for place in range(len(one.answered), len(one.rungs)):
            row = Evaluation(one.id, one.phase, one.recipe.digest, one.rungs[place], (), one.genome, one.rung + place)
            yield "row", (replace(row, last=place + 1 == len(one.rungs)), SECONDS)


def served(job: Job) -> Lines:
    return [*rows(job), ("done", None)]


class Stage:
    """Workers that answer each job with the lines of `act(worker, job)`, and each opening with those of `opens`."""

    def __init__(
        self,
        size: int = 2,
        act: Callable[[int, Job], Lines] = lambda worker, job: served(job),
        opens: Iterable[tuple[str, Any]] = (),
        seed: int = 0,
    ):
        self.size, self._act, self._opens, self._rng = size, act, iter(opens), random.Random(seed)
        self.now, self.log, self.started, self.closed = 0.0, [], 0, 0
        self._said: dict[int, deque[tuple[str, Any]]] = defaultdict(deque)
        self._ready: set[int] = set()
        self.dead: set[int] = set()  # while idle, and nobody has noticed

    def check(self, evaluator: Any) -> None:
        self.log.append(("check", evaluator))

    def start(self, evaluator: Any) -> None:
        self.started += 1

    def open(self, worker: int) -> None:
        assert worker not in self._ready and not self._said[worker], "only who is not there is opened"
        self.log.append(("open", worker, self.now))
        self._said[worker].append(next(self._opens, ("ready", ("a note",))))

    def opening(self, worker: int) -> str:
        return "on its way"

    def host(self, worker: int) -> str:
        return f"host{worker}"

    def alive(self, worker: int) -> bool:
        if worker in self.dead:
            self._ready.remove(worker)
            self._said[worker].append(("died", "died while idle"))
            self.dead.remove(worker)
            return False
        return True

    def send(self, worker: int, job: Job) -> None:
        assert worker in self._ready, "only who is ready and idle may be sent a job"
        self._ready.remove(worker)
        self.log.append(("send", worker, tuple(w.id for w in job.works), job.shrink))
        self._said[worker].extend(self._act(worker, job))

    def wait(self, seconds: float) -> list[Message]:
        speakers = [w for w, lines in self._said.items() if lines and lines[0] != HANGS]
        if not speakers:
            assert self.now < 10_000, "nobody will ever speak again"
            self.now += seconds
            return []
        worker = self._rng.choice(speakers)
        kind, payload = self._said[worker].popleft()
        self._after(worker, kind)
        return [Message(worker, kind, payload)]

    def kill(self, worker: int) -> None:
        self.log.append(("kill", worker))
        self._said[worker] = deque([("died", "ended by SIGKILL")])

    def close(self) -> None:
        self.closed += 1
        self._said.clear()
        self._ready.clear()

    def _after(self, worker: int, kind: str) -> None:
        if kind in ("ready", "done", "full", "error"):
            self._ready.add(worker)
        if kind == "died":
            self._ready.discard(worker)
            self._said[worker].clear()


def pool(stage: Stage, evaluator: Any = None, **settings: Any) -> Pool:
    """A pool over the stage that records into its log, started."""
    made = Pool(stage, Limits(**settings), clock=lambda: stage.now)
    made.start(evaluator or object(), lambda kind, **facts: stage.log.append((kind, facts)))
    return made


def finish(made: Pool, works: Iterable[Work]) -> list[Evaluation]:
    """All rows of these works, as they come."""
    made.submit(list(works))
    back: list[Evaluation] = []
    while True:
        try:
            back.append(made.next())
        except IndexError:
            return back


def facts(stage: Stage, kind: str) -> list[dict[str, Any]]:
    return [entry[1] for entry in stage.log if entry[0] == kind]
