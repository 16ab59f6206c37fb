"""Discrete-event simulation of a search over many workers: what barrier and told order leave idle."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Policy:
    """How many candidates may be asked and not yet told (`lag`), and what has to be done before some are told.

    "generational": all `lag` of them, and then at once. "in order": the oldest, so that a straggler holds up those
    that were asked after it. "free": any, in the order in which they finish, which no replay could repeat.
    """

    rule: Literal["generational", "in order", "free"]
    lag: int

    def told(self, finished: int, prefix: int) -> int:
        """Candidates told so far. finished: of all asked; prefix: finished with everyone asked before them."""
        if self.rule == "generational":
            return finished // self.lag * self.lag
        return prefix if self.rule == "in order" else finished


@dataclass(frozen=True)
class Costs:
    """Seconds beside evaluating.

    handover: of a candidate between driver and worker, who waits for it. result and tell: of the driver for each
    candidate that came back and for each that is told; it does one thing after another.
    """

    handover: float = 0.0
    result: float = 0.0
    tell: float = 0.0


@dataclass(frozen=True)
class Deaths:
    """Workers die at a constant rate while they evaluate; the candidate starts anew on whoever is free next."""

    mean_between: float  # seconds of evaluating
    restart: float  # seconds until the worker serves again
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """Of `seconds` on all workers: those spent on evaluating, and on evaluations that died; candidates finished."""

    workers: int
    seconds: float
    busy: float
    lost: float
    finished: int

    @property
    def candidates_per_minute(self) -> float:
        return 60 * self.finished / self.seconds

    @property
    def idle_share(self) -> float:
        """Evaluations that died count as work here."""
        return 1 - (self.busy + self.lost) / (self.workers * self.seconds)

    @property
    def lost_share(self) -> float:
        return self.lost / (self.workers * self.seconds)


def simulate(
    policy: Policy,
    workers: int,
    seconds: Callable[[int], float],
    *,
    span: float,
    costs: Costs | None = None,
    deaths: Deaths | None = None,
) -> Outcome:
    """A search of `span` seconds, counted from when the workers are up. seconds: of evaluating candidate k.

    The driver gives the next candidate to a free worker, the one that waited longest first; nothing is sent ahead.
    """
    return _Course(policy, workers, seconds, span, costs or Costs(), deaths).run()


class _Course:
    """The state between two events: who is free, what waits, and what the driver has seen."""

    def __init__(
        self,
        policy: Policy,
        workers: int,
        seconds: Callable[[int], float],
        span: float,
        costs: Costs,
        deaths: Deaths | None,
    ):
        self._policy, self._workers, self._seconds, self._costs, self._deaths = policy, workers, seconds, costs, deaths
        self._span = span
        self._rng = np.random.default_rng(deaths.seed) if deaths else None
        self._clock = 0.0  # when the driver is done with what it has seen
        self._events: list[tuple[float, int, int, int | None]] = []  # time, number, worker, candidate (None: worker up)
        self._number = 0
        self._free: deque[int] = deque()
        self._waiting: deque[int] = deque()
        self._asked = self._finished = self._prefix = self._told = 0
        self._ahead: set[int] = set()  # finished before someone older
        self._died: set[int] = set()  # numbers of events that end in death
        self._busy = self._lost = 0.0

    def run(self) -> Outcome:
        for worker in range(self._workers):
            self._push(0.0, worker, None)
        self._ask()
        while self._events and max(self._clock, self._events[0][0]) <= self._span:
            self._take(*heappop(self._events))
            while self._free and self._waiting:
                self._start(self._free.popleft(), self._waiting.popleft())
        return Outcome(self._workers, self._span, self._busy, self._lost, self._finished)

    # ------------------------------------------------------------ events

    def _push(self, time: float, worker: int, candidate: int | None) -> int:
        self._number += 1  # of equal times, the event that was foreseen first
        heappush(self._events, (time, self._number, worker, candidate))
        return self._number

    def _take(self, time: float, number: int, worker: int, candidate: int | None) -> None:
        self._clock = max(self._clock, time)
        if number in self._died and self._deaths and candidate is not None:
            self._waiting.appendleft(candidate)
            self._push(time + self._deaths.restart, worker, None)
            return
        self._free.append(worker)
        if candidate is not None:
            self._count(candidate)

    def _start(self, worker: int, candidate: int) -> None:
        begin, wanted = self._clock + self._costs.handover, self._seconds(candidate)
        left = self._rng.exponential(self._deaths.mean_between) if self._rng and self._deaths else np.inf
        end = begin + min(wanted, left)
        number = self._push(end, worker, candidate)
        spent = min(end, self._span) - min(begin, self._span)
        if left < wanted:
            self._died.add(number)
            self._lost += spent
        else:
            self._busy += spent

    # ------------------------------------------------------------ the driver

    def _count(self, candidate: int) -> None:
        self._clock += self._costs.result
        self._finished += 1
        self._ahead.add(candidate)
        while self._prefix in self._ahead:
            self._ahead.remove(self._prefix)
            self._prefix += 1
        self._ask()

    def _ask(self) -> None:
        told = self._policy.told(self._finished, self._prefix)
        self._clock += self._costs.tell * (told - self._told)
        self._told = told
        if self._policy.rule != "generational" or told == self._asked:
            self._waiting.extend(range(self._asked, told + self._policy.lag))
            self._asked = told + self._policy.lag
