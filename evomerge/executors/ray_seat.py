"""A place in a crew of Ray actors: its actor, and what that has been asked."""

from __future__ import annotations

import re
import time
from collections import deque
from typing import Any

from evomerge.executors.crew import pause
from evomerge.executors.jobs import Job
from evomerge.executors.ray_actor import Place

ALIVE = 10.0  # seconds for an idle actor to answer; it takes a millisecond


class Seat:
    """Its actors follow each other: each incarnation is an actor of its own, which Ray never restarts, so that an
    answer cannot come from anyone but who was asked.

    calls: what is to be answered, oldest first, as (purpose, Ray's reference). place: None while there is none.
    asked: when one was asked for. held: a job that was given to an actor already dead, for its successor.
    """

    def __init__(self, ray: Any, actors: Any):
        self._ray, self._actors = ray, actors
        self._failures = 0  # times in a row that an actor was lost before it was ready
        self.due: float | None = None  # when a successor is made
        self.held: Job | None = None
        self.open()

    def open(self) -> None:
        self.actor, self.due = self._actors.remote(), None
        self.place: Place | None = None
        self.asked, self.told_homeless = time.monotonic(), False
        self.calls: deque[tuple[str, Any]] = deque([("greet", self.actor.greet.remote())])

    def alive(self) -> bool:
        try:
            self._ray.get(self.actor.pulse.remote(), timeout=ALIVE)
        except self._ray.exceptions.RayError:
            return False
        return True

    def give(self, job: Job) -> None:
        """All rungs are asked for at once, so that the actor never waits for a driver that is busy."""
        rungs = sum(len(work.rungs) - len(work.answered) for work in job.works)
        self.calls.append(("begin", self.actor.begin.remote(job)))
        self.calls.extend(("proceed", self.actor.proceed.remote()) for _ in range(rungs))

    def ready(self) -> Job | None:
        """The job that was waiting for it."""
        self._failures = 0
        held, self.held = self.held, None
        return held

    def retire(self) -> None:
        """End the actor; a successor is made after a pause if it was never ready."""
        self.end()
        self.calls.clear()
        self.due = time.monotonic() + pause(self._failures)
        self._failures += 1

    def end(self) -> None:
        self._ray.kill(self.actor)

    def homeless(self, patience: float) -> bool:
        """Whether its actor has waited so many seconds for a place."""
        return self.due is None and self.place is None and time.monotonic() - self.asked > patience


def last_words(text: str, place: Place | None) -> str:
    """What Ray knows of an actor's end, in one line, and where more is to be read."""
    told = re.search(r"Worker exit type: (\w+) Worker exit detail: (.*?)(?: Some common causes|$)", text, re.DOTALL)
    why = f"{told[1]}: {told[2]}" if told else text.partition("\n")[0]
    return f"{why} (its stderr: {place.host}:{place.log})" if place and place.log else why
