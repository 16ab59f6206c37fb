"""A place in a crew of Ray actors: its actor, and what that has been asked."""

from __future__ import annotations

import re
from collections import deque
from typing import Any

from evomerge.executors.jobs import Job
from evomerge.executors.ray_actor import Place

ALIVE = 10.0  # seconds for an idle actor to answer; it takes a millisecond


class Seat:
    """Its actors follow each other: each incarnation is an actor of its own, which Ray never restarts, so that an
    answer cannot come from anyone but who was asked.

    calls: what is to be answered, oldest first, as (purpose, Ray's reference). place: None while there is none.
    """

    def __init__(self, ray: Any, actors: Any):
        self._ray, self._actors = ray, actors
        self.actor: Any = None
        self.place: Place | None = None
        self.calls = deque[tuple[str, Any]]()

    def open(self) -> None:
        self.actor, self.place = self._actors.remote(), None
        self.calls.append(("greet", self.actor.greet.remote()))

    def silence(self) -> str:
        """Why its idle actor does not answer; "" if it does."""
        try:
            self._ray.get(self.actor.pulse.remote(), timeout=ALIVE)
        except self._ray.exceptions.RayError as e:
            return last_words(str(e), self.place)
        return ""

    def give(self, job: Job) -> None:
        """All rungs are asked for at once, so that the actor never waits for a driver that is busy."""
        rungs = sum(len(work.rungs) - len(work.answered) for work in job.works)
        self.calls.append(("begin", self.actor.begin.remote(job)))
        self.calls.extend(("proceed", self.actor.proceed.remote()) for _ in range(rungs))

    def end(self) -> None:
        """End the actor, if there is one; what it was asked is forgotten."""
        if self.actor is not None:
            self._ray.kill(self.actor)
        self.actor = None
        self.calls.clear()


def last_words(text: str, place: Place | None) -> str:
    """What Ray knows of an actor's end, in one line, and where more is to be read."""
    told = re.search(r"Worker exit type: (\w+) Worker exit detail: (.*?)(?: Some common causes|$)", text, re.DOTALL)
    why = f"{told[1]}: {told[2]}" if told else text.partition("\n")[0]
    return f"{why} (its stderr: {place.host}:{place.log})" if place and place.log else why
